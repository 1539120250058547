"""Makes images: each digest once, by a build or as an archive, and leaves nothing behind.

`runner.images.layers` decides what an image contains.  This module writes build contexts and
archives that reveal nothing about this host, holds a lock for each digest, and removes intermediate
images.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from runner.engine import OWN_LABEL, Engine
from runner.errors import EngineError, ImageError
from runner.host import interrupt
from runner.images.archive import Addition, add_file
from runner.images.roots import Progress

REPOSITORY: Final = "qiskit-program-runner"
BUILD_LABEL: Final = f"{OWN_LABEL}.build"
KIND_LABEL: Final = f"{OWN_LABEL}.image"
LOCK_TIMEOUT_S: Final = 900.0
"""The longest wait for another build of the same image: as long as a build may take."""

_UNSET_BUILD: Final = f"{BUILD_LABEL}=unset".encode()
_LOCK_POLL_S: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One build.  `context` has the content of each file or, for large files, its path on disk."""

    kind: str
    tag: str
    digest: str
    dockerfile: bytes
    context: Mapping[str, bytes | Path]
    arguments: Mapping[str, str]
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """An image that only adds files to `parent`, an image id.  `files` are as in a `Recipe`."""

    kind: str
    tag: str
    digest: str
    parent: str
    files: Mapping[str, bytes | Path]
    labels: Mapping[str, str] = field(default_factory=dict)


class Builder:
    """Builds images on one engine; all builders of this user share the directory `locks`."""

    def __init__(self, engine: Engine, *, progress: Progress, locks: Path) -> None:
        self._engine = engine
        self._progress = progress
        self._locks = locks

    def ensure(self, tag: str, digest: str, build: Callable[[], None]) -> str:
        """Return the id of the image with this digest; call `build` if the engine has none."""
        if image := self._find(tag, digest):
            return image
        with self.locked(digest):
            # Another build may have made it during the wait.
            if image := self._find(tag, digest):
                return image
            try:
                build()
            finally:
                with contextlib.suppress(EngineError):  # the failure of the build matters more
                    self._remove_stages(digest)
            image = self._find(tag, digest)
        if image is None:
            msg = f"{tag} was built, but the engine does not know it afterwards"
            raise ImageError(msg)
        return image

    def _find(self, tag: str, digest: str) -> str | None:
        """Return the image's id, or None; compare its label too, as a tag has part of the hash."""
        found = self._engine.image(tag)
        return found.id if found and found.labels.get(BUILD_LABEL) == digest else None

    def run(self, recipe: Recipe) -> None:
        """Build one image.  Raises ImageError, with the step that failed and its output."""
        began = time.monotonic()
        self._progress(f"building {recipe.tag} …")
        build_label = f"{BUILD_LABEL}={recipe.digest}".encode()
        dockerfile = recipe.dockerfile.replace(_UNSET_BUILD, build_label)
        labels = {KIND_LABEL: recipe.kind, BUILD_LABEL: recipe.digest, **recipe.labels}
        with tempfile.TemporaryFile() as context:
            _write_context(context, {**recipe.context, "Dockerfile": dockerfile})
            context.seek(0)
            steps = self._engine.build(
                context,
                dockerfile="Dockerfile",
                tag=recipe.tag,
                arguments=recipe.arguments,
                labels=labels,
            )
            for _ in steps:
                pass  # the engine builds while its lines are read
        self._progress(f"built {recipe.tag} in {time.monotonic() - began:.1f} s")

    def load(self, layer: Layer) -> None:
        """Make an image without a build; ImageError if the engine does not take it."""
        began = time.monotonic()
        self._progress(f"building {layer.tag} …")
        parent = self._engine.image(layer.parent)
        if parent is None:
            msg = f"the image {layer.parent}, below {layer.tag}, was removed just now: try again"
            raise ImageError(msg)
        addition = Addition(
            parent=parent,
            files=layer.files,
            labels={**layer.labels, KIND_LABEL: layer.kind, BUILD_LABEL: layer.digest},
        )
        with tempfile.TemporaryFile() as archive:
            try:
                addition.write(archive, tag=layer.tag)
            except OSError as error:
                msg = f"{layer.tag} cannot be written to {tempfile.gettempdir()} ({error.strerror})"
                raise ImageError(msg) from error
            archive.seek(0)
            self._engine.load(archive)
        self._engine.date(layer.tag)
        self._progress(f"built {layer.tag} in {time.monotonic() - began:.1f} s")

    def remove_leftovers(self) -> None:
        """Remove what interrupted builds left, but nothing of a running build."""
        for build in {build for _, build in self._stages()}:
            with contextlib.suppress(ImageError), self.locked(build, timeout_s=0):
                self._remove_stages(build)

    def _stages(self) -> Iterator[tuple[str, str]]:
        """Yield id and build of our untagged images that no other image is built on."""
        for each in self._engine.images(dangling=True):
            if each["Labels"].get(KIND_LABEL) == "stage":
                yield str(each["Id"]), str(each["Labels"].get(BUILD_LABEL, ""))

    def _remove_stages(self, build: str) -> None:
        """Remove the intermediate images of a build, not their parents, which may be the user's."""
        tried: set[str] = set()
        while found := {image for image, each in self._stages() if each == build} - tried:
            tried |= found
            for image in found:
                self._engine.remove_image(image, keep_parents=True)

    @contextlib.contextmanager
    def locked(self, digest: str, *, timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[None]:
        """Hold the lock of one build, which excludes all other threads and processes of this user.

        Raises ImageError if it is not free within `timeout_s`.
        """
        path = self._locks / f"{digest[:24]}.lock"
        try:
            descriptor = self._wait_for(path, timeout_s)
        except OSError as error:
            msg = f"cannot lock {path} ({error.strerror}): set XDG_CACHE_HOME to a writable place"
            raise ImageError(msg) from error
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # while it is still locked: see _try_lock
            os.close(descriptor)

    def _wait_for(self, path: Path, timeout_s: float) -> int:
        deadline = time.monotonic() + timeout_s
        said = False
        self._locks.mkdir(mode=0o700, parents=True, exist_ok=True)
        while (descriptor := _try_lock(path)) is None:
            if time.monotonic() >= deadline:
                msg = f"somebody else has been building the same image for {timeout_s:g} s ({path})"
                raise ImageError(msg)
            if not said and timeout_s:
                self._progress("waiting for somebody else who builds the same image …")
                said = True
            interrupt.check()
            time.sleep(_LOCK_POLL_S)
        return descriptor


def tag_of(repository: str, digest: str) -> str:
    """Return our tag for a digest: a short form for people; `Builder.ensure` compares the whole."""
    return f"{REPOSITORY}/{repository}:{digest[:12]}"


def digest_of(parent: str, files: Mapping[str, bytes]) -> str:
    """Return a hash of the files' names and contents and of their parent's digest."""
    total = hashlib.sha256()
    for part in (parent.encode(), *(each.encode() for each in sorted(files))):
        total.update(len(part).to_bytes(8, "big") + part)
    for _, content in sorted(files.items()):
        total.update(len(content).to_bytes(8, "big"))
        total.update(content)
    return total.hexdigest()


def _try_lock(path: Path) -> int | None:
    """Return a descriptor that holds the lock, None if another build holds it.

    The holder removes the file before it releases the lock, so a lock is valid only if the locked
    file is still the one at `path`.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    is_held = False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_held = os.path.samestat(os.fstat(descriptor), path.stat())
    except (BlockingIOError, FileNotFoundError):
        pass
    finally:
        if not is_held:
            os.close(descriptor)
    return descriptor if is_held else None


def _write_context(archive: IO[bytes], files: Mapping[str, bytes | Path]) -> None:
    """Write a build context whose owners, modes and times reveal nothing about this host."""
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, content in sorted(files.items()):
            add_file(tar, name, content)
