"""Removal of what dead supervisors left: containers, control groups and directories.

Sandboxes of a dead supervisor die by themselves, because their stdin closes; the engine and the
host still hold resources, which are removed here.  Nothing of a living process is ever touched.
`Janitor` is a process that waits for its supervisor's death and then sweeps, so that even SIGKILL
leaves nothing behind; if it is killed too, the next start sweeps.
"""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from runner.engine import OWN_LABEL, Engine
from runner.engine.forks import close_in_children
from runner.errors import EngineError
from runner.host.processes import HostProcess
from runner.sandboxes import cgroup, residence

log = logging.getLogger(__name__)

_EXIT_S: Final = 5.0

_CLEAN_S: Final = 4.0
"""How long the janitor must find nothing before it exits, in seconds: the engine may still be busy
with the last request of the dead supervisor, such as creating a container."""

_PATIENCE_S: Final = 600.0
"""How long the janitor waits for an engine that does not answer, in seconds."""

_PAUSE_S: Final = 0.25
_ENGINE_S: Final = 20.0

# Until its supervisor is dead the janitor is a bare interpreter, which starts in milliseconds.
_JANITOR: Final = """
import sys
if not sys.stdin.buffer.read(1):
    from runner.sandboxes.sweep import janitor
    janitor()
"""

_ORPHANED: Final = "import os\nif os.fork(): os._exit(0)\n"


def sweep(engine: Engine) -> int:
    """Remove everything of dead processes; return the number of containers and traces removed."""
    removed = 0
    for process in cgroup.processes():
        if process.is_dead():
            cgroup.kill_groups(process)  # the engine removes dead containers without waiting
    for container, labels in engine.containers().items():
        named = HostProcess.parse(labels.get(f"{OWN_LABEL}.owner", ""))
        if named is None or not named.is_dead():
            continue
        try:
            engine.remove(container)
            removed += 1
        except EngineError as error:
            log.warning("container %s of a dead supervisor cannot be removed: %s", container, error)
    for process in residence.processes():
        if process.is_dead():
            residence.remove_traces(process)
            removed += 1
    residence.tidy()
    return removed


def janitor() -> None:
    """Sweep until nothing more is found; runs in the janitor after its supervisor's death."""
    clean_since = None
    give_up = time.monotonic() + _PATIENCE_S
    while time.monotonic() < give_up:
        try:
            engine = Engine.connect(timeout_s=_ENGINE_S)
            try:
                found = sweep(engine)
            finally:
                engine.close()
        except EngineError as error:
            log.warning("the sweep after a supervisor's death failed, trying again: %s", error)
            clean_since = None
        else:
            now = time.monotonic()
            clean_since = now if found or clean_since is None else clean_since
            if now - clean_since >= _CLEAN_S:
                return
        time.sleep(_PAUSE_S)


class Janitor:
    """A process that outlives a killed supervisor for as long as a sweep takes.

    With `orphaned` it is no one's child, for places where the children of a dead process are killed
    too.
    """

    def __init__(self, *, orphaned: bool = False) -> None:
        self._lifeline, end = socket.socketpair()
        close_in_children(self._lifeline)
        with end:
            # A session of its own: a signal to the supervisor's process group must not reach it.
            self._process = subprocess.Popen(
                [sys.executable, "-s", "-c", (_ORPHANED if orphaned else "") + _JANITOR],
                stdin=end.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=Path(__file__).parents[2],
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def close(self) -> None:
        """End it without a sweep."""
        try:
            with self._lifeline:
                self._lifeline.sendall(b"q")
            self._process.wait(_EXIT_S)
        except (subprocess.TimeoutExpired, OSError):
            self._process.kill()
            self._process.wait()
