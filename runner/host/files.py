"""Files that others may have made or may be changing: opened once, and replaced as a whole."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Container, Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def regular(path: Path, *, follow: bool = False) -> Iterator[BinaryIO]:
    """Open a file for reading, and check that the opened file is a regular one.

    Raises OSError, with a `strerror` that says so for anything else; follows a link only with
    `follow`.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    # Non-blocking: opening a pipe would wait for a writer.
    with os.fdopen(os.open(path, flags | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        yield file


def listings(
    top: Path, *, without: Container[str] = ()
) -> Iterator[tuple[Path, list[os.DirEntry[str]] | OSError]]:
    """Yield each directory from `top` on, with its sorted entries or the error that prevents it.

    Names in `without` are left out, and links to directories are not followed.  A tree may be
    deeper than paths can be long; that is such an error.
    """
    pending = [top]
    while pending:
        directory = pending.pop()
        try:
            with os.scandir(directory) as found:
                entries = sorted((e for e in found if e.name not in without), key=_by_name)
            inner = [Path(each.path) for each in entries if each.is_dir(follow_symlinks=False)]
        except OSError as error:
            yield directory, error
            continue
        pending += reversed(inner)
        yield directory, entries


def _by_name(entry: os.DirEntry[str]) -> str:
    return entry.name


def read(path: Path, *, most_bytes: int, follow: bool = False) -> bytes:
    """Return the content of a regular file.  Raises OSError, also if it exceeds `most_bytes`."""
    with regular(path, follow=follow) as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise OSError(errno.EFBIG, f"larger than {most_bytes} bytes", str(path))
    return content


def replace(path: Path, content: bytes) -> None:
    """Replace a whole file atomically, never through a link.  Raises OSError."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
