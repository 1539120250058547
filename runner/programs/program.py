"""Finding programs: a name, a directory or a file → a `Program`, pinned by its content.

A program directory may come from anybody: only regular files are taken, symbolic links and other
odd files are refused by name, and number and size are bounded.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import itertools
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runner.display import escape, shortened
from runner.errors import ManifestError, RequestError, UnknownProgramError
from runner.host.files import listings, read, regular, replace
from runner.programs import metadata, resolving, signature, wheels
from runner.programs.manifest import DEFAULT_ENTRY, MANIFEST_NAME, MANIFEST_NAMES, Manifest
from runner.programs.signature import Signature
from runner.programs.source import MAX_BYTES as MAX_PARSED
from runner.programs.wheels import Pin

MAX_FILES: Final = 1000
MAX_PROGRAM_BYTES: Final = 16 * 1024 * 1024

CASES_DIRECTORY: Final = "cases"
TEMPLATE: Final = "template"

NOT_SOURCES: Final = frozenset({".git", "__pycache__", ".ipynb_checkpoints"})
"""Directories that tools make beside a program's own files, and that are no part of it."""

_IGNORED: Final = NOT_SOURCES | {CASES_DIRECTORY}
_NAME_LINE: Final = re.compile(rb'^(\s*"?name"?:\s*"?)[^",\n#]+', re.MULTILINE)
_PACKAGE: Final = Path(__file__).parents[1]
_MAX_SHOWN: Final = 300
"""Characters of a path in an error: the reason stands behind it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One program, read whole: what was here at this moment is what runs.

    `files` maps paths relative to the program's directory to their bytes.  `path` is the
    directory, or the file of a bare program, as the user knows it.  `pins` are the packages that
    it needs beyond the stack.
    """

    name: str
    path: Path
    manifest: Manifest
    files: Mapping[str, bytes]
    signature: Signature | None
    pins: tuple[Pin, ...] = ()

    def shown_path(self, inside: str) -> str:
        """Return the user's path of a file that is called `inside` in the program's directory."""
        if self.path.suffix == ".py":
            return str(self.path)
        return str(self.path / inside)


def images_directory() -> Path:
    """Return the directory of base-image files and example programs, in a wheel or a clone."""
    packaged = _PACKAGE / "data" / "images"
    return packaged if packaged.is_dir() else _PACKAGE.parent / "images"


def program_directories() -> list[Path]:
    """Return where names are looked up: the user's own programs first, then the package's."""
    found: list[Path] = []
    for each in (Path("images/programs"), images_directory() / "programs"):
        if each.is_dir() and not any(each.samefile(other) for other in found):
            found.append(each)
    return found


def find(program: str | os.PathLike[str]) -> Program:
    """Return the program with this name, in this directory, or of this `.py` file.

    Raises UnknownProgramError, or ManifestError if what is there cannot be used.
    """
    text = os.fspath(program)
    path = Path(text)
    with reading(path):
        if os.sep not in text and path.suffix != ".py":
            for directory in program_directories():
                if _manifest_in(directory / text) is not None:
                    return read_directory(_relative(directory / text))
        if text and path.is_dir():
            return read_directory(path)
        if path.suffix == ".py" and path.is_file():
            return _read_bare(path)
    msg = f"no program {text!r}: {_advice(text)}"
    raise UnknownProgramError(msg)


def names() -> list[str]:
    """Return the names that can be run from here, the template left out."""
    return sorted({each for directory in program_directories() for each in _names_in(directory)})


def examples() -> list[Program]:
    """Return the programs that come with this package, by name, wherever this is called.

    Raises ManifestError.
    """
    directory = images_directory() / "programs"
    return [read_directory(directory / name) for name in sorted(_names_in(directory))]


def _names_in(directory: Path) -> set[str]:
    with reading(directory):
        found = {each.name for each in directory.iterdir() if _manifest_in(each) is not None}
    return found - {TEMPLATE}


def own() -> list[str]:
    """Return the programs in this directory as `find` takes them: directories and `.py` files.

    A `.py` file is one if it defines a `main` that can be read.
    """
    found, known = [], set(names())
    with reading(Path()):
        entries = sorted(itertools.islice(Path().iterdir(), MAX_FILES))
    for each in entries:
        if each.suffix == ".py":
            content = _main_file(each)
            if content and Signature.of_source(content) and not signature.flaw(content):
                found.append(each.name)
        elif _manifest_in(each) is not None or _main_file(each / DEFAULT_ENTRY) is not None:
            found.append(f"./{each.name}" if each.name in known else each.name)
    return found


def _main_file(path: Path) -> bytes | None:
    """Return the content of a file that may have a `main`, None if it is none of ours to read."""
    try:
        return read(path, most_bytes=MAX_PARSED)
    except OSError:
        return None


def create(name: str, original: str | None = None) -> Path:
    """Copy a program, or the template, to a new program directory and return it.

    It is made among the user's programs, `images/programs`, if there is such a directory here,
    else right here.  Raises UnknownProgramError, ManifestError for a name that cannot be used or is
    taken, RequestError if nothing can be written here.
    """
    if _name_of(name) != name:
        msg = f"{name!r} cannot be a program's name: lower-case letters, digits, - and _ only"
        raise ManifestError(msg)
    place = Path("images/programs")
    directory = (place if place.is_dir() else Path()) / name
    if directory.exists():
        msg = f"{directory} exists already: choose another name"
        raise ManifestError(msg)
    copied = find(original or images_directory() / "programs" / TEMPLATE)
    for inside, content in {**copied.files, **cases_of(copied)}.items():
        named = inside in MANIFEST_NAMES
        own_name = _NAME_LINE.sub(rf"\g<1>{name}".encode(), content, count=1)
        # Written anew: files of an installed package may be read-only.
        _write(directory / inside, own_name if named else content)
    return directory


def cases_of(program: Program) -> dict[str, bytes]:
    """Return the case files beside a program, by their paths below its directory.

    Raises ManifestError.
    """
    with reading(program.path):
        found = sorted((program.path / CASES_DIRECTORY).glob("*.json"))
    check_size(program.path, len(found), 0)
    return {each.relative_to(program.path).as_posix(): _read_regular(each) for each in found}


def lock(directory: Path, progress: Callable[[str], object]) -> Path:
    """Write the lock file of a program's requirements, and return it.

    Versions are chosen to go with the stack's, for every machine that a sandbox may have.  Raises
    ManifestError for a program without requirements, with odd ones or with some that cannot be
    had beside the stack; ImageError if no index answers.
    """
    named = _manifest_in(directory)
    if named is None:
        msg = f"{directory} has no {MANIFEST_NAME} that could name requirements"
        raise ManifestError(msg)
    manifest = Manifest.from_text(_decode(_read_regular(named), named), source=str(named))
    if manifest.requirements is None:
        msg = f"{named} names no requirements: add `requirements: requirements.txt`, and that file"
        raise ManifestError(msg)
    source = directory / manifest.requirements
    content = _read_regular(source)
    progress(f"resolving {source} for {', '.join(wheels.MACHINES)} …")
    built = directory / wheels.BUILT
    text = _decode(content, source)
    pins = _resolved(text, str(source), progress, built if built.is_dir() else None)
    path = directory / lock_name(manifest.requirements)
    text = f"{wheels.digest(content)}\n{wheels.lock_text(pins)}"
    with _telling(path):
        replace(path, text.encode())
    return path


def requirements_of(lines: list[str], source: str, progress: Callable[[str], object]) -> list[Pin]:
    """Return the pins of requirements that `source` has, chosen as `lock` does."""
    return _resolved("\n".join(lines), source, progress, None) if lines else []


def _resolved(
    text: str, source: str, progress: Callable[[str], object], built: Path | None
) -> list[Pin]:
    base = images_directory() / "base" / "requirements.lock"
    stack = wheels.read_lock(base.read_text(), str(base))
    return resolving.resolve(text, source, stack, progress, built)


def add_wheel(directory: Path, file: str, content: bytes) -> Path:
    """Put a wheel beside a program's files, and return its path.

    Raises ManifestError if it is too large for them, RequestError if it cannot be written.
    """
    path = directory / wheels.BUILT / file
    if len(content) > MAX_PROGRAM_BYTES:
        msg = f"{path}: {len(content)} bytes, and a program may have {MAX_PROGRAM_BYTES} in all"
        raise ManifestError(msg)
    _write(path, content)
    return path


def read_directory(directory: Path) -> Program:
    """Read a program directory.  Raises ManifestError."""
    return of_files(directory, dict(_read_files(directory)))


def of_files(directory: Path, files: dict[str, bytes]) -> Program:
    """Return the program that these files of a directory make; nothing is read from the disk.

    Raises ManifestError.
    """
    named = [name for name in MANIFEST_NAMES if name in files]
    if len(named) > 1:
        msg = f"{directory} has both {named[0]} and {named[1]}: keep one of them"
        raise ManifestError(msg)
    if not named:
        return _without_manifest(directory, files)
    source = directory / named[0]
    manifest = Manifest.from_text(_decode(files[named[0]], source), source=str(source))
    if manifest.entry not in files:
        msg = f"{source}: entry: there is no file {manifest.entry!r} below its directory"
        raise ManifestError(msg)
    return _program(manifest, directory, files)


def _without_manifest(directory: Path, files: dict[str, bytes]) -> Program:
    """Return the program of a directory with a `program.py`, or with a file and IBM's metadata."""
    described = {
        each: manifest
        for each in sorted(files)
        if each.endswith(".py") and "/" not in each
        if (manifest := _described(directory / each, lambda path: files.get(path.name))) is not None
    }
    if DEFAULT_ENTRY in files:
        manifest = described.get(DEFAULT_ENTRY) or Manifest(name=_name_of(directory.resolve().name))
    elif len(described) == 1:
        ((entry, manifest),) = described.items()
        manifest = dataclasses.replace(manifest, entry=entry)
    else:
        many = f"; it has {len(described)} ({', '.join(described)}): name one of these files"
        msg = (
            f"{directory} is no program: it has neither {MANIFEST_NAME} nor {DEFAULT_ENTRY}, nor a "
            f"single file with IBM's metadata beside it{many if described else ''}"
        )
        raise ManifestError(msg)
    return _program(manifest, directory, files)


def _manifest_in(directory: Path) -> Path | None:
    """Return the manifest of a directory, None if it has none that could be read."""
    paths = (directory / name for name in MANIFEST_NAMES)
    return next((each for each in paths if os.path.isfile(each)), None)  # noqa: PTH113  no OSError


def _read_bare(path: Path) -> Program:
    content = _read_regular(path)
    if len(content) > MAX_PROGRAM_BYTES:
        msg = f"{path}: larger than {MAX_PROGRAM_BYTES} bytes"
        raise ManifestError(msg)
    manifest = _described(path, _read_if_there) or Manifest(name=_name_of(path.stem))
    manifest = dataclasses.replace(manifest, entry=DEFAULT_ENTRY, requirements=None)
    return _program(manifest, path, {DEFAULT_ENTRY: content})


def beside(path: Path) -> tuple[Path, ...]:
    """Return where the metadata of a bare program may be: `x.json` and `x_metadata.json`."""
    return tuple(Path(each) for each in metadata.beside(path))


def has_metadata(path: Path) -> bool:
    """Return True if a file is a Python file with IBM's metadata beside it, right or wrong."""
    if path.suffix != ".py":
        return False
    try:
        return _described(path, _read_if_there) is not None
    except ManifestError:
        return True


def _described(path: Path, content_of: Callable[[Path], bytes | None]) -> Manifest | None:
    """Return what the metadata beside a program file say of it, None if there are none."""
    found = {}
    for each in beside(path):
        content = content_of(each)
        text = "" if content is None else _decode(content, each)
        if text and metadata.is_metadata(each, text):
            found[each] = text
    if len(found) > 1:
        msg = f"{path} has metadata in {' and in '.join(each.name for each in found)}: keep one"
        raise ManifestError(msg)
    for each, text in found.items():
        return Manifest.from_text(text, source=str(each), named=_name_of(path.stem))
    return None


def _read_if_there(path: Path) -> bytes | None:
    return None if path.is_symlink() or not path.is_file() else _read_regular(path)


def _program(manifest: Manifest, path: Path, files: dict[str, bytes]) -> Program:
    if flaw := signature.flaw(files[manifest.entry]):
        file = path if path.suffix == ".py" else path / manifest.entry
        msg = f"{file}, {flaw}"
        raise ManifestError(msg)
    return Program(
        name=manifest.name,
        path=path,
        manifest=manifest,
        files=files,
        signature=Signature.of_source(files[manifest.entry]),
        pins=tuple(_pins(manifest, path, files)),
    )


def lock_name(requirements: str) -> str:
    """Return the name of the lock file that belongs to a requirements file."""
    return f"{Path(requirements).stem}.lock"


def _pins(manifest: Manifest, path: Path, files: Mapping[str, bytes]) -> list[Pin]:
    """Return what the program's lock pins; it must be there, and made from its requirements."""
    if manifest.requirements is None:
        return []
    if manifest.requirements not in files:
        msg = f"{path}: requirements: there is no file {manifest.requirements!r}"
        raise ManifestError(msg)
    name = lock_name(manifest.requirements)
    source = path / name
    text = _decode(files.get(name, b""), source)
    if wheels.digest(files[manifest.requirements]) not in text.splitlines():
        state = "is older than" if name in files else "is missing beside"
        msg = f"{source} {state} {manifest.requirements}: run `qrunner lock {path}`"
        raise ManifestError(msg)
    return wheels.read_lock(text, str(source))


def _read_files(directory: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the regular files under a directory, bounded in number and in total size."""
    count = total = 0
    for place, entries in listings(directory, without=_IGNORED):
        if isinstance(entries, OSError):
            raise _unreadable(place, entries)
        for each in entries:
            if each.name.endswith(".pyc"):
                continue
            check_name(Path(each.path))
            if each.is_dir(follow_symlinks=False):
                continue
            content = _read_regular(Path(each.path))
            count, total = count + 1, total + len(content)
            check_size(directory, count, total)
            yield Path(each.path).relative_to(directory).as_posix(), content


def check_size(directory: Path, count: int, total: int) -> None:
    """Refuse too many files, or too many bytes in all of them.  Raises ManifestError."""
    if count > MAX_FILES or total > MAX_PROGRAM_BYTES:
        msg = (
            f"{directory}: more than {MAX_FILES} files or {MAX_PROGRAM_BYTES} bytes: "
            "keep in a program's directory only what it needs"
        )
        raise ManifestError(msg)


def check_name(path: Path) -> None:
    """Refuse a file whose name cannot be printed as it is.  Raises ManifestError."""
    if not path.name.isprintable() or escape(path.name) != path.name:
        msg = f"{_shown(path)}: a name that cannot be printed: rename it"
        raise ManifestError(msg)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what keeps a program's files from being read into ManifestError."""
    try:
        yield
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> ManifestError:
    return ManifestError(f"{_shown(path)}: cannot be read: {error.strerror}")


def _shown(path: Path) -> str:
    return shortened(str(path), _MAX_SHOWN)


def _read_regular(path: Path) -> bytes:
    """Read a file that must be a regular one when it is open, not only when it was looked at."""
    try:
        with regular(path) as file:
            return file.read(MAX_PROGRAM_BYTES + 1)
    except OSError as error:
        with contextlib.suppress(OSError):
            if not stat.S_ISREG(path.lstat().st_mode):
                what = "a symbolic link or special file; programs are of regular files only"
                msg = f"{_shown(path)}: {what}"
                raise ManifestError(msg) from error
        raise _unreadable(path, error) from error


def _write(path: Path, content: bytes) -> None:
    """Write a file and the directories above it.  Raises RequestError."""
    with _telling(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@contextlib.contextmanager
def _telling(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        msg = f"{path}: cannot be written: {error.strerror}; choose another directory to work in"
        raise RequestError(msg) from error


def _decode(content: bytes, path: Path) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        msg = f"{path}: not UTF-8: {error.reason} at byte {error.start}"
        raise ManifestError(msg) from error


def _name_of(stem: str) -> str:
    return re.sub(r"[^a-z0-9_-]+", "-", stem.lower()).strip("-_")[:63] or "program"


def _relative(path: Path) -> Path:
    """Return the path as the user would write it from here, if it is below."""
    with_cwd = path.resolve()
    return with_cwd.relative_to(Path.cwd()) if with_cwd.is_relative_to(Path.cwd()) else path


def _advice(text: str) -> str:
    close = difflib.get_close_matches(text, names(), n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    known = ", ".join(names()) or "none"
    return f"neither a directory, nor a .py file, nor one of the known names ({known})"
