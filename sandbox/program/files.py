"""Files that a program leaves in `/out`: sent to the host when `main` has ended, within bounds.

`/out` leads into the sandbox's own `/tmp`.  What is left out is named in the log.
"""

from __future__ import annotations

import base64
import contextlib
import os
import stat
from collections.abc import Iterator
from typing import Final

from sandbox.program.messenger import Outbox
from sandbox.wire import protocol

_BOUNDS: Final = (
    f"at most {protocol.MAX_FILES} regular files of {protocol.MAX_FILE_BYTES // protocol.MIB} MiB, "
    f"{protocol.MAX_FILES_BYTES // protocol.MIB} MiB in all"
)
_MAX_DEPTH: Final = 8
_MAX_LOOKED_AT: Final = 10 * protocol.MAX_FILES
"""How many entries are looked at; `/tmp` may have thousands."""


def prepare() -> None:
    """Make the directory that `/out` leads to; does nothing where there is no such link."""
    with contextlib.suppress(OSError):
        os.mkdir(os.readlink(protocol.OUT_DIRECTORY))  # noqa: PTH102, PTH115  pathlib takes longer


def send(outbox: Outbox, directory: str = protocol.OUT_DIRECTORY) -> None:
    """Send the files in the directory; whatever goes wrong, the job's end is still to be sent."""
    try:
        if not os.listdir(directory):  # noqa: PTH208
            return
    except OSError:
        return
    count, room = 0, protocol.MAX_FILES_BYTES
    for name, path in _files(directory):
        content = None if count == protocol.MAX_FILES else _content(path, room)
        if content is None or not protocol.is_file_name(name):
            _say(f"/out/{ascii(name)[1:-1]:.300} is not kept: {_BOUNDS}")
            continue
        count, room = count + 1, room - len(content)
        outbox.send_file(name, base64.b64encode(content).decode())


def _files(directory: str) -> Iterator[tuple[str, str]]:
    """Yield name and path of what is no directory, in the order of the names, bounded."""
    pending, seen = [("", directory, 0)], 0
    while pending:
        prefix, place, depth = pending.pop(0)
        try:
            entries = sorted(os.scandir(place), key=lambda each: each.name)
        except OSError:
            continue
        for each in entries:
            seen += 1
            if seen > _MAX_LOOKED_AT:
                _say(f"/out: of more than {_MAX_LOOKED_AT} entries the rest is not kept")
                return
            name = f"{prefix}{each.name}"
            if not each.is_dir(follow_symlinks=False):
                yield name, each.path
            elif depth < _MAX_DEPTH:
                pending.append((f"{name}/", each.path, depth + 1))


def _content(path: str, room: int) -> bytes | None:
    """Return the content of a regular file, None if it is none or too large."""
    most = min(room, protocol.MAX_FILE_BYTES)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        content = file.read(most + 1)
    return content if len(content) <= most else None


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # the program may have closed stderr
        os.write(2, f"qrunner: {text}\n".encode(errors="backslashreplace"))
