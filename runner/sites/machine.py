"""The site that a supervisor submits jobs to, and this machine as the default site.

The other site is a cluster: `runner.sites.remote`.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from typing import Final, Protocol

from runner.engine import Engine
from runner.errors import RequestError
from runner.host.closing import Openings, close_all
from runner.host.interrupt import CancelledError, check
from runner.host.workers import Workers
from runner.images import ImageStore
from runner.policy import Limits, Policy
from runner.programs import Program
from runner.running.execution import Execution
from runner.running.lanes import Lanes, Queue
from runner.running.supply import Cells, Supply, place_of
from runner.running.task import Task
from runner.running.verdict import Verdict
from runner.sandboxes.pool import Pool, Warm
from runner.sandboxes.spec import Carrier
from runner.sandboxes.starts import CORES, memory_share

log = logging.getLogger(__name__)

PATIENCE_S: Final = 5.0
"""How long `close` waits without progress before it gives up on a stuck engine, in seconds."""


class Site(Protocol):
    """Where a supervisor's jobs run; `sessions` are the sessions that it closes with itself."""

    workers: Workers[Task]
    sessions: Openings

    @property
    def pool(self) -> Pool | None:
        """The pool of waiting sandboxes, None if there is none."""

    @property
    def slots(self) -> int:
        """How many jobs at once keep the site busy."""

    def cell_obstacle(self) -> str:
        """Return why no cells are made, empty if they are."""

    def zygotes(self) -> tuple[int, int]:
        """Return how many zygotes there are, and how many cells they have together."""

    def check(self, limits: Limits) -> None:
        """Raise RequestError, with the numbers, if a job with these limits can never run."""

    def image(self, name: str) -> str | None:
        """Return the id of a job's own image if it can be used, else None."""

    def package(self, program: Program) -> str | None:
        """Build the image of a program now, and return its id; None if the nodes build it."""

    def work(self, task: Task) -> None:
        """Execute one job in a worker's thread; it always ends with a record."""

    def queue(self, count: int) -> Queue:
        """Return the queue for the jobs of a session, of which `count` run at once."""

    def close(self) -> None:
        """Cancel every job, wait until everything is removed, and release everything."""


class Machine:
    """This machine: its engine, the threads for jobs, and the sandboxes.

    It is separate from the `Supervisor`, so that the interpreter's end can close it if the user has
    not.
    """

    def __init__(  # noqa: PLR0913  keywords only but for the first
        self,
        engine: Engine | None,
        *,
        policy: Policy,
        carrier: str | None,
        max_jobs: int | None,
        max_jobs_of_user: int | None,
        memory_budget_bytes: int | None,
        warm: bool,
        cells: Cells,
        progress: Callable[[str], object],
    ) -> None:
        forced = _carrier(carrier)
        self._keep_engine = engine is not None
        self.engine = engine or Engine.connect()
        self.workers: Workers[Task] = Workers(max_jobs or 4 * CORES, most_of_user=max_jobs_of_user)
        self.sessions: Openings = {}
        self.workers.set_budget(memory_budget_bytes or memory_share())
        self.slots = CORES
        self._budget = memory_budget_bytes
        # Between two jobs, sessions have sandboxes without a thread.
        images = ImageStore(self.engine, progress=progress)
        self.supply = Supply(self.engine, images, policy, forced, warm=warm, cells=cells)

    @property
    def pool(self) -> Pool | None:
        """The pool of waiting sandboxes, None if there is none."""
        return self.supply.pool

    def cell_obstacle(self) -> str:
        """Return why no cells are made, empty if they are."""
        return self.supply.cell_obstacle()

    def zygotes(self) -> tuple[int, int]:
        """Return how many zygotes there are, and how many cells they have together."""
        return self.supply.zygotes()

    def stock(self, program: Program, limits: Limits, size: Warm) -> None:
        """Keep sandboxes of this program waiting from now on."""
        self.supply.stock(program, limits, size)

    def check(self, limits: Limits) -> None:
        """Raise RequestError if such a job exceeds the budget that the operator has set."""
        if self._budget is not None and limits.memory_bytes > self._budget:
            msg = (
                f"a job of {limits.memory_bytes} bytes of memory never fits into this supervisor's "
                f"budget of {self._budget}: lower the job's memory_bytes or raise the budget"
            )
            raise RequestError(msg)

    def image(self, name: str) -> str | None:
        """Return the id of this image if the engine still has it."""
        return self.engine.image_id(name)

    def package(self, program: Program) -> str | None:
        """Build the image of a program, and return its id."""
        return self.supply.package(program)

    def work(self, task: Task) -> None:
        """Execute one job."""
        self.supply.work(task, self._execute)

    def _execute(self, task: Task) -> Verdict:
        with task.interrupt.scope():
            check()
            task.waker.open()
            sandbox = self.supply.acquire(task)
        if not task.job.start():
            raise CancelledError
        place = place_of(self.engine, sandbox)
        execution = Execution(place, task.job, task.limits, task.waker, task.device)
        return execution.run(task.request)

    def queue(self, count: int) -> Lanes:
        """Return the lanes of a session."""
        return Lanes(self.supply, self.engine, self.workers, count)

    def close(self) -> None:
        """Cancel every job, wait until everything is removed, and release everything.

        After `PATIENCE_S` without progress the rest is done in the background as soon as the engine
        works again, or by the janitor after the end of this process.
        """
        for task in self.workers.close():
            task.job.cancel()
        close_all(self.sessions)
        self.supply.close()
        if self._settle(PATIENCE_S):
            return
        log.warning("the engine does not release everything yet; the rest is removed later")
        with contextlib.suppress(RuntimeError):  # no thread starts at the interpreter's end
            threading.Thread(target=self._settle, name="qrunner-close", daemon=True).start()

    def _settle(self, patience_s: float | None = None) -> bool:
        """Wait until all is gone, then remove this process's traces; return True if so."""
        if not self.workers.join(patience_s) or not self.supply.join(patience_s):
            return False
        if not self._keep_engine:
            with contextlib.suppress(OSError):
                self.engine.close()
        return True


def _carrier(name: str | None) -> Carrier | None:
    try:
        return Carrier(name) if name else None
    except ValueError:
        msg = f"unknown carrier {name!r}: known are {', '.join(Carrier)}"
        raise RequestError(msg) from None
