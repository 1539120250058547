"""Where jobs run: the site that a supervisor submits to, and this machine as the usual one.

A cluster is the other: `runner.sites.remote`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from runner.engine import Engine
from runner.errors import RequestError
from runner.host.workers import Workers
from runner.images import ImageStore
from runner.policy import Limits, Policy
from runner.programs import Program
from runner.running.dispatch import Dispatcher
from runner.running.holdings import Holdings
from runner.running.lanes import Lanes, Queue
from runner.running.task import Task
from runner.sandboxes.pool import Pool, Warm
from runner.sandboxes.spec import Carrier
from runner.sandboxes.starts import CORES, memory_share


class Site(Protocol):
    """Where a supervisor's jobs run.  It belongs to the process `pid`."""

    pid: int
    workers: Workers[Task]

    @property
    def pool(self) -> Pool | None:
        """The sandboxes that wait for jobs, if any are wanted."""

    @property
    def slots(self) -> int:
        """How many jobs at once keep it busy."""

    def check(self, limits: Limits) -> None:
        """Raise RequestError, with the numbers, if a job of these limits can never run."""

    def image(self, name: str) -> str | None:
        """Return the id of an image that a job can be given instead of its program's, if any."""

    def work(self, task: Task) -> None:
        """Execute one job, in a worker's thread; whatever happens, it ends with a record."""

    def queue(self, count: int, work: Callable[[Task], object]) -> Queue:
        """Return what the jobs of a session go to, `count` at once; `work` is the caller's own."""

    def close(self) -> None:
        """Cancel every job, wait for the clean-up, and release everything."""


class Machine:
    """This machine: its engine, and sandboxes beside it."""

    def __init__(
        self,
        engine: Engine | None,
        *,
        policy: Policy,
        carrier: str | None,
        max_jobs: int | None,
        memory_budget_bytes: int | None,
        progress: Callable[[str], object],
    ) -> None:
        forced = _carrier(carrier)
        connected = engine or Engine.connect()
        self.holdings = Holdings(
            connected, keep_engine=engine is not None, max_jobs=max_jobs or 4 * CORES
        )
        self.pid = self.holdings.pid
        self.workers = self.holdings.workers
        self.workers.set_budget(memory_budget_bytes or memory_share())
        self.slots = CORES
        self._budget = memory_budget_bytes
        images = ImageStore(connected, progress=progress)
        self._dispatcher = Dispatcher(self.holdings, images, policy, forced)

    @property
    def pool(self) -> Pool | None:
        """The sandboxes that wait for jobs, if any are wanted."""
        return self.holdings.pool

    def stock(self, program: Program, limits: Limits, size: Warm) -> None:
        """Keep sandboxes of this program waiting from now on."""
        self._dispatcher.stock(program, limits, size)

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
        return self.holdings.engine.image_id(name)

    def work(self, task: Task) -> None:
        """Execute one job."""
        self._dispatcher.work(task)

    def queue(self, count: int, work: Callable[[Task], object]) -> Lanes:
        """Return the lanes of a session; they do the work themselves."""
        del work
        lanes = Lanes(self._dispatcher, self.holdings.engine, self.workers, count)
        self.holdings.sessions.add(lanes)
        return lanes

    def close(self) -> None:
        """Cancel every job, wait for the clean-up, and release everything."""
        self.holdings.close()


def _carrier(name: str | None) -> Carrier | None:
    try:
        return Carrier(name) if name else None
    except ValueError:
        msg = f"unknown carrier {name!r}: known are {', '.join(Carrier)}"
        raise RequestError(msg) from None
