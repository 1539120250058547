"""Python wheels for the sandbox, chosen and fetched on the host, never run here.

The sandbox's Python and platform differ from the host's, and no build has a network, so pip
resolves and downloads here, wheels only: neither a build script nor a package's code runs.  What
a program needs beyond the stack is pinned by name, version and hash in a lock file, which is read
strictly, because pip's own format could name any index, path or option.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import resource
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from packaging.utils import canonicalize_name

from runner.display import one_line
from runner.errors import ManifestError
from runner.host import bounded, commands
from runner.host.bounded import Bounds
from runner.host.commands import Command
from runner.host.files import listings

PYTHON_VERSION: Final = "3.11"
MACHINES: Final = ("x86_64", "aarch64")
MAX_PACKAGES: Final = 200
MAX_DOWNLOAD_BYTES: Final = 1 << 30
MAX_UNPACKED_BYTES: Final = 2 << 30
MAX_MEMBERS: Final = 100_000
MAX_PATH_CHARS: Final = 400
TIMEOUT_S: Final = 600.0
BUILT: Final = "wheels"
"""The directory of a program with wheels that were built for it (`qrunner lock --build`)."""

BUILT_PREFIX: Final = f"{BUILT}/"

_LIMITS: Final = {
    resource.RLIMIT_AS: 2 << 30,
    resource.RLIMIT_FSIZE: MAX_UNPACKED_BYTES,
    resource.RLIMIT_CORE: 0,
}
"""Of pip while it handles what a program asks for."""

_INSPECTION: Final = Bounds(cpu_s=20, wall_s=60.0, memory_bytes=1 << 30)
_NO_INDEX: Final = re.compile(
    r"^(?:ERROR: )?(?:HTTP error"
    r"|Could not install packages due to an OSError: HTTP|WARNING: Retrying"
    r"|(?:pip\._vendor\.)?(?:urllib3|requests)\.|.*No module named pip)|"
    + os.strerror(errno.ENOSPC),
    re.MULTILINE,
)
"""What pip says where an index does not answer, and this host has no room.

Everything else is about packages that it has: they can be broken in any way, and are the program's.
"""

_NOTHING_THERE: Final = re.compile(r"Could not find a version .*\(from versions: none\)")
"""What it says of a package that no index has: of one that a lock pins, the index is at fault."""

_GLIBC_MINORS: Final = range(5, 37)  # Debian 12 has glibc 2.36
_PIN: Final = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9.!+_-]+)")
_HASH: Final = re.compile(r"--hash=sha256:(?P<digest>[0-9a-f]{64})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """One package of a lock: its exact version and the hashes of the wheels that may be it."""

    name: str
    version: str
    hashes: tuple[str, ...]


def target_arguments(machine: str) -> list[str]:
    """Return pip's arguments that mean the sandbox's Python on a machine such as "x86_64"."""
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in _GLIBC_MINORS]
    legacy = [f"{name}_{machine}" for name in ("manylinux1", "manylinux2010", "manylinux2014")]
    return [
        *("--only-binary=:all:", "--implementation", "cp", "--python-version", PYTHON_VERSION),
        *(f"--abi={abi}" for abi in ("cp311", "abi3", "none")),
        *(f"--platform={each}" for each in (*platforms, *legacy, f"linux_{machine}")),
    ]


def download(
    locks: Sequence[Path],
    directory: Path,
    machine: str,
    limits: Mapping[int, int] | None = None,
    links: Path | None = None,
) -> Command:
    """Return the pip command, to be started with `with`, that fetches what the locks pin.

    What pip keeps for a while is in `directory` too: it leaves that behind when it is killed.
    `limits` are those of its process, `links` is a directory with further wheels.
    """
    return Command(
        [
            *_pip("download", "--no-deps", "--require-hashes", "--dest", str(directory)),
            *target_arguments(machine),
            *(() if links is None else ("--find-links", str(links))),
            *(argument for lock in locks for argument in ("-r", str(lock))),
        ],
        environment={**os.environ, "TMPDIR": str(directory)},
        limits=limits,
    )


def unpack(
    pins: Iterable[Pin],
    directory: Path,
    scratch: Path,
    machine: str,
    built: Mapping[str, bytes] | None = None,
) -> None:
    """Put the pinned packages into `directory`, unpacked; `scratch` takes the wheels.

    `built` are wheels that the program brings along, by the names of their files.

    Raises ImageError if one cannot be had, ManifestError for what speaks against the program: it
    has another hash, is no wheel that can be unpacked, leads elsewhere, or is too large.
    """
    lock, wheels = scratch / "extra.lock", scratch / "wheels"
    lock.write_text(lock_text(pins))
    wheels.mkdir()
    own = scratch / "built"
    own.mkdir()
    for name, content in (built or {}).items():
        (own / name).write_bytes(content)
    with download([lock], wheels, machine, _LIMITS, links=own) as command:
        command.finish(
            "fetching the program's own requirements",
            timeout_s=TIMEOUT_S,
            look=lambda: _check_size(wheels),
            blame=_speaks_of_pinned_packages,
        )
    _check_size(wheels)
    _check_content(wheels)
    install = _pip("install", "--no-deps", "--no-compile", "--no-index", "--require-hashes")
    arguments = ["--find-links", str(wheels), "--target", str(directory), "-r", str(lock)]
    with Command([*install, *target_arguments(machine), *arguments], limits=_LIMITS) as command:
        command.finish(
            "unpacking the program's own requirements",
            timeout_s=TIMEOUT_S,
            blame=_speaks_of_pinned_packages,
        )


def built_of(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the wheels that a program brings along, of its files."""
    return {
        path.removeprefix(BUILT_PREFIX): content
        for path, content in files.items()
        if path.startswith(BUILT_PREFIX) and path.endswith(".whl") and path.count("/") == 1
    }


def speaks_of_the_packages(words: str) -> bool:
    """Return whether what pip wrote is about the packages, not about an index or this host."""
    return _NO_INDEX.search(words) is None


def _speaks_of_pinned_packages(words: str) -> bool:
    return speaks_of_the_packages(words) and _NOTHING_THERE.search(words) is None


def _check_size(directory: Path) -> None:
    """Raise ManifestError if more has been fetched than a program may need."""
    fetched = 0
    for _, entries in listings(directory):
        for each in entries if isinstance(entries, list) else ():
            with contextlib.suppress(OSError):  # pip has removed it just now
                fetched += each.stat(follow_symlinks=False).st_size
    if fetched > MAX_DOWNLOAD_BYTES:
        msg = f"the program's requirements are {fetched} bytes, at most {MAX_DOWNLOAD_BYTES}"
        raise ManifestError(msg)


def _check_content(directory: Path) -> None:
    """Raise ManifestError for wheels that do not hold what they may.

    In a child: the list of contents alone can take many times the size of a wheel.
    """
    wheels = sorted(directory.glob("*.whl"))
    answers = bounded.ask(__name__, [json.dumps(str(each)) for each in wheels], _INSPECTION)
    mistakes = [each for each in answers if isinstance(each, str)]
    if len(answers) < len(wheels):
        late = wheels[len(answers)].name
        mistakes.append(f"{late}: looking into it takes more than {_INSPECTION}")
    if mistakes:
        msg = f"the program's requirements cannot be used: {one_line(mistakes[0]):.500}"
        raise ManifestError(msg)
    unpacked = sum(answers)
    if unpacked > MAX_UNPACKED_BYTES:
        msg = f"the program's requirements unpack to {unpacked} bytes, at most {MAX_UNPACKED_BYTES}"
        raise ManifestError(msg)


def _answers(paths: Iterator[str]) -> Iterator[str | int]:
    """Return of each wheel how many bytes it unpacks to, or what is wrong; runs in the child."""
    for each in paths:
        path = Path(each)
        try:
            with zipfile.ZipFile(path) as archive:
                members = archive.infolist()
        except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
            yield f"{path.name}: no wheel: {error}"
            continue
        odd = next((member.filename for member in members if not _is_inside(member.filename)), None)
        if odd is not None:
            yield f"{path.name}: holds {odd!r:.100}, which leads elsewhere or is too long"
        elif len(members) > MAX_MEMBERS:
            yield f"{path.name}: holds {len(members)} files, at most {MAX_MEMBERS}"
        else:
            yield sum(member.file_size for member in members)


def _is_inside(name: str) -> bool:
    """Return whether a path in a wheel stays in the directory that it is unpacked to."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return name.isprintable() and len(name) <= MAX_PATH_CHARS and not {"/", ".."} & {*parts}


def read_lock(text: str, source: str) -> list[Pin]:
    """Read a lock file: `name==version` and its sha256 hashes, nothing else.

    Raises ManifestError that names the line's content.
    """
    pins = []
    for line in text.replace("\\\n", " ").splitlines():
        words = line.partition(" #")[0].split()
        if not words or words[0].startswith("#"):
            continue
        pin = _PIN.fullmatch(words[0])
        hashes = [_HASH.fullmatch(word) for word in words[1:]]
        if pin is None or not hashes or not all(hashes):
            msg = f"{source}: {line.strip()!r:.120} is not name==version --hash=sha256:…"
            raise ManifestError(msg)
        digests = tuple(match["digest"] for match in hashes if match)
        pins.append(Pin(name=pin["name"], version=pin["version"], hashes=digests))
    if len(pins) > MAX_PACKAGES:
        msg = f"{source}: {len(pins)} packages, at most {MAX_PACKAGES}"
        raise ManifestError(msg)
    return pins


def digest(requirements: bytes) -> str:
    """Return the line by which a lock says which requirements it was made from."""
    return f"# locked from sha256:{hashlib.sha256(requirements).hexdigest()}"


def lock_text(pins: Iterable[Pin]) -> str:
    """Return the lock file of these pins."""
    return "".join(
        f"{pin.name}=={pin.version}"
        + "".join(f" \\\n    --hash=sha256:{digest}" for digest in pin.hashes)
        + "\n"
        for pin in sorted(pins, key=lambda pin: canonicalize_name(pin.name))
    )


def _pip(verb: str, *arguments: str) -> list[str]:
    return pip(verb, "--quiet", *arguments)


def pip(verb: str, *arguments: str) -> list[str]:
    """Return the command that runs this Python's pip without questions or version checks."""
    plain = ("--no-input", "--disable-pip-version-check", "--no-color")
    return commands.module("pip", verb, *plain, *arguments)


if __name__ == "__main__":
    bounded.serve(_answers)
