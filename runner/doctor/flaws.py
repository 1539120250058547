"""Known flaws of the engine and its runtimes, and whether a version has them.

The table has only flaws that affect a sandbox like ours: what a program inside, or an image, can do
to the host.  `fixed_in` names the first release of each branch without the flaw.  Of the branches
that it does not name, older ones have the flaw and newer ones do not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

Version = tuple[int, ...]

_NUMBERS: Final = re.compile(r"\d+(?:\.\d+)*")
_CANDIDATE: Final = re.compile(r"-(?:rc|beta|alpha)", re.IGNORECASE)
_PACKAGED: Final = re.compile(r"(?i)[+~](?:ds|dfsg)|ubuntu|deb\d|\.(?:el|fc|amzn)\d")


class Component(StrEnum):
    """A component of the engine, by the name that the engine gives it."""

    ENGINE = "Engine"
    CONTAINERD = "containerd"
    RUNC = "runc"
    RUNSC = "runsc"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flaw:
    """One published flaw; `allows` says in a few words what an attacker can do."""

    component: Component
    name: str
    allows: str
    fixed_in: tuple[str, ...]


FLAWS: Final = (
    Flaw(
        component=Component.RUNC,
        name="CVE-2019-5736",
        allows="a container to overwrite the runtime on the host",
        fixed_in=("1.0.0",),  # 1.0.0-rc7; candidates count as older than their release
    ),
    Flaw(
        component=Component.RUNC,
        name="CVE-2021-30465",
        allows="a race of mounts to reach the host's files",
        fixed_in=("1.0.0",),  # 1.0.0-rc95
    ),
    Flaw(
        component=Component.RUNC,
        name="CVE-2021-43784",
        allows="an image to change namespaces by an overflow in what the runtime is told",
        fixed_in=("1.0.3",),
    ),
    Flaw(
        component=Component.RUNC,
        name="CVE-2023-27561",
        allows="a symbolic link to replace /proc or /sys",
        fixed_in=("1.1.5",),
    ),
    Flaw(
        component=Component.RUNC,
        name="CVE-2024-21626",
        allows="a leaked descriptor to open the host's files",
        fixed_in=("1.1.12",),
    ),
    Flaw(
        component=Component.RUNC,
        name="CVE-2024-45310",
        allows="a race to create empty files on the host",
        fixed_in=("1.1.14", "1.2.0"),
    ),
    *(
        Flaw(
            component=Component.RUNC,
            name=name,
            allows=allows,
            fixed_in=("1.2.8", "1.3.3", "1.4.0"),
        )
        for name, allows in (
            ("CVE-2025-31133", "a race at masked paths to write to the host's /proc"),
            ("CVE-2025-52565", "a race at /dev/console to write to the host's /proc"),
            ("CVE-2025-52881", "a race of mounts to redirect what the runtime writes to /proc"),
        )
    ),
    Flaw(
        component=Component.CONTAINERD,
        name="CVE-2020-15257",
        allows="a container in the host's network to command the shim",
        fixed_in=("1.3.9", "1.4.3"),
    ),
    Flaw(
        component=Component.CONTAINERD,
        name="CVE-2021-41103",
        allows="users of the host to run files of a container's root",
        fixed_in=("1.4.11", "1.5.7"),
    ),
    Flaw(
        component=Component.CONTAINERD,
        name="CVE-2024-25621",
        allows="users of the host into its directories",
        fixed_in=("1.7.29", "2.0.7", "2.1.5", "2.2.0"),
    ),
    Flaw(
        component=Component.ENGINE,
        name="CVE-2019-14271",
        allows="an image to run code on the host at docker cp",
        fixed_in=("19.3.1",),
    ),
    Flaw(
        component=Component.ENGINE,
        name="CVE-2021-41091",
        allows="users of the host to run files of a container's root",
        fixed_in=("20.10.9",),
    ),
    Flaw(
        component=Component.ENGINE,
        name="CVE-2024-24557",
        allows="an image to poison the cache of builds",
        fixed_in=("24.0.9", "25.0.2"),
    ),
    Flaw(
        component=Component.RUNSC,
        name="CVE-2018-16359",
        allows="a renamed file to reach the host's files",
        fixed_in=("20180822",),
    ),
    Flaw(
        component=Component.RUNSC,
        name="CVE-2018-19333",
        allows="shared memory to be used after its end",
        fixed_in=("20181101",),
    ),
)


def parse_version(text: str) -> Version | None:
    """Return the leading numbers of a version, None if there are none.

    A release candidate sorts before its release: the last number of "1.4.0-rc.2" is -1.  gVisor's
    versions are dates, which Debian prefixes with "0.0~".
    """
    match = _NUMBERS.search(text)
    if match is None:
        return None
    if (day := re.search(r"20\d{6}", text)) is not None:
        return (int(day[0]),)
    numbers = tuple(int(each) for each in match[0].split("."))
    if _CANDIDATE.match(text, match.end()):
        return (*numbers[:-1], numbers[-1] - 1)
    return numbers


def has(flaw: Flaw, version: Version) -> bool:
    """Return whether this version has the flaw, as far as its number tells."""
    fixes = sorted(parse_version(each) or () for each in flaw.fixed_in)
    branch = [fix for fix in fixes if fix[:-1] == version[: len(fix) - 1]]
    return version < (branch or fixes[-1:])[0]


def flaws_of(component: Component, version: str) -> tuple[Flaw, ...]:
    """Return the known flaws of a version; none if it has no numbers."""
    parsed = parse_version(version)
    if parsed is None:
        return ()
    return tuple(each for each in FLAWS if each.component is component and has(each, parsed))


def is_packaged(version: str) -> bool:
    """Return whether a distribution built this version: it may fix flaws without a new number."""
    return _PACKAGED.search(version) is not None
