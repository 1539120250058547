"""Finds or makes the root file system that the stack is built on.

The first of these is taken: the image that QRUNNER_ROOT_IMAGE names; the official Python image by
digest, if the engine has it; a root that was bootstrapped here before; the official image from its
registry; a Debian of the same release, bootstrapped from signed packages with mmdebstrap.
`runner.images.layers` builds on the root.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Self
from urllib.parse import unquote

from runner.engine import OWN_LABEL, Engine
from runner.errors import ImageError
from runner.host.commands import Command

Progress = Callable[[str], object]
"""A function that takes one line for a person to read."""

ROOT_VARIABLE: Final = "QRUNNER_ROOT_IMAGE"
PACKAGES_LABEL: Final = f"{OWN_LABEL}.packages"
"""The label of a bootstrapped root and its stack: the hash of the packages in `PACKAGES_FILE`."""

KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
PULL_TIMEOUT_S: Final = 120.0
BOOTSTRAP_TIMEOUT_S: Final = 600.0
_DEBIANS_MIRRORS: Final = {
    "": "http://deb.debian.org/debian/",
    "-updates": "http://deb.debian.org/debian/",
    "-security": "http://deb.debian.org/debian-security/",
}
"""The mirrors of a release's suites, by the suffixes of their names."""

PACKAGES_FILE: Final = "opt/qrunner/packages.txt"
SOURCE_DATE_EPOCH: Final = "1760000000"
"""The latest time of any file in a bootstrapped root: the same packages give the same bytes."""

_ADVICE: Final = (
    "Make the registry reachable, load the image (docker load), or name another image that has "
    f"Python 3.11 in {ROOT_VARIABLE}."
)
_AS_WHOM: Final = (
    "mmdebstrap needs root, or subordinate ids (/etc/subuid) and newuidmap; what root builds with "
    "`qrunner build` is there for every user of the engine.\n"
)

_DEBIAN_NAMES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_MACHINES: Final = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}

# Packages are unpacked, not installed: no maintainer script runs, so nothing of the root is
# executed, and the host's kernel and user mapping make no difference.  prepare.py makes during the
# build what those scripts would have made (accounts, the cache of shared libraries).
_MERGE_USR = 'for d in bin sbin lib lib64; do mkdir -p "$1/usr/$d"; ln -s "usr/$d" "$1/$d"; done'
_LIST_PACKAGES = (
    f'mkdir -p "$1/{Path(PACKAGES_FILE).parent}" && cd "$1/var/cache/apt/archives" '
    f'&& ls -- *.deb > "$1/{PACKAGES_FILE}"'
)
# mmdebstrap copies these from the host, which the root must not reveal.
_FORGET_HOST = 'cd "$1/etc" && rm -rf hostname resolv.conf apt/sources.list apt/sources.list.d'


@dataclass(frozen=True, slots=True, kw_only=True)
class RootLock:
    """`images/base/root.lock`: the official image by digest, and the Debian that can replace it.

    `packages` has the package versions at the time of locking, by machine.
    """

    reference: str
    release: str
    include: tuple[str, ...]
    packages: Mapping[str, Mapping[str, str]]

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Parse the lock.  Raises ImageError, which says what is wrong with it."""
        try:
            content = json.loads(text)
            debian = content["debian"]
            lock = cls(
                reference=str(content["official"]["reference"]),
                release=str(debian["release"]),
                include=tuple(map(str, debian["include"])),
                packages={machine: dict(each) for machine, each in debian["packages"].items()},
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            msg = f"root.lock cannot be read: {type(error).__name__}: {error}"
            raise ImageError(msg) from error
        if "@sha256:" not in lock.reference:
            msg = f"root.lock names {lock.reference} without a digest: images are pinned by digest"
            raise ImageError(msg)
        return lock

    def differences(self, machine: str, packages: Mapping[str, str]) -> list[str]:
        """Return one phrase for each package whose version differs from the lock's."""
        locked = self.packages.get(machine, {})
        return [
            f"{name} {packages.get(name, 'absent')} (lock: {locked.get(name, 'absent')})"
            for name in sorted({*locked, *packages})
            if locked.get(name) != packages.get(name)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """A root that the engine has: its image id, and its origin in one word."""

    image: str
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RootFinder:
    """Finds or makes the root; a bootstrapped one gets the name `tag` and the label `digest`."""

    engine: Engine
    lock: RootLock
    tag: str
    digest: str
    progress: Progress
    keyring: Path = KEYRING

    def chosen(self, wanted: str) -> str:
        """Return the id of the image that the user named, pulling it if the engine lacks it."""
        try:
            return self.engine.image_id(wanted) or self._pull(wanted)
        except ImageError as error:
            msg = f"{error}\n{ROOT_VARIABLE} names this image: load it (docker load) or correct it."
            raise ImageError(msg) from error

    def find(self, chosen: str | None) -> Root:
        """Return a root, the `chosen` one if any.  Raises ImageError that says what to do."""
        if chosen is not None:
            return Root(image=chosen, origin="chosen")
        if image := self.engine.image_id(self.lock.reference):
            return Root(image=image, origin="official")
        if image := self.engine.image_id(self.tag):
            return Root(image=image, origin="bootstrapped")
        try:
            return Root(image=self._pull(self.lock.reference), origin="official")
        except ImageError as error:
            return self._bootstrap_instead(error)

    def _pull(self, reference: str) -> str:
        self.progress(f"fetching {reference} …")
        return self.engine.pull(reference, timeout_s=PULL_TIMEOUT_S)

    def _bootstrap_instead(self, reason: ImageError) -> Root:
        if obstacle := self._obstacle():
            msg = f"{reason}\nA Debian root cannot be bootstrapped instead: {obstacle}.\n{_ADVICE}"
            raise ImageError(msg) from reason
        self.progress(
            f"{reason}; bootstrapping Debian {self.lock.release} from signed packages instead …"
        )
        began = time.monotonic()
        with tempfile.TemporaryFile() as archive:
            try:
                bootstrap(self.lock, machine(self.engine), archive, keyring=self.keyring)
            except ImageError as error:
                msg = f"{error}\n{_AS_WHOM if os.geteuid() else ''}{_ADVICE}"
                raise ImageError(msg) from error
            packages = packages_of(archive)
            self._say_differences(packages)
            image = self._import(archive, packages)
        self.progress(f"bootstrapped {len(packages)} packages in {time.monotonic() - began:.1f} s")
        return Root(image=image, origin="bootstrapped")

    def _obstacle(self) -> str | None:
        """Return the reason why this host cannot bootstrap a root for the engine, or None."""
        if shutil.which("mmdebstrap") is None:
            return "mmdebstrap is not installed (Debian or Ubuntu: apt-get install mmdebstrap)"
        if not self.keyring.exists():
            return f"{self.keyring} is missing (apt-get install debian-archive-keyring)"
        if _MACHINES.get(platform.machine()) != machine(self.engine):
            return f"the engine runs on {machine(self.engine)}, this host is {platform.machine()}"
        return None

    def _say_differences(self, packages: Mapping[str, str]) -> None:
        if differences := self.lock.differences(machine(self.engine), packages):
            self.progress(f"the root differs from root.lock: {', '.join(differences)}")

    def _import(self, archive: IO[bytes], packages: Mapping[str, str]) -> str:
        labels = {
            f"{OWN_LABEL}.image": "root",
            f"{OWN_LABEL}.build": self.digest,
            PACKAGES_LABEL: packages_digest(packages),
        }
        archive.seek(0)
        return self.engine.import_root(archive, tag=self.tag, labels=labels)


def machine(engine: Engine) -> str:
    """Return the engine's machine, `x86_64` or `aarch64`.  Raises ImageError for any other."""
    name = engine.info().architecture
    try:
        return _MACHINES[name]
    except KeyError:
        msg = f"the engine runs on {name}: Qiskit's wheels are there for x86_64 and aarch64 only"
        raise ImageError(msg) from None


def bootstrap(
    lock: RootLock, machine_name: str, archive: IO[bytes], *, keyring: Path = KEYRING
) -> None:
    """Write a Debian root with `PACKAGES_FILE` as a tar.  Raises ImageError with apt's reason."""
    sources = _debian_sources(lock.release, keyring)
    command = [
        *("mmdebstrap", "--variant=extract", "--skip=output/dev", f"--keyring={keyring}"),
        *(f"--architectures={_DEBIAN_NAMES[machine_name]}", f"--include={','.join(lock.include)}"),
        *(f"--aptopt={each}" for each in (*_SIGNED_ONLY, *_apt_proxies())),
        *(f"--setup-hook={_MERGE_USR}", f"--extract-hook={_LIST_PACKAGES}"),
        *(f"--extract-hook={_FORGET_HOST}", lock.release, "-", "-"),
    ]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": SOURCE_DATE_EPOCH, "LC_ALL": "C.UTF-8"}
    with Command(command, output=archive, given=sources, environment=environment) as process:
        process.finish("bootstrapping a Debian root", timeout_s=BOOTSTRAP_TIMEOUT_S)


# The host's apt may be configured otherwise, but an unsigned root is worse than none.
_SIGNED_ONLY: Final = (
    'APT::Get::AllowUnauthenticated "false"',
    'Acquire::AllowInsecureRepositories "false"',
    'Acquire::AllowWeakRepositories "false"',
    'Acquire::Retries "3"',
)


def packages_of(archive: IO[bytes]) -> dict[str, str]:
    """Return the packages of a bootstrapped root, name → version."""
    archive.seek(0)
    try:
        with tarfile.open(fileobj=archive) as tar:
            member = tar.extractfile(f"./{PACKAGES_FILE}")
            assert member is not None
            names = member.read().decode().split()
    except (tarfile.TarError, KeyError, UnicodeDecodeError) as error:
        msg = f"the bootstrapped root has no readable {PACKAGES_FILE}: {error}"
        raise ImageError(msg) from error
    parts = [name.removesuffix(".deb").split("_") for name in names]
    return {name: unquote(version) for name, version, _ in parts}


def packages_digest(packages: Mapping[str, str]) -> str:
    """Return the hash of a list of packages: the label of a bootstrapped root."""
    listed = "".join(f"{name}={version}\n" for name, version in sorted(packages.items()))
    return hashlib.sha256(listed.encode()).hexdigest()


def _debian_sources(release: str, keyring: Path) -> bytes:
    """Return apt sources for the release, from this host's mirror or else from Debian's own.

    They are never empty: mmdebstrap would then choose others, and trust other keys for them.
    """
    listing = "$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)"
    lines = _output_of("apt-get", "indextargets", "--format", listing, "Created-By: Packages")
    debians = {f"{release}{suffix}": uri for suffix, uri in _DEBIANS_MIRRORS.items()}
    sources = {
        (uri, suite)
        for uri, suite, component, origin in (
            each.split() for each in lines if each.count(" ") == 3
        )
        if suite in debians and component == "main" and origin == "Debian"
    }
    if not any(suite == release for _, suite in sources):
        sources = {(uri, suite) for suite, uri in debians.items()}
    return "".join(
        f"deb [signed-by={keyring}] {uri} {suite} main\n" for uri, suite in sorted(sources)
    ).encode()


def _apt_proxies() -> list[str]:
    """Return the host's proxy settings for apt, as apt prints them."""
    wanted = ("Acquire::http::Proxy", "Acquire::https::Proxy")
    settings = (line.rstrip(";") for line in _output_of("apt-config", "dump"))
    return [line for line in settings if line.startswith(wanted) and not line.endswith('""')]


def _output_of(*command: str) -> list[str]:
    """Return the lines that a quick command prints, none if it fails: the answer is optional."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)
        return done.stdout.splitlines()
    return []
