"""The public entry point: run programs in sandboxes, and leave nothing behind.

`Supervisor` checks requests and submits them.  Each job then runs in a thread of its own; that part
is in `runner.running.supply`.  Each job gets a sandbox of its own, except in a session
(`runner.running.session`).  At most `max_jobs` jobs run at once.  More jobs wait: the jobs of one
user keep their order, and the users take turns.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence, Set
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Self

from runner.backends import describe
from runner.backends.holders import AnyBackend, HeldDevice, HeldState, Holders
from runner.backends.ledger import LEDGER
from runner.backends.recording import Recording
from runner.engine import Engine
from runner.errors import InputsError, RequestError, RunnerError
from runner.host.closing import Closing
from runner.host.trace import Trace
from runner.host.workers import Load
from runner.images import build_id
from runner.images.roots import Progress
from runner.job import Job
from runner.job.delivery import Callback
from runner.job.device import HELD, Device
from runner.job.options import checked_tags, checked_user
from runner.job.record import JobStatus
from runner.job.request import Request
from runner.policy import Limits, Policy, isolation_named
from runner.policy.held import HeldBackend
from runner.programs import Program, find
from runner.running.lanes import Queue
from runner.running.requests import checked, repeated
from runner.running.session import WINDOW, MappedJobs, Session
from runner.running.supply import Cells
from runner.running.task import Task, our_fault
from runner.sandboxes.pool import PoolState, Warm
from runner.sites.machine import Machine, Site
from runner.store import Store
from runner.store.archive import Archive
from runner.store.file import default_path
from runner.store.rows import Kept, Query

if TYPE_CHECKING:
    from runner.sites.cluster import AnyEngine
    from runner.sites.remote import Remote

log = logging.getLogger(__name__)

CELLS_VARIABLE = "QRUNNER_CELLS"


class Supervisor:
    """Runs programs in sandboxes.  A context manager: leaving it ends everything that it started.

    A supervisor that is neither left nor closed gives a ResourceWarning, and is closed when the
    interpreter ends.  It belongs to the process that made it: a forked child makes its own.

    Arguments:
        limits: the upper limits for every job (default: `Limits()`).
        policy: the hardening of every sandbox (default: `Policy()`, the strictest).
        isolation: the engine runtime, "runc" or "runsc" (default: the policy's).
        max_jobs: how many jobs may run at once; more jobs wait (default: four per core).
        max_jobs_of_user: how many of them may be of one user (default None: all).
        memory_budget_bytes: the most that the memory limits of the running jobs may add up to; more
            jobs wait (default: 9/10 of the machine's memory; one job may always run).
        carrier: how the host talks to a sandbox, "socket" or "stdio" (default None: the first
            sandbox finds out which one works).
        warm: a pool of sandboxes that wait, warmed up, for jobs: {program: number or `Warm`}, with
            programs named as in `run` (default: no pool).  They start in the background.  True
            means no pool, but every job's sandbox is warmed up before the job gets it.  That is
            meant for tests.
        cells: whether warm jobs and those of sessions may have cells (default: True; the variable
            QRUNNER_CELLS=off means False).  "on demand" gives them to all jobs but the first of a
            program, which leaves a zygote for those that follow within a minute.  Without cells,
            and where `cell_obstacle` names a reason, warm jobs have containers, and sessions fork,
            which separates their jobs less strictly (docs/lifecycle.md).
        store: where jobs are kept, a path or a `Store`.  None (default) keeps messages and results
            only as long as the `Job` objects live.
        progress: called with a line of text when something takes a while, such as a build.
        engine: the connection to use, which stays open.  None (default) connects as the docker
            command does.
        cluster: "ray", "ray://HOST:PORT" or "slurm" to run every job on a node of that cluster
            (docs/cluster.md).  None (default) runs jobs on this machine.
        retries: how often a job is run again, from its beginning, after its cluster node was lost
            (default: 0).  Has no effect on one machine.
        backends: backends that this host holds for programs, each in a process of its own, which
            starts with its first job (docs/held-backends.md).

    Raises EngineUnavailableError if no engine answers, StoreError if the store cannot be used, and
    RequestError if an argument cannot be used.
    """

    def __init__(  # noqa: PLR0913  keywords only, each with a default
        self,
        *,
        limits: Limits | None = None,
        policy: Policy | None = None,
        isolation: str | None = None,
        max_jobs: int | None = None,
        max_jobs_of_user: int | None = None,
        memory_budget_bytes: int | None = None,
        carrier: str | None = None,
        warm: Mapping[str | os.PathLike[str], int | Warm] | bool = False,
        cells: bool | Literal["on demand"] = True,
        store: Store | str | os.PathLike[str] | None = None,
        progress: Progress = log.info,
        engine: Engine | None = None,
        cluster: str | AnyEngine | None = None,
        retries: int = 0,
        backends: Iterable[HeldBackend] = (),
    ) -> None:
        _check_kind("limits", limits, Limits)
        _check_kind("policy", policy, Policy)
        _check_kind("warm", warm or None, Mapping, bool)
        _check_count("max_jobs", max_jobs, 1)
        _check_count("memory_budget_bytes", memory_budget_bytes, 1)
        _check_count("retries", retries, 0)
        self._limits = limits or Limits()
        self._retries = retries
        self._policy = policy or Policy()
        if isolation is not None:
            self._policy = dataclasses.replace(self._policy, isolation=isolation_named(isolation))
        with contextlib.ExitStack() as opened:
            self._archive = opened.enter_context(contextlib.closing(Archive(store)))
            backends = tuple(backends)
            holders = Holders(backends, os.environ, default_path().with_name(LEDGER))
            self._holders = opened.enter_context(contextlib.closing(holders))
            self._site: Site
            if cluster is not None:
                if warm or engine is not None or carrier is not None:
                    msg = "warm, engine and carrier are for one machine: cluster nodes have theirs"
                    raise RequestError(msg)
                secret = {name for each in backends for name in each.env}
                there = _remote(cluster, secret, max_jobs, max_jobs_of_user)
                self._site = opened.enter_context(contextlib.closing(there))
            else:
                here = Machine(
                    engine,
                    policy=self._policy,
                    carrier=carrier,
                    max_jobs=max_jobs,
                    max_jobs_of_user=max_jobs_of_user,
                    memory_budget_bytes=memory_budget_bytes,
                    warm=warm is True,
                    cells=_cells(cells),
                    progress=progress,
                )
                self._site = opened.enter_context(contextlib.closing(here))
                self._stock(here, warm if isinstance(warm, Mapping) else {})
            self._close = Closing("Supervisor", opened.pop_all().close)

    def _stock(self, here: Machine, warm: Mapping[str | os.PathLike[str], int | Warm]) -> None:
        for named, size in warm.items():
            program = find(named)
            here.stock(program, self._limits.lowered_by(program.manifest.limits), Warm.of(size))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(  # noqa: PLR0913  keywords only but for the first two
        self,
        program: str | os.PathLike[str] | Program,
        inputs: Mapping[str, Any] | None = None,
        *,
        backend: AnyBackend = None,
        callback: Callback | None = None,
        on_final: Callback | None = None,
        limits: Mapping[str, float] | Limits | None = None,
        options: Mapping[str, Any] | None = None,
        user: str = "",
        retries: int | None = None,
        owner: str | None = None,
    ) -> Job:
        """Submit a program and return its `Job` at once.

        Arguments:
            program: a name, a directory with a manifest, or a `.py` file.  It is read now.
            inputs: the keyword arguments of `main`; any values that the codec carries.
            backend: the name of a backend, {"name": …, "options": {…}}, or the description of a
                device; `runner.backends` lists the backends.  Or a backend that this host holds:
                the name of one of the supervisor's `backends`, or a `BackendV2` object, whose
                calls are then answered in threads of this process.  Or a `Recording`, which gives
                the answers of an earlier job (docs/held-backends.md).
            callback: called as `callback(job_id, message)` for each interim result, in order, from
                a thread of its own.  An exception in it is logged and does not affect the job.
            on_final: called once as `on_final(job_id, result)`, after the last message, if the job
                completes.  It is separate from `callback`, so that the two cannot be confused.
            limits: lower limits for this job, as `Limits` or by name.
            options: "log_level", one of the level names of the logging module (default "WARNING"),
                and "tags", a list of texts by which the job can be found later.
            user: the person for whom the job runs, "" (default) for no one in particular.  It is
                kept with the job and can be searched for.  Waiting users take turns; the jobs of
                one user run in order.
            retries: overrides the supervisor's `retries` for this job.
            owner: the name of `user` until 0.1; gives a DeprecationWarning.

        Raises RequestError (ManifestError, InputsError, UnknownProgramError) if the request is
        refused; then nothing was started.
        """
        trace = Trace()
        self._check_usable()
        program = _found(program)
        trace.mark("find")
        lowered, user = self.limits_of(program, limits), _user(user, owner)
        described = self.describe(backend, user)
        request = checked(program, inputs, lowered, described, options, user)
        trace.mark("check")
        return self.accept(
            program,
            request,
            callback=callback,
            on_final=on_final,
            retries=retries,
            trace=trace,
            device=_recording_of(backend),
        )

    def accept(  # noqa: PLR0913  keywords only but for the first two
        self,
        program: Program,
        request: Request,
        *,
        callback: Callback | None = None,
        on_final: Callback | None = None,
        retries: int | None = None,
        trace: Trace | None = None,
        queue: Queue | None = None,
        device: Device | None = None,
    ) -> Job:
        """Submit a request that has been checked already, here or on another machine.

        `queue` is the queue of a session whose sandbox the job gets; None for a sandbox of its own.
        `device` stands in the place of the held backend that the request names.
        The other arguments and the errors are those of `run`.
        """
        self._check_usable()
        _check_function("callback", callback)
        _check_function("on_final", on_final)
        _check_count("retries", retries, 0)
        self._site.check(request.limits)
        device = device or self._device(request)
        workers = self._site.workers
        withdraw = workers.withdraw if queue is None else queue.withdraw
        keeper = self._archive.keeper
        task = Task(program, request, self._policy, withdraw, keeper=keeper, device=device)
        task.job.trace = trace or task.job.trace
        task.exceptions = ("recorded",) if isinstance(device, Recording) else ()
        task.retries = self._retries if retries is None else retries
        task.call_back(callback, on_final)
        task.job.status = JobStatus.QUEUED
        self._archive.add(task.handle, task.job, program)
        try:
            if queue is None:
                weight = request.limits.memory_bytes
                workers.submit(task, self._site.work, user=request.user, weight=weight)
            else:
                queue.submit(task)
        except RunnerError as error:
            task.finish(our_fault(str(error)))
            raise
        return task.handle

    def session(  # noqa: PLR0913  keywords only but for the first two
        self,
        program: str | os.PathLike[str] | Program,
        *,
        backend: AnyBackend = None,
        limits: Mapping[str, float] | Limits | None = None,
        options: Mapping[str, Any] | None = None,
        sandboxes: int = 1,
        user: str = "",
        owner: str | None = None,
    ) -> Session:
        """Return a session: it runs many jobs of one program, each in a cell of its own.

        A session runs many more jobs per second than `run` does.  Where there are no cells
        (`cell_obstacle`), its jobs are forks in one sandbox, which are separated less strictly: see
        docs/sessions.md.  Use it there for jobs of one user, never of several.

        Arguments:
            program, backend, limits, options, user, owner: as in `run`; they apply to all jobs.
            sandboxes: how many jobs run at the same time (default: 1).

        Raises RequestError if the program or an argument is refused.  Nothing is started before the
        first job.
        """
        _check_count("sandboxes", sandboxes, 1)
        self._check_usable()
        found, user = _found(program), checked_user(_user(user, owner))
        lowered = self.limits_of(found, limits)
        queue = self._site.queue(sandboxes)
        closing = Closing(f"session of {found.name}", queue.close, among=self._site.sessions)

        def submit(inputs: Any, limits: Limits, **callbacks: Any) -> Job:
            described = self.describe(backend, user)
            request = checked(found, inputs, limits, described, options, user)
            device = _recording_of(backend)
            return self.accept(found, request, queue=queue, device=device, **callbacks)

        return Session(found, lowered, user, submit, closing)

    def map(  # noqa: PLR0913  keywords only but for the first two
        self,
        program: str | os.PathLike[str] | Program,
        inputs_list: Iterable[Mapping[str, Any] | InputsError],
        *,
        backend: AnyBackend = None,
        limits: Mapping[str, float] | Limits | None = None,
        options: Mapping[str, Any] | None = None,
        callback: Callback | None = None,
        sandboxes: int | None = None,
        user: str = "",
        owner: str | None = None,
    ) -> MappedJobs:
        """Run a program once for each of many inputs; yield each ended job, in the order of inputs.

        The jobs run in a session of `sandboxes` (default: one per core); on a cluster each job gets
        a sandbox of its own.  `inputs_list` is read lazily, at most `WINDOW` inputs per sandbox
        ahead of the job that is yielded.  Refused inputs are yielded as jobs with the outcome
        `invalid_inputs`; an `InputsError` in the place of inputs is too.  Jobs that fail are
        yielded like any other. Closing the iterator cancels the remaining jobs; use it in a `with`
        if the loop may end early.

        Raises RequestError if the program or an argument is refused.
        """
        count = self._site.slots if sandboxes is None else sandboxes
        session = self.session(
            program,
            backend=backend,
            limits=limits,
            options=options,
            sandboxes=count,
            user=_user(user, owner),
        )
        return session.mapped(inputs_list, callback, ahead=WINDOW * count)

    def job(self, name: str, *, user: str | None = None) -> Job:
        """Return the job with this id: one of this supervisor's jobs, or one from the store.

        With a store, `name` may also be "last", or the beginning of an id if no other id begins so.
        With `user`, jobs of other users are treated as unknown.  A job that runs in another process
        is followed there, and can be cancelled.  Raises UnknownJobError, StoreError.
        """
        return self._archive.job(name, user=user)

    def jobs(  # noqa: PLR0913  keywords only but for the first two
        self,
        limit: int | None = 10,
        skip: int = 0,
        *,
        program_id: str | None = None,
        user: str | None = None,
        pending: bool | None = None,
        outcome: str | None = None,
        job_tags: Sequence[str] = (),
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        descending: bool = True,
    ) -> list[Job]:
        """Return the jobs that match, the newest first.

        With a store, the jobs in it; without one, the jobs whose handles are alive.  Raises
        StoreError, and RequestError if an argument cannot be used.

        Arguments:
            limit: the most jobs to return; None for all.
            skip: how many matching jobs to leave out first.
            program_id: the program's name.
            user: the person for whom the jobs ran; "" for jobs without a user, None for any.
            pending: True for jobs that have not ended, False for jobs that have.
            outcome: an outcome such as "completed", or a status of `JobStatus`.
            job_tags: tags that a job must have, all of them.
            created_after, created_before: bounds on the time of submission.
            descending: False for the oldest first.
        """
        query = Query(
            program=program_id,
            user=user,
            outcomes=() if outcome is None else (outcome,),
            pending=pending,
            tags=checked_tags(job_tags),
            created_after=created_after.timestamp() if created_after else None,
            created_before=created_before.timestamp() if created_before else None,
            limit=limit,
            skip=skip,
            descending=descending,
        )
        return self.search(query)

    def limits_of(
        self, program: Program, limits: Mapping[str, float] | Limits | None = None
    ) -> Limits:
        """Return the limits of a job: the lowest of this supervisor's, the program's and these.

        Raises RequestError.
        """
        effective = self._limits.lowered_by(program.manifest.limits)
        return effective if limits is None else effective.lowered_by(limits)

    @property
    def is_busy(self) -> bool:
        """Return True while a job of this supervisor waits or runs."""
        return self._site.workers.is_busy

    def search(self, query: Query) -> list[Job]:
        """Return the jobs that match a `Query`.  Raises StoreError."""
        return self._archive.jobs(query)

    def package(self, program: Program) -> str | None:
        """Build the image of a program now, and return its id; None where nodes build their own.

        Raises ImageError, EngineError, and RequestError for requirements that cannot be had.
        """
        self._check_usable()
        return self._site.package(program)

    def replay(
        self,
        name: str,
        *,
        callback: Callback | None = None,
        on_final: Callback | None = None,
        user: str | None = None,
        recorded: bool = False,
    ) -> Job:
        """Submit a kept job's request again, and return the new `Job` at once.

        `name` is as for `job`.  The new job is for the same user, unless `user` names another.
        Inputs (including seeds), backend, options and limits are those of the kept job; limits
        above this supervisor's are lowered.  The same image is used if the engine still has it and
        it holds this version's guest; otherwise the image is built again from the kept files.
        Compare `Job.image` to find out.  With `recorded`, the program's held backend gives the
        answers that it gave then, without the device; what the program asks otherwise is refused.
        The record of such a job says so in its `exceptions`.  Raises RequestError
        (UnknownJobError), StoreError.
        """
        kept, program = self._archive.request_of(name)
        request = repeated(kept.request, program, self._limits, job=kept.summary.id, user=user)
        if kept.summary.image and _has_our_guest(kept):
            request = dataclasses.replace(request, image=self._site.image(kept.summary.image))
        recording = None
        if recorded:
            answers = self._archive.answers(kept.summary.id)
            recording = Recording.of_job(kept.summary.id, kept.request.backend, answers)
        return self.accept(program, request, callback=callback, on_final=on_final, device=recording)

    def pool(self) -> PoolState:
        """Return the number of warm sandboxes that wait, and the memory they use."""
        return PoolState() if self._site.pool is None else self._site.pool.state()

    def load(self) -> Load:
        """Return how busy this supervisor is; weights are the jobs' memory limits, in bytes."""
        return self._site.workers.load()

    def zygotes(self) -> tuple[int, int]:
        """Return how many zygotes there are, and how many cells they have together."""
        return self._site.zygotes()

    def held(self) -> list[HeldState]:
        """Return what the operator's held backends do, and what of them has been used today.

        Raises BackendUnavailableError if that cannot be read.
        """
        return self._holders.states()

    def cell_obstacle(self) -> str:
        """Return why this supervisor makes no cells; empty if it does, as far as known.

        A supervisor knows after its first job that could have had one.
        """
        return self._site.cell_obstacle()

    def wait_until_warm(self, timeout: float | None = None) -> bool:
        """Wait until the pool is full; return False if it is not after `timeout` seconds."""
        return self._site.pool is None or self._site.pool.wait(timeout)

    def close(self) -> None:
        """Cancel running jobs, wait until everything is removed, and release the engine.

        If the engine does not answer, this returns after 5 s; a separate process removes the rest
        once this process has ended.
        """
        self._close()

    def held_backends(self, user: str) -> list[str]:
        """Return the names of the operator's held backends that a user may call."""
        return self._holders.names(user)

    def describe(self, backend: AnyBackend, user: str) -> dict[str, Any]:
        """Return the description of a backend.  Starts the holder of one that this host holds.

        Raises RequestError for a backend that is not there or not for this user, and
        BackendUnavailableError.
        """
        if isinstance(backend, Recording):
            return dict(backend.backend)
        device = self._holders.find(backend)
        if device is not None:
            return device.describe(user, is_kept=self._archive.is_kept)
        if not isinstance(backend, str | Mapping | None):
            msg = (
                f"backend is {backend!r:.80}: give a name, {{'name': …, 'options': …}}, the "
                "description of a device, or a BackendV2"
            )
            raise RequestError(msg)
        return describe(backend)

    def _device(self, request: Request) -> HeldDevice | None:
        """Return the held backend of a request, None for most.  Raises RequestError."""
        if request.backend.get("name") != HELD:
            return None
        device = self._holders.find(request.backend)
        assert device is not None
        device.check(request.user)
        return device

    def _check_usable(self) -> None:
        if os.getpid() != self._close.pid:
            msg = f"this Supervisor belongs to process {self._close.pid}: make one after the fork"
            raise RequestError(msg)
        if not self._close.is_open:
            msg = "this Supervisor is closed: make a new one"
            raise RequestError(msg)


def _found(program: str | os.PathLike[str] | Program) -> Program:
    return program if isinstance(program, Program) else find(program)


def _recording_of(backend: AnyBackend) -> Recording | None:
    return backend if isinstance(backend, Recording) else None


def _user(user: str, owner: str | None) -> str:
    """Return the user, which for one release may also be given as `owner`."""
    if owner is None:
        return user
    msg = "owner= is now called user=: write user=… instead; the next release removes owner="
    warnings.warn(msg, DeprecationWarning, stacklevel=3)
    if user not in {"", owner}:
        msg = (
            f"user is {user!r:.100} and owner {owner!r:.100}: both mean the user, so give only one"
        )
        raise RequestError(msg)
    return owner


def _check_kind(name: str, value: object, *kinds: type) -> None:
    """Raise RequestError unless an argument is None or of one of these kinds."""
    if value is not None and not isinstance(value, kinds):
        wanted = " or ".join(each.__name__ for each in kinds)
        msg = f"{name} is {value!r:.80}: give a {wanted}"
        raise RequestError(msg)


def _check_function(name: str, value: object) -> None:
    if value is not None and not callable(value):
        msg = f"{name} is {value!r:.80}: give a function"
        raise RequestError(msg)


def _check_count(name: str, value: object, least: int) -> None:
    """Raise RequestError unless an argument is None or a whole number of at least `least`."""
    if value is not None and (type(value) is not int or value < least):
        msg = f"{name} is {value!r:.80}: it must be a whole number of at least {least}"
        raise RequestError(msg)


def _has_our_guest(kept: Kept) -> bool:
    """Return True if the image of a kept job holds the guest of this version."""
    return kept.record is not None and kept.record.versions.get("guest") == build_id()


def _remote(
    cluster: str | AnyEngine, secret: Set[str], max_jobs: int | None, max_jobs_of_user: int | None
) -> Remote:
    """Connect to a cluster, whose nodes do not get the environment variables `secret`."""
    from runner.sites.engines import open_engine
    from runner.sites.remote import Remote

    opened = open_engine(cluster, secret) if isinstance(cluster, str) else cluster
    try:
        return Remote(opened, max_jobs, max_jobs_of_user)
    except BaseException:
        opened.close()
        raise


def _cells(wanted: object) -> Cells:
    """Return which jobs have cells.  Raises RequestError."""
    if not isinstance(wanted, bool) and wanted != "on demand":
        msg = f"cells is {wanted!r:.80}: it must be True, False or 'on demand'"
        raise RequestError(msg)
    if not wanted or os.environ.get(CELLS_VARIABLE) == "off":
        return Cells.OFF
    return Cells.WARM if wanted is True else Cells.ON_DEMAND
