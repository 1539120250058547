"""Removing what dead supervisors left: their containers and channel directories.

Sandboxes of a dead supervisor die by themselves, because their stdin closes; what the engine and
the file system still hold of them is removed here.  Nothing of a living owner is ever touched.
`Janitor` is a process that waits for its supervisor's death and then sweeps, so that even
SIGKILL leaves nothing behind; if it is killed too, the next start sweeps.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from runner import cgroup
from runner.engine import OWN_LABEL, Engine
from runner.errors import EngineError
from runner.owner import Owner

log = logging.getLogger(__name__)

_EXIT_S: Final = 5.0
_ATTEMPTS: Final = 10

# Until its supervisor is dead the janitor is a bare interpreter: a few milliseconds to start.
_JANITOR: Final = """
import sys
if not sys.stdin.buffer.read(1):
    from runner.sweep import janitor
    janitor()
"""


def channel_root() -> Path:
    """Return this user's private directory for channels, made if needed.

    Raises EngineError if something else is in its place.
    """
    uid = os.getuid()
    root = Path(tempfile.gettempdir()) / f"qrunner-{uid}"
    root.mkdir(mode=0o700, exist_ok=True)
    status = root.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != uid or status.st_mode & 0o077:
        msg = f"{root} is not a private directory of user {uid}: remove it, or set TMPDIR"
        raise EngineError(msg)
    return root


def make_owner_directory(owner: Owner) -> Path:
    """Make and return where this owner's channels live; named by it, so that a sweep can tell."""
    for _ in range(_ATTEMPTS):
        directory = channel_root() / str(owner)
        # Between the two another supervisor, the last one until now, may remove the empty root.
        with contextlib.suppress(FileNotFoundError):
            directory.mkdir(mode=0o700, exist_ok=True)
            return directory
    msg = f"{channel_root()} vanishes as soon as it is made"
    raise EngineError(msg)


def remove_traces(owner: Owner) -> None:
    """Remove what this owner has on this host: channels, control groups, and unused roots."""
    root = channel_root()
    shutil.rmtree(root / str(owner), ignore_errors=True)
    with contextlib.suppress(OSError):
        root.rmdir()
    cgroup.remove_owner(owner)


def sweep(engine: Engine) -> int:
    """Remove everything whose owner is dead; return how many containers and traces there were."""
    removed = 0
    for container, labels in engine.containers().items():
        owner = Owner.parse(labels.get(f"{OWN_LABEL}.owner", ""))
        if owner is None or not owner.is_dead():
            continue
        try:
            engine.remove(container)
            removed += 1
        except EngineError as error:
            log.warning("container %s of a dead supervisor cannot be removed: %s", container, error)
    named = {Owner.parse(each.name) for each in channel_root().iterdir()}
    for owner in named | cgroup.owners():
        if owner is not None and owner.is_dead():
            remove_traces(owner)
            removed += 1
    with contextlib.suppress(OSError):
        channel_root().rmdir()
    return removed


def janitor() -> None:
    """Sweep once, quietly; runs in the janitor's process after its supervisor has died."""
    try:
        sweep(Engine.connect())
    except EngineError as error:
        log.warning("the sweep after a supervisor's death failed: %s", error)


class Janitor:
    """The process that outlives a killed supervisor by the moment that a sweep takes."""

    def __init__(self) -> None:
        # A session of its own: a signal to the supervisor's process group must not reach it.
        self._process = subprocess.Popen(
            [sys.executable, "-s", "-c", _JANITOR],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=Path(__file__).parent.parent,
            start_new_session=True,
        )

    def close(self) -> None:
        """Send it home without a sweep."""
        try:
            self._process.communicate(b"q", timeout=_EXIT_S)
        except (subprocess.TimeoutExpired, OSError):
            self._process.kill()
            self._process.wait()
