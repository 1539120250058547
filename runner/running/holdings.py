"""What a supervisor has taken and must give back, however it ends.

Kept apart from the `Supervisor` itself, so that the garbage collector or the end of the
interpreter can close what nobody has closed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import weakref
from typing import Final, Protocol

from runner.engine import Engine
from runner.host.processes import HostProcess
from runner.host.workers import Workers
from runner.running.task import Task
from runner.sandboxes import residence
from runner.sandboxes.pool import Pool
from runner.sandboxes.reaper import Reaper
from runner.sandboxes.sweep import Janitor

log = logging.getLogger(__name__)

PATIENCE_S: Final = 5.0
"""How long `close` waits while nothing gets any further; a stuck engine makes it give up then."""


class Closable(Protocol):
    """What a session has sandboxes by, also between two jobs."""

    def close(self) -> None: ...


class Holdings:
    """The engine's connection, the threads, the pool, the janitor, and what is on the host.

    `sessions` are closed before anything is waited for: they have sandboxes without a thread.
    """

    def __init__(self, engine: Engine, *, keep_engine: bool, max_jobs: int) -> None:
        self.engine = engine
        self.workers: Workers[Task] = Workers(max_jobs)
        self.pool: Pool | None = None
        self.sessions: weakref.WeakSet[Closable] = weakref.WeakSet()
        self.reaper = Reaper()
        self.process = HostProcess.current()
        self.pid = os.getpid()
        self._keep_engine = keep_engine
        self._janitor: Janitor | None = None
        self._is_resident = False

    def move_in(self, *, own_cgroup: bool) -> None:
        """Get ready for the first sandbox; call it again if it has failed."""
        if self._janitor is None:
            self._janitor = Janitor()
        if not self._is_resident:
            residence.move_in(self.process, own_cgroup=own_cgroup)
            self._is_resident = True

    def close(self) -> None:
        """Cancel every job, wait for the clean-up, and release everything.

        When nothing has moved for `PATIENCE_S`, the rest is done in the background as soon as the
        engine works again, or by the janitor after the end of this process.
        """
        if os.getpid() != self.pid:
            return  # a forked child: all of it is its parent's
        for task in self.workers.close():
            task.job.cancel()
        for session in list(self.sessions):
            session.close()
        if self.pool is not None:
            self.pool.close()
        if self._settle(PATIENCE_S):
            return
        log.warning("the engine does not let go of everything; it is removed as soon as it does")
        with contextlib.suppress(RuntimeError):  # none is started at the end of the interpreter
            threading.Thread(target=self._settle, name="qrunner-close", daemon=True).start()

    def _settle(self, patience_s: float | None = None) -> bool:
        """Wait until all is gone, then leave this host; return whether that has come to pass."""
        if self.pool is not None and not self.pool.join(patience_s):
            return False
        if not self.workers.join(patience_s) or not self.reaper.join(patience_s):
            return False
        if self._is_resident:
            self._is_resident = False
            residence.move_out(self.process)
        if self._janitor is not None:
            self._janitor.close()
        if not self._keep_engine:
            with contextlib.suppress(OSError):
                self.engine.close()
        return True
