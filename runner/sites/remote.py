"""Jobs of a supervisor whose sandboxes run on other machines.

Replaces the owner of a local engine.  It copies a node's events into the caller's `Job`, declares a
silent node lost, and alone decides if such a job is run again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from runner.errors import RequestError
from runner.host.closing import Openings, close_all
from runner.host.interrupt import CancelledError
from runner.host.workers import Workers
from runner.job.life import Life
from runner.job.record import (
    Evidence,
    FileEvent,
    JobRecord,
    LogEvent,
    MessageEvent,
    Outcome,
    StartedEvent,
    Usage,
)
from runner.policy import Limits
from runner.programs import Program
from runner.running.task import Task, our_fault
from runner.running.verdict import Verdict
from runner.sites.cluster import AnyEngine, Capacity, identity
from runner.sites.held import Calls
from runner.sites.wire import (
    Asked,
    AttemptEvent,
    End,
    Ended,
    Finished,
    Heartbeat,
    Hello,
    JobSpec,
    WireError,
)

log = logging.getLogger(__name__)

_CAPACITY_S: Final = 5.0
"""How long a cluster's capacity is cached, in seconds."""

_UNKNOWN: Final = Usage(
    sources=dict.fromkeys(
        (each.name for each in dataclasses.fields(Usage) if each.name != "sources"),
        "unknown: the job ended without its node's record",
    )
)

_PATIENCE_S: Final = 20.0
_POLL_S: Final = 0.01


class Remote:
    """The threads and the engine of a supervisor on a cluster; the counterpart of `Machine`.

    At most `max_jobs` are handed to the engine at the same time, `max_jobs_of_user` of one user.
    The others wait here, where users take turns.  None means twice the number of CPUs, so that
    nodes do not wait for this host.
    """

    def __init__(
        self,
        engine: AnyEngine,
        max_jobs: int | None = None,
        max_jobs_of_user: int | None = None,
    ) -> None:
        self.engine = engine
        self.pool = None
        self.sessions: Openings = {}
        self._lock = threading.Lock()
        self._capacity = engine.capacity()
        self._asked = time.monotonic()
        self.workers: Workers[Task] = Workers(
            max_jobs or 2 * self._capacity.slots, most_of_user=max_jobs_of_user
        )

    def check(self, limits: Limits) -> None:
        """Raise RequestError, with the numbers, if no node is large enough for such a job."""
        self.capacity().check(limits.cpus, limits.memory_bytes)

    @property
    def slots(self) -> int:
        """How many jobs at once keep the cluster busy."""
        return self.capacity().slots

    def cell_obstacle(self) -> str:
        """Return why this supervisor makes no cells itself."""
        return "jobs run on a cluster, whose nodes decide"

    def zygotes(self) -> tuple[int, int]:
        """Return that there are none here: those of the nodes are not known."""
        return 0, 0

    def image(self, name: str) -> None:
        """Return None: the images of the nodes are not known here."""

    def package(self, program: Program) -> None:
        """Do nothing: each node builds the images that it needs."""

    def capacity(self) -> Capacity:
        """Return the cluster's capacity, at most a few seconds old.  Raises RunnerError."""
        with self._lock:
            if time.monotonic() - self._asked > _CAPACITY_S:
                self._capacity = self.engine.capacity()
                self._asked = time.monotonic()
            return self._capacity

    def close(self) -> None:
        """Cancel every job, wait for the nodes, and release the engine."""
        for task in self.workers.close():
            task.job.cancel()
        close_all(self.sessions)
        if not self.workers.join(_PATIENCE_S):
            log.warning("a node does not end its jobs; its own deadlines will")
        self.engine.close()

    def queue(self, count: int) -> Spread:
        """Return the queue for a session's jobs; the cluster decides how many run at once."""
        del count
        return Spread(self.workers, self.work)

    # --- in a worker thread ---------------------------------------------------------------------

    def work(self, task: Task) -> None:
        """Execute one job on the cluster; it always ends with a record."""
        task.perform(self._execute)

    def _execute(self, task: Task) -> Verdict:
        """Return how the job ended; if a node has reported that, its record is set already."""
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
        """Run the job once; if the node sends a record, it becomes the job's record."""
        handle = self.engine.submit(_spec(task))
        ended = Ended(how=End.CANCELLED, reason="cancelled by the caller")
        events = self.engine.events(handle)
        with contextlib.closing(Calls(task, partial(self.engine.answer, handle))) as calls:
            try:
                with task.interrupt.calling(lambda: self.engine.cancel(handle)):
                    for event in events:
                        ended = self._take(task, calls, event) or ended
            except CancelledError:
                self.engine.cancel(handle)
                for event in events:  # none follow if its end has arrived already
                    ended = self._take(task, calls, event) or ended
            except WireError as error:
                self.engine.cancel(handle)
                for _ in events:
                    pass
                reason = f"node {task.job.node} violates the protocol: {error}"
                ended = Ended(how=End.LOST, reason=reason)
        return ended

    def _take(self, task: Task, calls: Calls, event: AttemptEvent) -> Ended | None:
        """Copy an event of the node into the job; return why the attempt has ended, if it has."""
        job = task.job
        match event:
            case Hello():
                job.node = event.node
            case StartedEvent():
                job.image = event.image
                job.start()
            case MessageEvent() | LogEvent() | FileEvent():
                job.history.extend([event])
                _wait_for_callback(job)
            case Asked():
                calls.take(event)
            case Finished():
                calls.close()  # the job's answers are kept with its record
                job.finish(_ours(event.record, task, calls))
            case Ended():
                return event
            case Heartbeat():
                pass  # handled where it was read
        return None


class Spread:
    """A session's jobs on a cluster: each in a sandbox of its own, on any free node.

    They are separated more strictly than in a session on one machine, and run more slowly.
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
        """Remove a job whose turn has not come."""
        self._workers.withdraw(task)
        self._leave(task)

    def close(self) -> None:
        """Cancel the remaining jobs."""
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
    """Wait while the callback is far behind, which in the end makes the program wait."""
    while job.is_congested and not job.is_cancelled:
        time.sleep(_POLL_S)


def _ours(record: JobRecord, task: Task, calls: Calls) -> JobRecord:
    """Return a node's record, completed with what only the caller knows."""
    job = task.job
    created = {"created": job.created.isoformat()}
    return dataclasses.replace(
        record,
        job=job.id,
        program=task.program.name,
        node=job.node,
        attempt=job.attempt,
        usage=calls.completed(record.usage),
        exceptions=(*record.exceptions, *task.exceptions),
        timestamps={**record.timestamps, **created},
    )
