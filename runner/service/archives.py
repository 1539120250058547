"""A program's directory as it arrives in a request: as JSON, or as a tar archive.

Only regular files with plain names are taken, and nothing is written to the disk.  The size of what
is unpacked is bounded before it is unpacked.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import tarfile
import zlib
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import Any, Final

from runner.errors import ManifestError
from runner.programs import CASES_DIRECTORY, NOT_SOURCES, check_name, check_size
from runner.programs.program import MAX_FILES, MAX_PROGRAM_BYTES
from runner.service.faults import RefusedError

_GZIP: Final = b"\x1f\x8b"
_TAR_BYTES: Final = MAX_PROGRAM_BYTES + MAX_FILES * 3 * tarfile.BLOCKSIZE
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS
_WHERE: Final = Path("program")


def from_json(files: object) -> dict[str, bytes]:
    """Return the files of `{path: base64}`.  Raises ManifestError, RefusedError."""
    if not isinstance(files, Mapping) or not files:
        msg = "files: an object of paths and their content in base64, at least one"
        raise RefusedError(HTTPStatus.BAD_REQUEST, msg)
    found: dict[str, bytes] = {}
    for name, text in files.items():
        if not isinstance(text, str):
            msg = f"files: {name!r:.80} is no text: the content must be base64"
            raise RefusedError(HTTPStatus.BAD_REQUEST, msg)
        _take(found, str(name), decoded(text, f"files: {name!r:.80}"))
    return found


def from_files(files: Iterable[tuple[str, bytes]]) -> dict[str, bytes]:
    """Return files that arrive one by one, all of which may stand in one directory.

    Raises ManifestError.
    """
    found: dict[str, bytes] = {}
    for name, content in files:
        _take(found, name, content)
    return _without_top(found)


def to_json(files: Mapping[str, bytes]) -> dict[str, Any]:
    """Return files as `from_json` takes them."""
    return {name: base64.b64encode(content).decode() for name, content in files.items()}


def decoded(text: str | bytes, what: str) -> bytes:
    """Return what base64 says.  Raises RefusedError that names `what`."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        msg = f"{what} is not base64: {error!s:.100}"
        raise RefusedError(HTTPStatus.BAD_REQUEST, msg) from None


def from_tar(body: bytes) -> dict[str, bytes]:
    """Return the files of a tar archive, which may be compressed by gzip.

    All may stand in one directory, as `tar czf p.tgz my_program` packs them.  Raises ManifestError,
    RefusedError.
    """
    content = _unpacked(body) if body.startswith(_GZIP) else body
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            for member in archive:
                if member.isdir() or _is_ignored(member.name):
                    continue
                if not member.isreg():
                    msg = f"{member.name!r:.200}: programs are of regular files only"
                    raise ManifestError(msg)
                file = archive.extractfile(member)
                assert file is not None
                _take(found, member.name, file.read())
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        msg = f"the body is not a readable tar archive: {error!s:.100}"
        raise RefusedError(HTTPStatus.BAD_REQUEST, msg) from None
    return _without_top(found)


def _unpacked(body: bytes) -> bytes:
    unpacker = zlib.decompressobj(_GZIP_WINDOW)
    try:
        content = unpacker.decompress(body, _TAR_BYTES)
    except zlib.error as error:
        msg = f"the body is not readable as gzip: {error!s:.100}"
        raise RefusedError(HTTPStatus.BAD_REQUEST, msg) from None
    if unpacker.unconsumed_tail:
        check_size(_WHERE, 1, MAX_PROGRAM_BYTES + 1)
    return content


def _take(found: dict[str, bytes], name: str, content: bytes) -> None:
    """Add a file whose name is a plain path below the program's directory."""
    path = PurePosixPath(name)
    parts = path.parts
    plain = bool(parts) and not path.is_absolute() and ".." not in parts and "\\" not in name
    if not plain or "\0" in name:
        msg = f"{name!r:.200}: the path of a file must lead into the program's directory"
        raise ManifestError(msg)
    for each in parts:
        check_name(Path(each))
    if _is_ignored(name):
        return
    found[str(path)] = content
    check_size(_WHERE, len(found), sum(map(len, found.values())))


def _is_ignored(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return bool(set(parts) & NOT_SOURCES) or name.endswith(".pyc")


def split(files: Mapping[str, bytes]) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Return the files of the program itself, and its cases, by their names in `cases/`."""
    own, cases = {}, {}
    for name, content in files.items():
        parts = PurePosixPath(name).parts
        if CASES_DIRECTORY not in parts[:-1]:
            own[name] = content
        elif len(parts) == 2 and name.endswith(".json"):
            cases[parts[1]] = content
    return own, cases


def packed(files: Mapping[str, bytes]) -> bytes:
    """Return files as `unpacked` takes them, b"" for none."""
    return zlib.compress(json.dumps(to_json(files)).encode()) if files else b""


def unpacked(content: bytes) -> dict[str, bytes]:
    """Return the files that `packed` packed."""
    return from_json(json.loads(zlib.decompress(content))) if content else {}


def _without_top(files: dict[str, bytes]) -> dict[str, bytes]:
    """Leave out the directory that holds all the files, if there is one."""
    tops = {name.partition("/")[0] for name in files}
    if len(tops) != 1 or any("/" not in name for name in files):
        return files
    return {name.partition("/")[2]: content for name, content in files.items()}
