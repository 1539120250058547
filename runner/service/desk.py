"""The one layer below every form of the API: what users may do with programs and jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from runner import backends
from runner.backends.holders import HeldState
from runner.host.forms import data_of
from runner.host.workers import Load
from runner.job import Job
from runner.job.record import JobStatus, Outcome
from runner.job.request import Origin
from runner.policy.rules import Rules
from runner.programs import drawing
from runner.programs.values import as_sent, loaded
from runner.sandboxes.pool import PoolState
from runner.service.attempts import Attempts
from runner.service.examination import Examination, Finding
from runner.service.gate import Gate
from runner.service.jobs import Jobs, Order
from runner.service.link import Link
from runner.service.metrics import Metrics
from runner.service.programs import Programs
from runner.service.repeats import Repeats
from runner.service.streams import Streams
from runner.store import Store
from runner.store.audit import Audit
from runner.store.rows import Query
from runner.store.sessions import Sessions
from runner.store.users import User, Users
from runner.supervisor import Supervisor

THREADS: Final = 64
"""How many requests are worked on at the same time; the streams need no thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a service does now, for its operators; `pending` counts jobs by user and status."""

    load: Load
    zygotes: int
    cells: int
    cell_obstacle: str
    pool: PoolState
    held: list[HeldState]
    pending: dict[str, dict[JobStatus, int]]
    kept: int
    streams: int


class Desk:
    """Everything that the routes use; it owns the counters and the open streams.

    `is_single_user` lets whoever asks from this machine do everything, without a token.  `examine`
    examines this machine.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        store: Store,
        rules: Rules,
        *,
        is_single_user: bool = False,
        examine: Callable[[], Iterable[Finding]] = tuple,
    ) -> None:
        self.rules = rules
        self.is_single_user = is_single_user
        self.users = Users(store.file)
        self.sessions = Sessions(store.file)
        self.attempts = Attempts()
        self.link = Link()
        self.audit = Audit(store.file)
        self.jobs = Jobs(store, supervisor, rules)
        self.programs = Programs(store, supervisor, self.users, rules)
        self.streams = Streams(rules)
        self.metrics = Metrics()
        self.repeats = Repeats()
        self.examination = Examination(examine)
        self._supervisor = supervisor
        # A body may have 100 MiB, and so may an answer; a client decides how slowly it sends the
        # one and takes the other.
        self.heavy = Gate("large requests", 12, 3)
        self.working = Gate("requests", THREADS, 8)
        self._store = store

    def again(self, user: User, job: Job) -> Job:
        """Run the program of a job again, with its inputs, and return the new job.

        Raises RefusedError if the program is gone, or no longer for this user.
        """
        program, origin = self.programs.of_job(job, user)
        request = job.request
        order = Order(
            inputs=as_sent(loaded(request.inputs)),
            backend=request.backend,
            options={**request.options, "tags": job.tags},
            limits=data_of(request.limits),
            origin=origin,
            replay_of=job.id,
        )
        return self.jobs.submit(user, program, order)

    @property
    def is_ready(self) -> bool:
        """Return True while the service takes jobs and its store can be used."""
        return not self.jobs.is_draining and self._store.is_open

    def drawing(self, user: User, job: Job) -> Job | None:
        """Return the job that has drawn a job's circuits, or does; None if nobody asked for it."""
        found = self._supervisor.search(Query(user=user.name, key=_drawing_of(job), limit=1))
        return found[0] if found else None

    def draw(self, user: User, job: Job, circuits: Sequence[Any], columns: int) -> Job:
        """Draw these circuits of a job in a sandbox, and return the job that does it, or has."""
        earlier = self.drawing(user, job)
        if earlier is not None and earlier.outcome not in {None, Outcome.COMPLETED}:
            self.jobs.delete(earlier)
        order = Order(
            inputs=drawing.inputs_for(circuits, columns),
            backend="none",
            options={"tags": [f"of {job.id}"]},
            origin=Origin(key=_drawing_of(job)),
        )
        return self.jobs.submit(user, drawing.PROGRAM, order)

    def state(self) -> State:
        """Return what the service does now.  Raises StoreError, BackendUnavailableError."""
        supervisor = self._supervisor
        zygotes, cells = supervisor.zygotes()
        return State(
            load=supervisor.load(),
            zygotes=zygotes,
            cells=cells,
            cell_obstacle=supervisor.cell_obstacle(),
            pool=supervisor.pool(),
            held=supervisor.held(),
            pending=self._store.pending(),
            kept=self._store.count(),
            streams=self.streams.number,
        )

    def backends(self, user: User) -> list[str]:
        """Return the names of the backends that a user's jobs may ask for, the default first."""
        return [*(each.name for each in backends.known()), *self.jobs.held_backends(user)]

    def gauges(self) -> dict[str, tuple[str, float]]:
        """Return what can be measured now, for `Metrics.text`.  Raises StoreError."""
        return {
            "jobs_pending": ("Jobs that wait or run.", self._store.count(Query(pending=True))),
            "jobs_kept": ("Jobs in the store.", self._store.count()),
            "streams": ("Open streams of events.", self.streams.number),
            "ready": ("1 while the service takes jobs.", float(self.is_ready)),
        }


def _drawing_of(job: Job) -> str:
    """Return the key of the one job that draws the circuits of another."""
    return f"drawing of {job.id}"
