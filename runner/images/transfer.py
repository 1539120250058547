"""The transfer of base images to machines that do not build them: what is missing, save, load."""

from __future__ import annotations

from pathlib import Path

from runner.engine import Engine
from runner.errors import ImageError
from runner.images.layers import ImageStore


def missing_base(engine: Engine) -> str | None:
    """Return the tag that must be built or loaded before a program can run; None if it exists."""
    store = ImageStore(engine)
    enough = (store.guest_tag, store.stack_tag)
    return None if any(engine.image_id(each) for each in enough) else store.stack_tag


def save_base(engine: Engine, path: Path) -> None:
    """Write the guest image, which must exist, as an archive for `load_base`.

    Raises ImageError, EngineError.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            for piece in engine.save(ImageStore(engine).guest_tag):
                file.write(piece)
        part.replace(path)
    except OSError as error:
        msg = f"{path} cannot be written: {error.strerror}"
        raise ImageError(msg) from error
    finally:
        part.unlink(missing_ok=True)


def load_base(engine: Engine, path: Path) -> str:
    """Load the archive that `save_base` wrote, and return its tag.

    Raises ImageError if it belongs to another version, EngineError.
    """
    try:
        with path.open("rb") as file:
            engine.load(file)
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise ImageError(msg) from error
    tag = ImageStore(engine).guest_tag
    if engine.image_id(tag) is None:
        msg = (
            f"{path} does not hold {tag}, which this version of qiskit-program-runner needs: save "
            "it with the same version"
        )
        raise ImageError(msg)
    return tag
