"""What one process has on this host besides containers: a directory for channels, control groups.

Both carry the owner's name, so that a sweep can tell the living from the dead.  All supervisors
of one process share them: the first makes them, the last to leave removes them.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
import tempfile
import threading
from collections import Counter
from pathlib import Path
from typing import Final

from runner.errors import EngineError
from runner.host.processes import SCRATCH_PREFIX, Owner
from runner.sandboxes import cgroup

_ATTEMPTS: Final = 100

_lock: Final = threading.RLock()
_residents: Final[Counter[Owner]] = Counter()


def move_in(owner: Owner, *, own_cgroup: bool) -> None:
    """Register one supervisor; each `move_in` has its `move_out`."""
    with _lock:
        _residents[owner] += 1
        if own_cgroup:
            cgroup.make_owner(owner)


def move_out(owner: Owner) -> None:
    """Remove this process's traces if its last supervisor has left."""
    with _lock:
        _residents[owner] -= 1
        if _residents[owner] <= 0:
            del _residents[owner]
            remove_traces(owner)


def channel_root() -> Path:
    """Return this user's private directory for channels, made if needed.

    Raises EngineError if something else is in its place.
    """
    uid = os.getuid()
    root = Path(tempfile.gettempdir()) / f"qrunner-{uid}"
    for _ in range(_ATTEMPTS):
        # Not exist_ok: that raises too if the directory is removed between its two steps.
        with contextlib.suppress(FileExistsError):
            root.mkdir(mode=0o700)
        try:
            status = root.lstat()
        except FileNotFoundError:
            continue  # the last supervisor until now has removed it, being empty
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != uid or status.st_mode & 0o077:
            msg = f"{root} is not a private directory of user {uid}: remove it, or set TMPDIR"
            raise EngineError(msg)
        return root
    msg = f"{root} vanishes as soon as it is made"
    raise EngineError(msg)


def make_channel(owner: Owner) -> Path:
    """Make and return an empty directory for the channel of one sandbox."""
    for _ in range(_ATTEMPTS):
        directory = channel_root() / str(owner) / secrets.token_hex(6)
        # Between the two another supervisor may remove the root, which is empty until then.
        with contextlib.suppress(FileNotFoundError):
            directory.parent.mkdir(mode=0o700, exist_ok=True)
            directory.mkdir()
            return directory
    msg = f"{channel_root()} vanishes as soon as it is made"
    raise EngineError(msg)


def owners() -> set[Owner]:
    """Return everybody who has something here."""
    found: set[Owner | None] = set()
    with contextlib.suppress(FileNotFoundError):
        found |= {Owner.parse(each.name) for each in channel_root().iterdir()}
    found |= {Owner.parse(_scratch_owner(each)) for each in _scratch()}
    return {each for each in found if each is not None} | cgroup.owners()


def remove_traces(owner: Owner) -> bool:
    """Remove what this owner has on this host, and unused roots; return whether all is gone."""
    directory = channel_root() / str(owner)
    shutil.rmtree(directory, ignore_errors=True)
    for each in _scratch():
        if _scratch_owner(each) == str(owner):
            shutil.rmtree(each, ignore_errors=True)
    tidy()
    return cgroup.remove_owner(owner) and not directory.exists()


def tidy() -> None:
    """Remove the directory for channels if nobody has one; looking into it has made it."""
    with contextlib.suppress(OSError):
        channel_root().rmdir()


def _scratch() -> list[Path]:
    found = []
    for each in Path(tempfile.gettempdir()).glob(f"{SCRATCH_PREFIX}*"):
        with contextlib.suppress(OSError):  # removed while we look
            if each.lstat().st_uid == os.getuid():
                found.append(each)
    return found


def _scratch_owner(directory: Path) -> str:
    """Return the owner's name; what `tempfile` makes unique stands behind the last hyphen."""
    return directory.name.removeprefix(SCRATCH_PREFIX).rpartition("-")[0]
