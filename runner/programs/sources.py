"""Source archives of packages that have no wheel: found by pip, fetched here, never opened here.

Looking into one, building it and everything else that could run its code is a sandbox's work
(`runner.cli.lock`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import unquote, urlsplit

import requests
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from runner.errors import ImageError, ManifestError
from runner.host import files
from runner.host.commands import Command
from runner.programs import wheels

MAX_BYTES: Final = 40 << 20
"""The largest archive: it reaches the sandbox as an input."""

_ASKING_S: Final = 60.0
_SILENCE_S: Final = 30.0
_LINK: Final = re.compile(r"^\s*Found link (\S+?),?(?: \(.*\),)? version: (\S+)$", re.MULTILINE)
_ENDINGS: Final = (".tar.gz", ".tgz", ".zip")
_WHEEL: Final = re.compile(r"(?P<name>[A-Za-z0-9._]+)-[A-Za-z0-9._+!-]+-none-any\.whl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """The source archive of one package: the name of its file, and its content."""

    package: str
    file: str
    content: bytes


def fetch(package: str) -> Archive:
    """Return the archive of a package's newest release, from where pip is set to look.

    Raises ManifestError if there is none, ImageError if it cannot be had.
    """
    command = wheels.pip("index", "--verbose", "--verbose", "versions", package)
    with Command(command) as child:
        heard: list[str] = []
        child.finish(
            f"asking for {package}",
            timeout_s=_ASKING_S,
            hear=heard.append,
            blame=wheels.speaks_of_the_packages,
        )
    found = {}
    for link, version in _LINK.findall("".join(heard)):
        if urlsplit(link).path.endswith(_ENDINGS):
            try:
                found[Version(version)] = link
            except InvalidVersion:
                continue
    releases = [each for each in found if not each.is_prerelease] or [*found]
    if not releases:
        msg = f"{package}: no source archive ({', '.join(_ENDINGS)}) is in the index"
        raise ManifestError(msg)
    link = found[max(releases)]
    name = PurePosixPath(unquote(urlsplit(link).path)).name
    return Archive(package=package, file=name, content=_content(link.partition("#")[0]))


def check_wheel(file: str, package: str) -> None:
    """Raise ManifestError unless this is the name of a wheel of the package, for all machines."""
    match = _WHEEL.fullmatch(file)
    if match is None or canonicalize_name(match["name"]) != canonicalize_name(package):
        msg = (
            f"{package} was built as {file!r:.100}, which is no wheel of it for every machine: a "
            "package with compiled parts needs wheels from its authors"
        )
        raise ManifestError(msg)


def _content(link: str) -> bytes:
    """Return what is at an address, or in a file of this host."""
    try:
        if urlsplit(link).scheme == "file":
            return files.read(Path(unquote(urlsplit(link).path)), most_bytes=MAX_BYTES, follow=True)
        content = bytearray()
        with requests.get(link, stream=True, timeout=_SILENCE_S) as answer:
            answer.raise_for_status()
            for piece in answer.iter_content(1 << 20):
                content += piece
                if len(content) > MAX_BYTES:
                    msg = f"{link}: larger than {MAX_BYTES} bytes"
                    raise ManifestError(msg)
    except (requests.RequestException, OSError) as error:
        msg = f"{link}: cannot be fetched: {error}"
        raise ImageError(msg) from error
    return bytes(content)
