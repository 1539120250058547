"""Jobs of a supervisor whose sandboxes run on other machines.

In the place of what owns a local engine: it feeds the caller's `Job` with what a node says, calls
a node lost that says nothing any more, and alone decides whether such a job is tried again.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from runner.errors import RequestError
from runner.host.closing import Openings, close_all
from runner.host.interrupt import CancelledError
from runner.host.workers import Workers
from runner.job.life import Life
from runner.job.record import (
    Evidence,
    JobRecord,
    LogEvent,
    MessageEvent,
    Outcome,
    StartedEvent,
    Usage,
)
from runner.policy import Limits
from runner.running.execution import Verdict
from runner.running.task import Task, our_fault
from runner.sites.cluster import AnyEngine, Capacity, identity
from runner.sites.wire import (
    AttemptEvent,
    End,
    Ended,
    Finished,
    Heartbeat,
    Hello,
    JobSpec,
)

log = logging.getLogger(__name__)

_CAPACITY_S: Final = 5.0
"""How long what a cluster has is believed before it is asked again."""

_UNKNOWN: Final = Usage(
    sources=dict.fromkeys(
        (each.name for each in dataclasses.fields(Usage) if each.name != "sources"),
        "unknown: the job ended without its node's record",
    )
)

_PATIENCE_S: Final = 20.0
_POLL_S: Final = 0.01


class Remote:
    """The threads and the engine of a supervisor on a cluster; what `Machine` is on one machine.

    `max_jobs` are handed to the engine at the same time, the rest waits here, where users are
    served in turn; None means twice as many as there are CPUs, so that nodes do not wait for us.
    """

    def __init__(self, engine: AnyEngine, max_jobs: int | None = None) -> None:
        self.engine = engine
        self.pool = None
        self.sessions: Openings = {}
        self._lock = threading.Lock()
        self._capacity = engine.capacity()
        self._asked = time.monotonic()
        self.workers: Workers[Task] = Workers(max_jobs or 2 * self._capacity.slots)

    def check(self, limits: Limits) -> None:
        """Raise RequestError, with the numbers, if no node is large enough for such a job."""
        self.capacity().check(limits.cpus, limits.memory_bytes)

    @property
    def slots(self) -> int:
        """How many jobs at once keep the cluster busy."""
        return self.capacity().slots

    def image(self, name: str) -> None:
        """Nothing is known here of what images the nodes have."""

    def capacity(self) -> Capacity:
        """Return what the cluster has, as of a few seconds ago.  Raises RunnerError."""
        with self._lock:
            if time.monotonic() - self._asked > _CAPACITY_S:
                self._capacity = self.engine.capacity()
                self._asked = time.monotonic()
            return self._capacity

    def close(self) -> None:
        """Cancel every job, wait for the nodes, and let go of the engine."""
        for task in self.workers.close():
            task.job.cancel()
        close_all(self.sessions)
        if not self.workers.join(_PATIENCE_S):
            log.warning("a node does not let go of its jobs; it is left to its own deadlines")
        self.engine.close()

    def queue(self, count: int) -> Spread:
        """Return what the jobs of a session go to; how many run at once is the cluster's matter."""
        del count
        return Spread(self.workers, self.work)

    # --- in a worker thread ---------------------------------------------------------------------

    def work(self, task: Task) -> None:
        """Execute one job on the cluster; whatever happens, it ends with a record."""
        task.perform(self._execute)

    def _execute(self, task: Task) -> Verdict:
        """Return how the job ended; if a node has said it, its record has been taken before."""
        while True:
            task.interrupt.check()
            ended = self._attempt(task)
            if ended.how is not End.LOST:
                break
            log.warning("job %s, attempt %d: %s", task.job.id, task.job.attempt, ended.reason)
            if task.job.attempt > task.retries:
                break
            task.job.begin_again()
        if ended.how is End.CANCELLED:
            return Verdict(outcome=Outcome.CANCELLED, usage=_UNKNOWN)
        if ended.how is End.REFUSED:
            return our_fault(ended.reason)
        return Verdict(
            outcome=Outcome.INTERRUPTED,
            evidence=Evidence(source="host", detail=ended.reason),
            error=ended.reason,
            usage=_UNKNOWN,
        )

    def _attempt(self, task: Task) -> Ended:
        """Run the job once; its record, if there is one, is the job's by then."""
        handle = self.engine.submit(_spec(task))
        ended = Ended(how=End.CANCELLED, reason="cancelled by the caller")
        events = self.engine.events(handle)
        try:
            with task.interrupt.calling(lambda: self.engine.cancel(handle)):
                for event in events:
                    ended = self._take(task, event) or ended
        except CancelledError:
            self.engine.cancel(handle)
            for event in events:  # none are left if it has told its end before
                ended = self._take(task, event) or ended
        return ended

    def _take(self, task: Task, event: AttemptEvent) -> Ended | None:
        """Put into the job what its node has said; return why the attempt has ended, if it has."""
        job = task.job
        match event:
            case Hello():
                job.node = event.node
            case StartedEvent():
                job.image = event.image
                job.start()
            case MessageEvent() | LogEvent():
                job.history.extend([event])
                _wait_for_callback(job)
            case Finished():
                job.finish(_ours(event.record, task))
            case Ended():
                return event
            case Heartbeat():
                pass  # has been seen where it was read
        return None


class Spread:
    """A session's jobs on a cluster: each in a sandbox of its own, on whatever node is free.

    So they are kept apart more strictly than in a session on one machine, and are slower.
    """

    def __init__(self, workers: Workers[Task], work: Callable[[Task], object]) -> None:
        self._workers = workers
        self._work = work
        self._lock = threading.Lock()
        self._live: set[Task] = set()
        self._is_closed = False

    def submit(self, task: Task) -> None:
        """Queue a job.  Raises RequestError after `close`."""
        with self._lock:
            if self._is_closed:
                msg = "this session is closed: make a new one"
                raise RequestError(msg)
            self._live.add(task)
        self._workers.submit(task, self._do, user=task.request.user)

    def withdraw(self, task: Task) -> None:
        """Forget a job whose turn has not come."""
        self._workers.withdraw(task)
        self._leave(task)

    def close(self) -> None:
        """Cancel what is left."""
        with self._lock:
            self._is_closed = True
            left = list(self._live)
        for task in left:
            task.job.cancel()

    def _do(self, task: Task) -> None:
        try:
            self._work(task)
        finally:
            self._leave(task)

    def _leave(self, task: Task) -> None:
        with self._lock:
            self._live.discard(task)


def _spec(task: Task) -> JobSpec:
    return JobSpec(
        job=task.job.id,
        attempt=task.job.attempt,
        version=identity(),
        program=task.program,
        request=task.request,
        isolation=task.policy.isolation,
        allow_missing=task.policy.allow_missing,
    )


def _wait_for_callback(job: Life) -> None:
    """Take no more while the callback is far behind: so the program, in the end, waits."""
    while job.is_congested and not job.is_cancelled:
        time.sleep(_POLL_S)


def _ours(record: JobRecord, task: Task) -> JobRecord:
    """Return a node's record with what only the caller knows."""
    job = task.job
    created = {"created": job.created.isoformat()}
    return dataclasses.replace(
        record,
        job=job.id,
        program=task.program.name,
        node=job.node,
        attempt=job.attempt,
        timestamps={**record.timestamps, **created},
    )
