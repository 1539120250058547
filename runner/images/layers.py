"""Images of programs and their base images, addressed by content.

    root  →  stack (Python, Qiskit, Aer)  →  guest (our `sandbox` package)  →  program (its files)

An image's tag is the hash of everything that decides its content, including its parent's hash.  So
a build is needed exactly if the engine does not have the tag: one call to the engine.  The engine's
architecture is not part of the hash, because an engine only holds images that it has made itself.
Nothing of a program runs during a build, and no build has a network.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Final

from runner.engine import OWN_LABEL, Engine
from runner.errors import ImageError
from runner.host.processes import SCRATCH_PREFIX, HostProcess
from runner.images.archive import LAYOUT
from runner.images.builds import (
    BUILD_LABEL,
    KIND_LABEL,
    REPOSITORY,
    Builder,
    Layer,
    Recipe,
    digest_of,
    tag_of,
)
from runner.images.roots import (
    PACKAGES_LABEL,
    ROOT_VARIABLE,
    Progress,
    Root,
    RootFinder,
    RootLock,
    machine,
)
from runner.programs import images_directory, wheels

BASE_KINDS: Final = ("root", "stack", "guest", "packages")
KEEP_PROGRAM_IMAGES: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramImage:
    """The image of one program: the engine's id, our tag, and the full hash behind the tag."""

    id: str
    tag: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredImage:
    """One of our images as the engine lists it.

    `since` is when the engine got it, in seconds since the epoch: an image that is loaded has the
    date of its parent.
    """

    id: str
    tag: str
    kind: str
    build: str
    since: float

    @property
    def repository(self) -> str:
        return self.tag.rpartition(":")[0]


def build_id() -> str:
    """Return the hash of the guest's code, which the guest reports in its `Ready`."""
    return _build_id(_guest_code())


def silent(_: str) -> None:
    """Ignore progress."""


class ImageStore:
    """Builds images on one engine, each only once, and removes old ones.

    `progress` gets short lines for people.  `base` is the directory of Dockerfiles and locks.  May
    be used from several threads and processes: the second one waits and then finds the image.
    Every method raises ImageError, or EngineError if the engine itself fails.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        progress: Progress = silent,
        base: Path | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._engine = engine
        self._progress = progress
        self._base = base or base_directory()
        self._wanted_root = environment.get(ROOT_VARIABLE) or None
        locks = _cache_directory(environment) / "locks"
        self._builder = Builder(engine, progress=progress, locks=locks)

    # --- images -------------------------------------------------------------------------------

    def guest(self) -> str:
        """Return the id of the guest image; build what is missing of it."""
        return self._builder.ensure(self.guest_tag, self._guest_digest, self._build_guest)

    @property
    def guest_tag(self) -> str:
        """The tag of the guest image, on which programs are built."""
        return tag_of("guest", self._guest_digest)

    @property
    def stack_tag(self) -> str:
        """The tag of the stack, on which all else is built in seconds, without a network."""
        return tag_of("stack", self._stack_digest)

    def program(
        self, files: Mapping[str, bytes], name: str, pins: Sequence[wheels.Pin] = ()
    ) -> ProgramImage:
        """Return the image of a program; build what is missing of it.

        `files` maps paths below /program to contents; `pins` are the packages that the program
        needs in addition to the stack.
        """
        content = _program_content(files)
        digest = self.program_digest(files, pins)
        tag = tag_of(repository_name(name), digest)

        def build() -> None:
            layer = Layer(
                kind="program",
                tag=tag,
                digest=digest,
                parent=self._packages(pins, files) if pins else self.guest(),
                files=content,
                labels={f"{OWN_LABEL}.program": name},
            )
            self._builder.load(layer)

        return ProgramImage(id=self._builder.ensure(tag, digest, build), tag=tag, digest=digest)

    def program_digest(self, files: Mapping[str, bytes], pins: Sequence[wheels.Pin] = ()) -> str:
        """Return the hash of a program's image, without asking the engine."""
        parent = self._packages_digest(pins) if pins else self._guest_digest
        return digest_of(parent, {**_program_content(files), "layout": LAYOUT})

    def has(self, files: Mapping[str, bytes], name: str, pins: Sequence[wheels.Pin] = ()) -> bool:
        """Return True if the engine has the image of this program."""
        tag = tag_of(repository_name(name), self.program_digest(files, pins))
        return self._engine.image_id(tag) is not None

    def _packages(self, pins: Sequence[wheels.Pin], files: Mapping[str, bytes]) -> str:
        """Return the id of the guest with these packages; programs with equal pins share it.

        `files` are the program's: wheels that were built for it are among them.
        """
        digest = self._packages_digest(pins)
        tag = tag_of("packages", digest)
        return self._builder.ensure(
            tag, digest, lambda: self._build_packages(tag, digest, pins, files)
        )

    def _build_packages(
        self, tag: str, digest: str, pins: Sequence[wheels.Pin], files: Mapping[str, bytes]
    ) -> None:
        guest = self.guest()
        with self._scratch() as scratch:
            self._progress(f"fetching {len(pins)} packages that the program needs …")
            target = scratch / "packages"
            built = wheels.built_of(files)
            wheels.unpack(pins, target, scratch, machine(self._engine), built)
            unpacked = {
                f"packages/{path.relative_to(target).as_posix()}": path
                for path in sorted(target.rglob("*"))
                if path.is_file() and not path.is_symlink()
            }
            self._builder.load(
                Layer(kind="packages", tag=tag, digest=digest, parent=guest, files=unpacked)
            )

    def _packages_digest(self, pins: Sequence[wheels.Pin]) -> str:
        content = {"lock": wheels.lock_text(pins).encode(), "layout": LAYOUT}
        return digest_of(self._guest_digest, content)

    @contextlib.contextmanager
    def _scratch(self) -> Iterator[Path]:
        """Make a temporary directory named after this process, for a sweep to recognise."""
        prefix = f"{SCRATCH_PREFIX}{HostProcess.current()}-"
        with tempfile.TemporaryDirectory(prefix=prefix) as directory:
            yield Path(directory)

    def images(self) -> list[StoredImage]:
        """Return all our tagged images, the newest first."""
        found = [
            StoredImage(
                id=str(each["Id"]),
                tag=str(tag),
                kind=each["Labels"].get(KIND_LABEL, ""),
                build=each["Labels"].get(BUILD_LABEL, ""),
                since=self._since(str(tag)) or float(each["Created"]),
            )
            for each in self._engine.images()
            for tag in each.get("RepoTags") or ()
            if str(tag).startswith(f"{REPOSITORY}/")
        ]
        return sorted(found, key=lambda each: each.since, reverse=True)

    def _since(self, tag: str) -> float:
        found = self._engine.image(tag)
        return found.tagged if found else 0.0

    def prune(self, *, keep: int = KEEP_PROGRAM_IMAGES, base: bool = False) -> list[str]:
        """Remove all but the newest `keep` images of each program; return the removed tags.

        The current and the newest image of root, stack and guest stay, unless `base` is True.
        Images that a container uses stay, and so do all images that are not ours.
        """
        current = set() if base else {self._root_digest, self._stack_digest, self._guest_digest}
        keep_base = 0 if base else 1
        seen: dict[str, int] = {}
        removed = []
        for image in self.images():
            seen[image.repository] = seen.get(image.repository, 0) + 1
            limit = keep if image.kind == "program" else keep_base
            if seen[image.repository] > limit and image.build not in current:
                self._engine.remove_image(image.tag)
                if self._engine.image(image.tag) is None:
                    removed.append(image.tag)
        self._builder.remove_leftovers()
        return removed

    # --- content and its hashes ---------------------------------------------------------------

    @cached_property
    def _chosen_root(self) -> str | None:
        """The id of the image that the user named, since the name may mean another one later."""
        return self._finder("").chosen(self._wanted_root) if self._wanted_root else None

    @cached_property
    def _root_digest(self) -> str:
        chosen = (self._chosen_root or "").encode()
        return digest_of("root", {"chosen": chosen, "root.lock": self._file("root.lock")})

    @cached_property
    def _stack_digest(self) -> str:
        return digest_of(self._root_digest, self._stack_files)

    @cached_property
    def _guest_digest(self) -> str:
        files = {**self._guest_files, "Dockerfile": self._file("guest.Dockerfile")}
        return digest_of(self._stack_digest, files)

    # Read once, so that what is hashed is what is built, even if a file is edited in between.

    @cached_property
    def _guest_files(self) -> dict[str, bytes]:
        return _guest_code()

    @cached_property
    def _stack_files(self) -> dict[str, bytes]:
        names = ("Dockerfile", "prepare.py", "requirements.lock", "pip.lock")
        return {name: self._file(name) for name in names}

    def _file(self, name: str) -> bytes:
        try:
            return (self._base / name).read_bytes()
        except OSError as error:
            msg = f"{self._base / name} cannot be read ({error.strerror}): is the package complete?"
            raise ImageError(msg) from error

    # --- building -----------------------------------------------------------------------------

    def _build_stack(self) -> None:
        files = dict(self._stack_files)
        dockerfile = files.pop("Dockerfile")
        with self._scratch() as directory:
            root = self._root_and_wheels(directory)
            downloaded = {f"wheels/{path.name}": path for path in directory.glob("*.whl")}
            recipe = Recipe(
                kind="stack",
                tag=tag_of("stack", self._stack_digest),
                digest=self._stack_digest,
                dockerfile=dockerfile,
                context={**files, **downloaded},
                arguments={"ROOT_IMAGE": root.image},
                labels=self._labels_of(root),
            )
            self._builder.run(recipe)

    def _labels_of(self, root: Root) -> dict[str, str]:
        """Return the labels with which a stack, built from scratch, records its root."""
        found = self._engine.image(root.image)
        packages = found.labels.get(PACKAGES_LABEL) if found else None
        kept = {PACKAGES_LABEL: packages} if packages else {}
        return {f"{OWN_LABEL}.root": root.origin, **kept}

    def _root_and_wheels(self, directory: Path) -> Root:
        """Download the stack's wheels into `directory`, and find or make the root in parallel."""
        began = time.monotonic()
        self._progress("fetching the wheels of the stack …")
        locks = [self._base / "requirements.lock", self._base / "pip.lock"]
        with wheels.download(locks, directory, machine(self._engine)) as download:
            with self._builder.locked(self._root_digest):
                root = self._finder(self._root_digest).find(self._chosen_root)
            download.finish("fetching the wheels", timeout_s=wheels.TIMEOUT_S)
        self._progress(f"root ({root.origin}) and wheels ready in {time.monotonic() - began:.1f} s")
        return root

    def _finder(self, digest: str) -> RootFinder:
        return RootFinder(
            engine=self._engine,
            lock=RootLock.from_text(self._file("root.lock").decode()),
            tag=tag_of("root", digest),
            digest=digest,
            progress=self._progress,
        )

    def _build_guest(self) -> None:
        stack = self._builder.ensure(
            tag_of("stack", self._stack_digest), self._stack_digest, self._build_stack
        )
        context = {f"qrunner/{name}": content for name, content in self._guest_files.items()}
        recipe = Recipe(
            kind="guest",
            tag=tag_of("guest", self._guest_digest),
            digest=self._guest_digest,
            dockerfile=self._file("guest.Dockerfile"),
            context={**context, "qrunner/BUILD": _build_id(self._guest_files).encode()},
            arguments={"STACK_IMAGE": stack},
        )
        self._builder.run(recipe)


def base_directory() -> Path:
    """Return the directory with the Dockerfiles and locks."""
    return images_directory() / "base"


def repository_name(name: str) -> str:
    """Return the program's name as the engine accepts it, distinct from our own images' names."""
    words = re.findall(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*", name.lower())
    plain = "-".join(words)[:100].rstrip("-._") or "program"
    return f"{plain}-program" if plain in BASE_KINDS else plain


def _program_content(files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {f"program/{_checked(path)}": content for path, content in files.items()}


def _cache_directory(environment: Mapping[str, str]) -> Path:
    home = environment.get("XDG_CACHE_HOME") or ""
    # The XDG specification says to ignore relative paths.
    return (Path(home) if home.startswith("/") else Path.home() / ".cache") / REPOSITORY


def _guest_code() -> dict[str, bytes]:
    """Return the guest's code, by path below /opt/qrunner; none of it is imported."""
    found = importlib.util.find_spec("sandbox")
    if found is None or not found.submodule_search_locations:
        msg = "the package `sandbox`, the guest's code, is not installed beside `runner`"
        raise ImageError(msg)
    directory = Path(found.submodule_search_locations[0])
    return {
        f"sandbox/{path.relative_to(directory).as_posix()}": path.read_bytes()
        for path in sorted(directory.rglob("*.py"))
    }


def _build_id(code: Mapping[str, bytes]) -> str:
    return digest_of("guest-code", code)


def _checked(path: str) -> str:
    """Return the path of a program's file if it stays below /program."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\0" in path:
        msg = f"a program's file is called {path!r}: it must be a relative path without .."
        raise ImageError(msg)
    return str(PurePosixPath(path))
