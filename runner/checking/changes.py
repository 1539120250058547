"""Finds the programs that differ from a git revision, in an untrusted repository.

A checkout may contain a `.git` of its own, and git executes what a repository's configuration
names: hooks, filters, monitors, diff and fetch helpers.  So git never sees that configuration.  It
works in an empty repository made for this purpose, which borrows only objects and references from
the checkout, and is asked only for the files of a tree.  Contents are compared here with the files
on disk.  So changes that are not committed count, and no filter runs.
"""

from __future__ import annotations

import bisect
import contextlib
import hashlib
import itertools
import os
import re
import resource
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from runner.errors import RequestError
from runner.host import files
from runner.programs import NOT_SOURCES, beside

GIT_TIMEOUT_S: Final = 20.0
MAX_GIT_BYTES: Final = 1 << 25
"""The longest answer of git in bytes: the files of a tree."""
MAX_FILES: Final = 1 << 18
GIT_MEMORY_BYTES: Final = 1 << 29
MAX_ENTRIES: Final = 1 << 20
"""The most files of references and objects that are checked before git reads them."""
MAX_HEAD_BYTES: Final = 4 << 10
MAX_PACKED_REFS_BYTES: Final = 64 << 20

_PIECE: Final = 1 << 20
_MAX_POINTER: Final = 4096
_PACKS: Final = "\tpackedGitWindowSize = 16m\n\tpackedGitLimit = 64m\n\tdeltaBaseCacheLimit = 16m\n"
"""Limits on the part of its memory in which git maps and caches packs."""
_BORROWED: Final = ("refs", "objects")
_ALTERNATES: Final = "info/alternates"
_MAX_ALTERNATES: Final = 10
_REGULAR: Final = b"100"  # the mode of a regular file begins so
_COMPILED: Final = ".pyc"
_FORMATS: Final = {20: "sha1", 32: "sha256"}
_LINE: Final = re.compile(rb"[^\0]+")
_REVISION: Final = re.compile(r"[^\s\x00-\x1f\x7f-]\S{0,255}")


class Changes:
    """The files of one revision of the repository around a directory."""

    def __init__(self, directory: Path, revision: str) -> None:
        """Read the tree of the revision.

        Raises RequestError if there is no repository, no git, or no such revision.
        """
        self._top = _top(directory)
        if not _REVISION.fullmatch(revision):
            msg = f"{revision!r} is no git revision: give a branch, a tag or a commit"
            raise RequestError(msg)
        with _borrowed(*_git_directories(self._top)) as git:
            tree = _ask(git, "rev-parse", "--quiet", "--verify", f"{revision}^{{tree}}")
            answer = _ask(git, "ls-tree", "-r", "-z", tree.decode().strip())
        if answer.count(b"\0") > MAX_FILES:
            msg = f"{revision!r} has more than {MAX_FILES} files: leave out --since"
            raise RequestError(msg)
        # One by one: all lines together would take several times the memory of the answer.
        self._blobs = dict(_entry(line[0]) for line in _LINE.finditer(answer))
        self._names = sorted(self._blobs)

    def covers(self, path: Path) -> bool:
        """Return True if the path is in the repository."""
        with contextlib.suppress(OSError, RuntimeError):  # too long, or circular links
            return _absolute(path).is_relative_to(self._top)
        return False

    def touch(self, path: Path) -> bool:
        """Return True if a program differs from the revision in any file below its directory.

        For a bare program this means its file and the metadata beside it.  A path that is outside
        the repository, cannot be read, or is not a regular file counts as changed.
        """
        if not self.covers(path):
            return True
        try:
            return self._is_changed(path) or self._has_changed_metadata(path)
        except (OSError, RuntimeError):
            return True

    def _has_changed_metadata(self, path: Path) -> bool:
        if path.suffix != ".py" or path.is_dir():
            return False
        return any(
            (os.path.lexists(each) or self._name(each) in self._blobs) and self._is_changed(each)
            for each in beside(path)
        )

    def _is_changed(self, path: Path) -> bool:
        before = set(self._names_below(self._name(path)))
        for each in _files_below(path):
            name = self._name(each)
            if not _has_name(each, self._blobs.get(name, b"")):
                return True
            before.discard(name)
        return bool(before)

    def _name(self, path: Path) -> bytes:
        return os.fsencode(_absolute(path).relative_to(self._top))

    def _names_below(self, inside: bytes) -> Iterator[bytes]:
        if inside in self._blobs:
            yield inside
        prefix = b"" if inside == b"." else inside + b"/"
        first = bisect.bisect_left(self._names, prefix)
        for name in itertools.islice(self._names, first, None):
            if not name.startswith(prefix):
                return
            if _is_source(name.removeprefix(prefix)):
                yield name


def _entry(line: bytes) -> tuple[bytes, bytes]:
    """Return path and object of a line of `ls-tree`; no object for anything but a regular file."""
    head, _, path = line.partition(b"\t")
    mode, _, blob = head.split(b" ")
    return path, bytes.fromhex(blob.decode()) if mode.startswith(_REGULAR) else b""


def _is_source(name: bytes) -> bool:
    """Return True if a file with this path in a program's directory is part of the program."""
    parts = os.fsdecode(name).split("/")
    return NOT_SOURCES.isdisjoint(parts) and not parts[-1].endswith(_COMPILED)


def _has_name(path: Path, expected: bytes) -> bool:
    """Return True if git would give this content the expected name; False if that is empty."""
    if not expected:
        return False
    digest = hashlib.new(_FORMATS[len(expected)], usedforsecurity=False)
    try:
        with files.regular(path) as file:
            digest.update(b"blob %d\0" % os.fstat(file.fileno()).st_size)
            while piece := file.read(_PIECE):
                digest.update(piece)
    except OSError:
        return False
    return digest.digest() == expected


def _files_below(path: Path) -> Iterator[Path]:
    """Yield everything below that is not a directory, including links.  Raises OSError."""
    if path.is_symlink() or not path.is_dir():
        yield path
        return
    for _, entries in files.listings(path, without=NOT_SOURCES):
        if isinstance(entries, OSError):
            raise entries
        for each in entries:
            if not each.is_dir(follow_symlinks=False) and not each.name.endswith(_COMPILED):
                yield Path(each.path)


def _absolute(path: Path) -> Path:
    """Return the path with the links above it resolved, but not its last part."""
    whole = Path(os.path.abspath(path))  # noqa: PTH100  resolve() would follow the last part
    return whole.parent.resolve() / whole.name


def _top(directory: Path) -> Path:
    start = Path(os.path.realpath(directory))  # resolve() fails for circular links
    for each in (start, *start.parents):
        if os.path.exists(each / ".git"):  # noqa: PTH110  no OSError
            return each
    msg = f"{directory} is in no git repository: --since needs one"
    raise RequestError(msg)


def _git_directories(top: Path) -> tuple[Path, Path]:
    """Return the directories of HEAD, and of objects and references; in a worktree they differ."""
    own = _followed(top / ".git", top, "gitdir:")
    return own, _followed(own / "commondir", own, "", otherwise=own)


def _followed(pointer: Path, base: Path, prefix: str, otherwise: Path | None = None) -> Path:
    """Return the path in a pointer file, or `otherwise` (default: the file itself) without one."""
    content = _start_of(pointer, _MAX_POINTER)
    # Links may be circular, and pointers may contain invalid paths.
    with contextlib.suppress(OSError, ValueError, RuntimeError):
        if content is not None and len(content) < _MAX_POINTER:
            return (base / content.decode().removeprefix(prefix).strip()).resolve()
    return otherwise or pointer


def _start_of(path: Path, most: int) -> bytes | None:
    """Return the first bytes of a regular file, None if it cannot be read."""
    with contextlib.suppress(OSError), files.regular(path, follow=True) as file:
        return file.read(most)
    return None


@contextlib.contextmanager
def _borrowed(own: Path, common: Path) -> Iterator[Path]:
    """Make a repository with another one's objects and references, without its configuration."""
    with tempfile.TemporaryDirectory(prefix="qrunner-git-") as name:
        git = Path(name)
        (git / "objects" / "info").mkdir(parents=True)
        (git / "objects" / "info" / "alternates").write_bytes(
            os.fsencode(common / "objects") + b"\n"
        )
        (git / "HEAD").write_text("ref: refs/heads/main\n")
        for source, most in (
            (own / "HEAD", MAX_HEAD_BYTES),
            (common / "packed-refs", MAX_PACKED_REFS_BYTES),
        ):
            content = _start_of(source, most + 1)
            if content is not None and len(content) > most:
                msg = f"{source}: larger than {most} bytes: leave out --since"
                raise RequestError(msg)
            if content is not None:
                (git / source.name).write_bytes(content)
        _check_regular([common / each for each in _BORROWED])
        (git / "refs").symlink_to(common / "refs")
        (git / "config").write_text(_configuration(common))
        yield git


def _check_regular(pending: list[Path]) -> None:
    """Refuse directories in which git could open, and wait for, anything but regular files.

    Follows links as git does, and also directories of borrowed objects.  Raises RequestError.
    """
    seen: set[tuple[int, int]] = set()
    count = alternates = 0
    while pending:
        directory = pending.pop()
        try:
            status = directory.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(directory) as entries:
                for each in entries:
                    count += 1
                    if each.is_dir():
                        pending.append(Path(each.path))
                    elif not each.is_file() and os.path.exists(each):  # noqa: PTH110  no OSError
                        msg = f"{each.path}: no regular file: leave out --since"
                        raise RequestError(msg)
        except (FileNotFoundError, ValueError):
            continue  # git finds nothing there either
        except OSError as error:
            msg = f"{directory}: cannot be read: {error.strerror}: leave out --since"
            raise RequestError(msg) from error
        others = _alternates(directory)
        alternates += len(others)
        if count > MAX_ENTRIES or alternates > _MAX_ALTERNATES:
            msg = (
                f"{directory}: more than {MAX_ENTRIES} references and objects, or "
                f"{_MAX_ALTERNATES} alternates: run `git gc`, or leave out --since"
            )
            raise RequestError(msg)
        pending += others


def _alternates(objects: Path) -> list[Path]:
    """Return the other object directories in which git looks for missing objects."""
    lines = (_start_of(objects / _ALTERNATES, _PIECE) or b"").split(b"\n")
    return [objects / os.fsdecode(each) for each in lines if each and not each.startswith(b"#")]


def _configuration(repository: Path) -> str:
    text = (_start_of(repository / "config", _PIECE) or b"").decode(errors="replace")
    if re.search(r"^\s*objectformat\s*=\s*sha256\s*$", text, re.MULTILINE | re.IGNORECASE):
        version, extensions = 1, "[extensions]\n\tobjectformat = sha256\n"
    else:
        version, extensions = 0, ""
    core = f"[core]\n\trepositoryformatversion = {version}\n\tbare = true\n{_PACKS}"
    return core + extensions


def _ask(git: Path, *arguments: str) -> bytes:
    """Run git with only our own repository and configuration.  Raises RequestError."""
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(git),
        "GIT_DIR": str(git),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ALLOW_PROTOCOL": "",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C",
    }
    command = ["git", "--no-pager", "--no-replace-objects", *arguments]
    try:
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(
                command,
                cwd=git,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.DEVNULL,
                timeout=GIT_TIMEOUT_S,
                check=False,
                preexec_fn=_confine,  # only makes system calls, and takes no lock
            )
            output.seek(0)
            answer = output.read(MAX_GIT_BYTES + 1)
    except FileNotFoundError as error:
        msg = "git is not installed: --since needs it; leave it out to check every program"
        raise RequestError(msg) from error
    except subprocess.TimeoutExpired as error:
        msg = f"git did not answer within {GIT_TIMEOUT_S:g} s: leave out --since"
        raise RequestError(msg) from error
    if done.returncode or len(answer) > MAX_GIT_BYTES:
        raise RequestError(_refusal(arguments[-1].removesuffix("^{tree}"), done.returncode))
    return answer


def _confine() -> None:
    """Limit the resources that git can use; runs in the child."""
    resource.setrlimit(resource.RLIMIT_AS, (GIT_MEMORY_BYTES, GIT_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (int(GIT_TIMEOUT_S), int(GIT_TIMEOUT_S)))
    # One byte more than may be read, so that an excess is noticed.
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_GIT_BYTES + 1, MAX_GIT_BYTES + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _refusal(revision: str, status: int) -> str:
    fetch = "fetch it first (in CI, a checkout of the whole history: fetch-depth: 0)"
    if status == 1:  # the status of `rev-parse --quiet` for an unknown name
        return f"git knows no {revision!r} here: {fetch}"
    if status in {0, -signal.SIGXFSZ}:
        return f"{revision!r} has file names of more than {MAX_GIT_BYTES} bytes: leave out --since"
    how = signal.strsignal(-status) if status < 0 else f"status {status}"
    return (
        f"git cannot read {revision!r} here within {GIT_MEMORY_BYTES >> 20} MiB of memory ({how}): "
        f"{fetch}, or leave out --since"
    )
