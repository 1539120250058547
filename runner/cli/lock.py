"""`qrunner lock`: pin what a program needs beyond the stack, and build what has no wheel.

A package that is there as source only is built with `--build`, in a sandbox: what runs then is its
own code, without a network, rights or a way to anything but the wheel that comes back.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from runner.cli.common import say

if TYPE_CHECKING:
    from runner.programs.sources import Archive
    from runner.supervisor import Supervisor

MAX_BUILT: Final = 10
"""How many packages of one program are built."""

_MAX_ROUNDS: Final = 3
"""How often a build may ask for more packages."""

_BUILDER: Final = b"""
import importlib, io, os, sys, tarfile, tomllib, zipfile


def main(backend, user_messenger, archive, file, needs):
    os.makedirs("/tmp/source")
    os.chdir("/tmp/source")
    if file.endswith(".zip"):
        zipfile.ZipFile(io.BytesIO(archive)).extractall()
    else:
        tarfile.open(fileobj=io.BytesIO(archive)).extractall()
    (top,) = os.listdir()
    os.chdir(top)
    system = {}
    if os.path.exists("pyproject.toml"):
        with open("pyproject.toml", "rb") as opened:
            system = tomllib.load(opened).get("build-system", {})
    wanted = list(system.get("requires", ["setuptools"]))
    if needs is None:
        return wanted
    sys.path[:0] = [os.path.abspath(each) for each in system.get("backend-path", [])] or ["."]
    module, _, path = system.get("build-backend", "setuptools.build_meta:__legacy__").partition(":")
    backend = importlib.import_module(module)
    for each in filter(None, path.split(".")):
        backend = getattr(backend, each)
    wanted += getattr(backend, "get_requires_for_build_wheel", lambda: [])()
    if set(wanted) - set(needs):
        return wanted
    os.makedirs("/tmp/wheel")
    name = backend.build_wheel("/tmp/wheel")
    with open(os.path.join("/tmp/wheel", name), "rb") as built:
        return {"file": name, "content": built.read()}
"""


@click.command(short_help="Pin the packages that PROGRAM needs, with hashes.")
@click.argument("program", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--build",
    "builds",
    is_flag=True,
    help="Build packages without wheels in a sandbox, into PROGRAM/wheels.",
)
def lock(program: Path, builds: bool) -> int:  # noqa: FBT001  click passes options so
    """Pin the requirements of PROGRAM, a directory, beyond the stack, with hashes."""
    from runner import programs
    from runner.errors import SourceOnlyError

    for _ in range(MAX_BUILT + 1):
        try:
            click.echo(f"wrote {programs.lock(program, say)}")
        except SourceOnlyError as error:
            if not builds:
                raise
            for package in error.packages:
                _build(package, program)
        else:
            return 0
    msg = f"more than {MAX_BUILT} packages would have to be built: ask for others"
    raise click.UsageError(msg)


def _build(package: str, program: Path) -> None:
    """Build a package in a sandbox, and put its wheel beside the program's files."""
    from runner import programs
    from runner.cli.common import settings, supervisor
    from runner.programs import sources

    say(f"fetching the source of {package} …")
    archive = sources.fetch(package)
    with supervisor(settings({})) as running:
        say(f"building {archive.file} in a sandbox …")
        file, content = _built(running, archive)
    say(f"built {programs.add_wheel(program, file, content)}")


def _built(running: Supervisor, archive: Archive) -> tuple[str, bytes]:
    """Return name and content of the wheel that the archive becomes.

    Raises ManifestError with the reason if it becomes none.
    """
    from runner.errors import JobFailedError, ManifestError
    from runner.programs import Program, requirements_of, sources
    from runner.programs.manifest import Manifest

    needs: list[str] | None = None
    for _ in range(_MAX_ROUNDS):
        builder = Program(
            name="builder",
            path=Path("builder"),
            manifest=Manifest(name="builder"),
            files={"program.py": _BUILDER},
            signature=None,
            pins=tuple(requirements_of(needs or [], f"the build of {archive.file}", say)),
        )
        inputs = {"archive": archive.content, "file": archive.file, "needs": needs}
        try:
            answer = running.run(builder, inputs, backend="none").result()
        except JobFailedError as error:
            msg = f"{archive.file} cannot be built in a sandbox: {error}"
            raise ManifestError(msg) from error
        match answer:
            case {"file": str(file), "content": bytes(content)}:
                sources.check_wheel(file, archive.package)
                return file, content
            case list() if all(isinstance(each, str) for each in answer):
                needs = answer
            case _:
                break
    msg = f"{archive.file} does not say what it needs to be built"
    raise ManifestError(msg)
