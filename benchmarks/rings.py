"""Where contenders meet: the images that one program is run from, and nothing left afterwards."""

from __future__ import annotations

import contextlib
import io
import secrets
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks.contenders.contender import Ring
from benchmarks.subjects import Subject
from runner.engine import OWN_LABEL, Engine
from runner.images import ImageStore
from runner.programs import find

LABEL: Final = f"{OWN_LABEL}.benchmark"
DOCKERFILE: Final = Path(__file__).parent / "rivals" / "Dockerfile"


@contextlib.contextmanager
def ring(engine: Engine, subject: Subject) -> Iterator[Ring]:
    """Build the images of a subject, and take away afterwards what was made of them."""
    program = find(subject.program)
    store = ImageStore(engine, progress=print)
    image = store.program(program.files, program.name, program.pins).id
    mark = secrets.token_hex(6)
    labels = {LABEL: mark}
    tag = f"qiskit-program-runner-benchmark:{mark}"
    try:
        rivals_image = _derived(engine, image, tag, labels)
        yield Ring(engine, subject, image, rivals_image, labels)
    finally:
        for container in engine.containers(f"{LABEL}={mark}"):
            engine.remove(container)
        _remove(engine, tag)


def _derived(engine: Engine, image: str, tag: str, labels: dict[str, str]) -> str:
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        archive.add(DOCKERFILE, arcname="Dockerfile")
    context.seek(0)
    arguments = {"PROGRAM_IMAGE": image}
    for _line in engine.build(
        context, dockerfile="Dockerfile", tag=tag, arguments=arguments, labels=labels
    ):
        pass
    found = engine.image_id(tag)
    assert found is not None
    return found


def _remove(engine: Engine, tag: str) -> None:
    """Remove the image; the engine refuses while it is still busy with what was made of it."""
    deadline = time.monotonic() + 10
    while engine.image_id(tag) is not None and time.monotonic() < deadline:
        engine.remove_image(tag)
        time.sleep(0.2)
