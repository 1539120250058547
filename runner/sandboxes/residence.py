"""Resources of one process on this host besides containers: a channel directory, control groups.

Both carry the process's name, so that a sweep can tell living processes from dead ones.  All
supervisors of one process share them: the first one makes them, and the last one to leave removes
them.
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
from runner.host.processes import SCRATCH_PREFIX, HostProcess
from runner.sandboxes import cgroup

_ATTEMPTS: Final = 100

_lock: Final = threading.Lock()
_residents: Final[Counter[HostProcess]] = Counter()


def move_in(process: HostProcess, *, own_cgroup: bool) -> None:
    """Register one supervisor; each `move_in` needs its `move_out`."""
    with _lock:
        _residents[process] += 1
        if own_cgroup:
            cgroup.make_groups(process)


def move_out(process: HostProcess) -> None:
    """Unregister one supervisor; remove this process's traces if it was the last."""
    with _lock:
        _residents[process] -= 1
        if _residents[process] <= 0:
            del _residents[process]
            remove_traces(process)


def channel_root() -> Path:
    """Return this user's private directory for channels; make it if needed.

    Raises EngineError if something else is in its place.
    """
    uid = os.getuid()
    root = Path(tempfile.gettempdir()) / f"qrunner-{uid}"
    for _ in range(_ATTEMPTS):
        # Not exist_ok: that also raises if the directory is removed between its two steps.
        with contextlib.suppress(FileExistsError):
            root.mkdir(mode=0o700)
        try:
            status = root.lstat()
        except FileNotFoundError:
            continue  # another supervisor was the last one, and has removed the empty directory
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != uid or status.st_mode & 0o077:
            msg = f"{root} is not a private directory of user {uid}: remove it, or set TMPDIR"
            raise EngineError(msg)
        return root
    msg = f"{root} vanishes as soon as it is made"
    raise EngineError(msg)


def make_channel(process: HostProcess) -> Path:
    """Make and return an empty directory for the channel of one sandbox."""
    for _ in range(_ATTEMPTS):
        directory = channel_root() / str(process) / secrets.token_hex(6)
        # Between the two calls another supervisor may remove the root, which is empty until then.
        with contextlib.suppress(FileNotFoundError):
            directory.parent.mkdir(mode=0o700, exist_ok=True)
            directory.mkdir()
            return directory
    msg = f"{channel_root()} vanishes as soon as it is made"
    raise EngineError(msg)


def processes() -> set[HostProcess]:
    """Return the processes that have channels or control groups on this host."""
    found: set[HostProcess | None] = set()
    with contextlib.suppress(FileNotFoundError):
        found |= {HostProcess.parse(each.name) for each in channel_root().iterdir()}
    found |= {HostProcess.parse(_scratch_process(each)) for each in _scratch()}
    return {each for each in found if each is not None} | cgroup.processes()


def remove_traces(process: HostProcess) -> bool:
    """Remove this process's resources and unused roots; return True if all is gone."""
    directory = channel_root() / str(process)
    shutil.rmtree(directory, ignore_errors=True)
    for each in _scratch():
        if _scratch_process(each) == str(process):
            shutil.rmtree(each, ignore_errors=True)
    tidy()
    return cgroup.remove_groups(process) and not directory.exists()


def tidy() -> None:
    """Remove the channel directory if it is empty; it may exist only because it was looked into."""
    with contextlib.suppress(OSError):
        channel_root().rmdir()


def _scratch() -> list[Path]:
    found = []
    for each in Path(tempfile.gettempdir()).glob(f"{SCRATCH_PREFIX}*"):
        with contextlib.suppress(OSError):  # removed in the meantime
            if each.lstat().st_uid == os.getuid():
                found.append(each)
    return found


def _scratch_process(directory: Path) -> str:
    """Return the process's name, without the unique suffix of `tempfile` after the last hyphen."""
    return directory.name.removeprefix(SCRATCH_PREFIX).rpartition("-")[0]
