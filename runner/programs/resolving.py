"""Versions of what a program requires, chosen by pip to go with the stack, for every machine.

pip only chooses: wheels' metadata is read, nothing is built or run.  Where nothing fits, what is
asked next is why, because pip names neither the pins of the stack that are in the way nor the
packages that have no wheel.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from runner.errors import ImageError, ManifestError, SourceOnlyError
from runner.host.commands import Command
from runner.programs import wheels
from runner.programs.wheels import Pin

MAX_SEARCH_S: Final = 30.0
"""How long pip may try older versions, once the newest do not fit."""

_EXPLAINING_S: Final = 60.0
_PYTHON: Final = {"python_version": wheels.PYTHON_VERSION, "sys_platform": "linux"}
_LOOKS_AT: Final = re.compile(
    r"^(?:Collecting|Processing) (?:\S*/)?([A-Za-z0-9._-]+?)(?:-\d\S*|[^A-Za-z0-9._-]\S*)?(?: |$)",
    re.MULTILINE,
)
_SEARCHES: Final = "pip is looking at multiple versions of"
_NOT_THERE: Final = re.compile(
    r"requirement (\S+?)[<>=!~;\[ ].*\(from versions: none\)"
    r"|no matching distributions available for your environment:\n((?:[ ]+\S+\n)+)"
)


class _NothingFitsError(ManifestError):
    """pip found no versions; `words` is all that it wrote."""

    def __init__(self, reason: str, words: str) -> None:
        super().__init__(reason)
        self.words = words


def resolve(
    requirements: str,
    source: str,
    stack: Sequence[Pin],
    progress: Callable[[str], object],
    built: Path | None = None,
) -> list[Pin]:
    """Choose versions for a program's requirements, to go with the stack, for every machine.

    Only plain requirements are read (a name, extras, versions, markers).  Packages of the stack
    are left out, at their versions.  `progress` is told what pip looks at; `built` is a directory
    of further wheels.  Raises ManifestError for another line and where no versions fit, with the
    reason (SourceOnlyError where wheels are missing), ImageError where no index answers.
    """
    wanted = [_plain(line, source) for line in requirements.splitlines()]
    lines = [line for line in wanted if line]
    found: dict[str, dict[str, set[str]]] = {}
    for machine in wheels.MACHINES:
        links = [] if built is None else ["--find-links", str(built)]
        for each in _chosen(machine, lines, source, stack, progress, links):
            versions = found.setdefault(str(each["metadata"]["name"]), {})
            digest = str(each["download_info"]["archive_info"]["hashes"]["sha256"])
            versions.setdefault(str(each["metadata"]["version"]), set()).add(digest)
    in_stack = {canonicalize_name(pin.name) for pin in stack}
    return [
        Pin(name=name, version=version, hashes=tuple(sorted(hashes)))
        for name, versions in found.items()
        for version, hashes in versions.items()
        if canonicalize_name(name) not in in_stack
    ]


def _plain(line: str, source: str) -> str:
    text = line.partition("#")[0].strip()
    if not text:
        return ""
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        msg = f"{source}: {text!r:.120} is not a requirement such as numpy>=2"
        raise ManifestError(msg) from None
    if requirement.url:
        msg = f"{source}: {text!r:.120} names an address; only packages of an index can be locked"
        raise ManifestError(msg)
    return str(requirement)


def _chosen(
    machine: str,
    lines: Sequence[str],
    source: str,
    stack: Sequence[Pin],
    progress: Callable[[str], object],
    links: Sequence[str],
) -> list[Mapping[str, Any]]:
    """Return pip's report of what it would install, or ManifestError with the reason."""
    # The stack's own pins are wanted too, so that everything is chosen to go with them.
    pinned = [f"{pin.name}=={pin.version}" for pin in stack]
    names = {canonicalize_name(pin.name) for pin in stack}

    def looks_at(name: str) -> None:
        if canonicalize_name(name) not in names:
            progress(f"  for {machine}: {name}")

    try:
        return _report(machine, [*links, *lines, *pinned], looks_at)
    except _NothingFitsError as error:
        absent = _absent(machine, error.words)
        if sources := tuple(name for name, (is_source, _) in absent.items() if is_source):
            said = "; ".join(words for _, words in absent.values())
            msg = f"{source}: on {machine} {said}: `qrunner lock --build` builds it in a sandbox"
            raise SourceOnlyError(msg, sources) from error
        words = "; ".join(words for _, words in absent.values())
        if reason := words or _conflicts(machine, lines, stack):
            change = "ask for other versions or packages, then lock again"
            msg = f"{source}: on {machine} {reason}: {change} (docs/dependencies.md)"
            raise ManifestError(msg) from error
        msg = f"{source}: {error}"
        raise ManifestError(msg) from error


def _report(
    machine: str, wanted: Sequence[str], looks_at: Callable[[str], object]
) -> list[Mapping[str, Any]]:
    """Return what pip would install; it tells `looks_at` the name of each package it considers."""
    search_ends: float | None = None

    def hear(lines: str) -> None:
        nonlocal search_ends
        if _SEARCHES in lines and search_ends is None:
            search_ends = time.monotonic() + MAX_SEARCH_S
        for name in dict.fromkeys(_LOOKS_AT.findall(lines)):
            looks_at(name)

    def look() -> None:
        if search_ends is not None and time.monotonic() > search_ends:
            msg = f"no versions that fit were found in {MAX_SEARCH_S:g} s of trying older ones"
            raise ManifestError(msg)

    with TemporaryDirectory(prefix="qrunner-lock-") as directory:
        report = Path(directory) / "report.json"
        command = wheels.pip(
            *("install", "--dry-run", "--ignore-installed", "--progress-bar", "off"),
            *("--report", str(report), "--target", str(Path(directory) / "nowhere")),
            *wheels.target_arguments(machine),
        )
        with Command([*command, *wanted]) as child:
            try:
                child.finish(
                    "resolving the program's requirements",
                    timeout_s=wheels.TIMEOUT_S,
                    look=look,
                    hear=hear,
                    blame=wheels.speaks_of_the_packages,
                )
            except ManifestError as error:
                raise _NothingFitsError(str(error), child.words()) from error
        return list(json.loads(report.read_bytes())["install"])


# --- why nothing fits ---------------------------------------------------------------------------


def _absent(machine: str, words: str) -> dict[str, tuple[bool, str]]:
    """Return why packages that pip found nothing of have no wheel, and if their source is there."""
    names = {name for one, more in _NOT_THERE.findall(words) for name in [one, *more.split()]}
    found = {}
    for name in sorted(names - {""}):
        if _is_there(name, *wheels.target_arguments(machine)):
            continue
        if _is_there(name):
            what = f"a wheel for Python {wheels.PYTHON_VERSION} on Linux {machine}"
            found[name] = (True, f"{name} is there as source only, without {what}")
        else:
            found[name] = (False, f"there is no package {name} in the index")
    return found


def _is_there(name: str, *arguments: str) -> bool:
    with Command(wheels.pip("index", "--quiet", "versions", *arguments, name)) as child:
        try:
            child.finish(f"asking for {name}", timeout_s=_EXPLAINING_S)
        except ImageError:
            return False
    return True


def _conflicts(machine: str, lines: Sequence[str], stack: Sequence[Pin]) -> str:
    """Return which pins of the stack the requirements alone would not take, "" if none."""
    try:
        chosen = _report(machine, lines, lambda _: None)
    except (ManifestError, ImageError):
        return ""  # they do not fit each other either
    pins = {canonicalize_name(pin.name): pin for pin in stack}
    found: dict[str, list[str]] = {}
    for who, requirement in _requirements(machine, lines, chosen):
        pin = pins.get(canonicalize_name(requirement.name))
        if pin and not requirement.specifier.contains(pin.version, prereleases=True):
            needs = f"{who} needs {requirement.name}{requirement.specifier}"
            found.setdefault(f"{pin.name} {pin.version}", []).append(needs)
    return "; ".join(
        f"nothing goes with the stack's {pin}: {', '.join(needs[:3])}"
        for pin, needs in sorted(found.items())
    )


def _requirements(
    machine: str, lines: Sequence[str], chosen: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, Requirement]]:
    """Yield each requirement and its origin: the program, or a chosen package."""
    yield from (("the program", Requirement(line)) for line in lines)
    for each in chosen:
        metadata = each["metadata"]
        who = f"{metadata['name']} {metadata['version']}"
        for text in metadata.get("requires_dist", ()):
            requirement = Requirement(text)
            environments = (
                {**_PYTHON, "platform_machine": machine, "extra": extra}
                for extra in ("", *each.get("requested_extras", ()))
            )
            if requirement.marker is None or any(map(requirement.marker.evaluate, environments)):
                yield who, requirement
