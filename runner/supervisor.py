"""The public entry: run programs in sandboxes, and leave nothing behind.

`Supervisor` checks requests and submits them; what then happens to a job, in a thread of its own,
is in `runner.running.supply`.  Each job gets a sandbox of its own, but for sessions
(`runner.running.session`).  Jobs beyond `max_jobs` wait, those of one user in order, the users in
turns.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from runner.engine import Engine
from runner.errors import InputsError, RequestError, RunnerError
from runner.host.closing import Closing
from runner.host.trace import Trace
from runner.images import build_id
from runner.images.roots import Progress
from runner.job import Job
from runner.job.delivery import Callback
from runner.job.options import checked_user
from runner.job.record import JobStatus
from runner.job.request import Request
from runner.policy import Limits, Policy, isolation_named
from runner.programs import Program, find
from runner.running.lanes import Queue
from runner.running.requests import checked, repeated
from runner.running.session import WINDOW, MappedJobs, Session
from runner.running.task import Task, our_fault
from runner.sandboxes.pool import PoolState, Warm
from runner.sites.machine import Machine, Site
from runner.store import Store
from runner.store.archive import Archive
from runner.store.rows import Kept, Query

if TYPE_CHECKING:
    from runner.sites.cluster import AnyEngine
    from runner.sites.remote import Remote

log = logging.getLogger(__name__)


class Supervisor:
    """Runs programs in sandboxes.  A context manager: leaving it ends what it started.

    One that is neither left nor closed gives a ResourceWarning, and is closed when the interpreter
    ends.  It belongs to the process that made it: a forked child makes its own.

    Arguments:
        limits: the ceiling for every job (default: `Limits()`).
        policy: the hardening of every sandbox (default: `Policy()`, the strictest).
        isolation: the engine runtime, if not the policy's ("runc" or "runsc").
        max_jobs: how many jobs may run at once; more wait (default: four per core).
        memory_budget_bytes: what the memory limits of running jobs may add up to; more jobs wait
            (default: 9/10 of the machine's memory; one job always runs).
        carrier: "socket" or "stdio" to force one; None lets the first sandbox find out.
        warm: how many sandboxes wait, warmed up, for jobs of which programs, as {program: number or
            `Warm`}, programs named as in `run` (default: none).  They start in the background.
            True instead has no pool, but warms up the sandbox of every job before it is handed out:
            for tests, as it only takes longer.
        store: where jobs are kept, a path or a `Store`; None keeps messages and results as long as
            the `Job` objects live.
        progress: called with a line of text when something takes a while, such as a build.
        engine: the connection to use, which stays open; None connects as the docker command does.
        cluster: "ray", "ray://HOST:PORT" or "slurm" to run every job on a node of that cluster,
            as docs/cluster.md says; None (default) runs them here.
        retries: how often a job is tried again, from its beginning, whose cluster node was lost; on
            one machine nothing ever is.

    Raises EngineUnavailableError if no engine answers, StoreError if the store cannot be used.
    """

    def __init__(  # noqa: PLR0913  keywords only, each with a default
        self,
        *,
        limits: Limits | None = None,
        policy: Policy | None = None,
        isolation: str | None = None,
        max_jobs: int | None = None,
        memory_budget_bytes: int | None = None,
        carrier: str | None = None,
        warm: Mapping[str | os.PathLike[str], int | Warm] | bool = False,
        store: Store | str | os.PathLike[str] | None = None,
        progress: Progress = log.info,
        engine: Engine | None = None,
        cluster: str | AnyEngine | None = None,
        retries: int = 0,
    ) -> None:
        self._limits = limits or Limits()
        self._retries = retries
        self._policy = policy or Policy()
        if isolation is not None:
            self._policy = dataclasses.replace(self._policy, isolation=isolation_named(isolation))
        with contextlib.ExitStack() as opened:
            self._archive = opened.enter_context(contextlib.closing(Archive(store)))
            self._site: Site
            if cluster is not None:
                if warm or engine is not None or carrier is not None:
                    msg = "warm, engine and carrier are for one machine: cluster nodes have theirs"
                    raise RequestError(msg)
                there = _remote(cluster, max_jobs)
                self._site = opened.enter_context(contextlib.closing(there))
            else:
                here = Machine(
                    engine,
                    policy=self._policy,
                    carrier=carrier,
                    max_jobs=max_jobs,
                    memory_budget_bytes=memory_budget_bytes,
                    warm=warm is True,
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
        backend: str | Mapping[str, Any] | None = None,
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
            program: a name, a directory with a manifest, or a `.py` file; read now.
            inputs: the keyword arguments of `main`; any value that the codec carries.
            backend: a backend's name, {"name": …, "options": {…}}, or the description of a device;
                `runner.backends` knows which there are.
            callback: called as `callback(job_id, message)` for each interim result, in order,
                from a thread of its own; an exception in it is logged and does no harm.
            on_final: called once as `on_final(job_id, result)`, after the last message, if the job
                completes: a function of its own, so that the two can never be confused.
            limits: limits to lower for this job, as `Limits` or by their names.
            options: "log_level", one of the names of the logging module (default "WARNING"), and
                "tags", a list of texts by which jobs are found again.
            user: the person for whom it runs: kept with the job, which is found again by it.  Users
                whose jobs wait take turns, the jobs of one run in order.
            retries: overrides the supervisor's `retries` for this job.
            owner: the name that `user` had until 0.1; gives a DeprecationWarning.

        Raises RequestError (ManifestError, InputsError, UnknownProgramError) if the request is
        refused; nothing was started then.
        """
        trace = Trace()
        self._check_usable()
        program = _found(program)
        trace.mark("find")
        lowered, user = self._limits_of(program, limits), _user(user, owner)
        request = checked(program, inputs, lowered, backend, options, user)
        trace.mark("check")
        return self.accept(
            program, request, callback=callback, on_final=on_final, retries=retries, trace=trace
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
    ) -> Job:
        """Submit what has been checked already, here or on another machine; else as `run`.

        `queue` is that of the session whose sandbox it gets, if any.
        """
        self._check_usable()
        self._site.check(request.limits)
        workers = self._site.workers
        withdraw = workers.withdraw if queue is None else queue.withdraw
        task = Task(program, request, self._policy, withdraw, keeper=self._archive.keeper)
        task.job.trace = trace or task.job.trace
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
        backend: str | Mapping[str, Any] | None = None,
        limits: Mapping[str, float] | Limits | None = None,
        options: Mapping[str, Any] | None = None,
        sandboxes: int = 1,
        user: str = "",
        owner: str | None = None,
    ) -> Session:
        """Return a session: many jobs of one program, forked one after another in one sandbox.

        Many times as many jobs a second as with a sandbox for each, and a weaker boundary between
        them: docs/sessions.md.  For jobs of one user, never of several.

        Arguments:
            program, backend, limits, options, user, owner: as in `run`; they hold for all jobs.
            sandboxes: how many jobs run at the same time, each in a sandbox of its own.

        Raises RequestError if the program or an argument is refused; nothing is started before the
        first job.
        """
        if sandboxes < 1:
            msg = f"sandboxes is {sandboxes}: a session needs at least one"
            raise RequestError(msg)
        self._check_usable()
        found, user = _found(program), checked_user(_user(user, owner))
        lowered = self._limits_of(found, limits)
        queue = self._site.queue(sandboxes)
        closing = Closing(f"session of {found.name}", queue.close, among=self._site.sessions)

        def submit(inputs: Any, limits: Limits, **callbacks: Any) -> Job:
            request = checked(found, inputs, limits, backend, options, user)
            return self.accept(found, request, queue=queue, **callbacks)

        return Session(found, lowered, user, submit, closing)

    def map(  # noqa: PLR0913  keywords only but for the first two
        self,
        program: str | os.PathLike[str] | Program,
        inputs_list: Iterable[Mapping[str, Any] | InputsError],
        *,
        backend: str | Mapping[str, Any] | None = None,
        limits: Mapping[str, float] | Limits | None = None,
        options: Mapping[str, Any] | None = None,
        callback: Callback | None = None,
        sandboxes: int | None = None,
        user: str = "",
        owner: str | None = None,
    ) -> MappedJobs:
        """Run a program once for each of many inputs; yield each job when it has ended, in order.

        The jobs run in a session of `sandboxes` (default: one per core), on a cluster each in a
        sandbox of its own.  `inputs_list` is read as it is needed, at most `WINDOW` per sandbox
        ahead of the job that is yielded.  Refused inputs come as jobs that have ended as
        `invalid_inputs`, and so does an `InputsError` in the place of inputs; failing jobs come as
        what they are.  Closing the iterator cancels the rest; a loop that may be left early uses
        it in a `with`.

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
        return MappedJobs(session, inputs_list, callback, ahead=WINDOW * count)

    def job(self, name: str, *, user: str | None = None) -> Job:
        """Return the job with this id: one of this supervisor's, or one that is kept.

        With a store also by the beginning of an id that no other has, or "last".  With `user`, the
        jobs of others are as unknown as those that never were.  A job that runs in another process
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
        """Return the jobs that fit, the newest first: the kept ones, or those whose handles live.

        Arguments:
            limit, skip: how many, after how many; None for all.
            program_id: the program's name.
            user: the person for whom they ran; "" for jobs of nobody in particular.
            pending: True for those that have not ended, False for those that have.
            outcome: a word of the outcome table, or of `JobStatus`.
            job_tags: tags that it has, all of them.
            created_after, created_before: when it was submitted.
            descending: False for the oldest first.
        """
        query = Query(
            program=program_id,
            user=user,
            outcomes=() if outcome is None else (outcome,),
            pending=pending,
            tags=tuple(job_tags),
            created_after=created_after.timestamp() if created_after else None,
            created_before=created_before.timestamp() if created_before else None,
            limit=limit,
            skip=skip,
            descending=descending,
        )
        return self._archive.jobs(query)

    def replay(
        self,
        name: str,
        *,
        callback: Callback | None = None,
        on_final: Callback | None = None,
        user: str | None = None,
    ) -> Job:
        """Submit again what a kept job was asked to do, and return the new `Job` at once.

        `name` is as for `job`; the new job is for the same user, or for `user`.  Inputs (seeds
        among them), backend, options and limits are those of the kept job; limits above this
        supervisor's are lowered.  The image is the same if the engine still has it and its guest
        is ours, else it is made again from the kept files: compare `Job.image`.  Raises
        RequestError (UnknownJobError), StoreError.
        """
        kept, program = self._archive.request_of(name)
        request = repeated(kept.request, program, self._limits, job=kept.summary.id, user=user)
        if kept.summary.image and _has_our_guest(kept):
            request = dataclasses.replace(request, image=self._site.image(kept.summary.image))
        return self.accept(program, request, callback=callback, on_final=on_final)

    def pool(self) -> PoolState:
        """Return how many warm sandboxes wait, and what memory they use."""
        return PoolState() if self._site.pool is None else self._site.pool.state()

    def wait_until_warm(self, timeout: float | None = None) -> bool:
        """Wait until as many warm sandboxes wait as are wanted; False after `timeout` seconds."""
        return self._site.pool is None or self._site.pool.wait(timeout)

    def close(self) -> None:
        """Cancel what is running, wait for the clean-up, and release the engine.

        Takes as long as the clean-up does; if the engine is stuck, 5 s, and then the rest is
        removed when this process has ended.
        """
        self._close()

    def _limits_of(self, program: Program, limits: Mapping[str, float] | Limits | None) -> Limits:
        effective = self._limits.lowered_by(program.manifest.limits)
        return effective if limits is None else effective.lowered_by(limits)

    def _check_usable(self) -> None:
        if os.getpid() != self._close.pid:
            msg = f"this Supervisor belongs to process {self._close.pid}: make one after the fork"
            raise RequestError(msg)
        if not self._close.is_open:
            msg = "this Supervisor is closed: make a new one"
            raise RequestError(msg)


def _found(program: str | os.PathLike[str] | Program) -> Program:
    return program if isinstance(program, Program) else find(program)


def _user(user: str, owner: str | None) -> str:
    """Return the user; for one release that may be given as `owner` as well."""
    if owner is None:
        return user
    msg = "owner= is called user= now: write user=… instead; the next release knows no owner"
    warnings.warn(msg, DeprecationWarning, stacklevel=3)
    if user not in {"", owner}:
        msg = f"user is {user!r:.100} and owner {owner!r:.100}: both mean the user, so give one"
        raise RequestError(msg)
    return owner


def _has_our_guest(kept: Kept) -> bool:
    """Return whether the guest in a kept job's image speaks as this version's does."""
    return kept.record is not None and kept.record.versions.get("guest") == build_id()


def _remote(cluster: str | AnyEngine, max_jobs: int | None) -> Remote:
    from runner.sites.engines import open_engine
    from runner.sites.remote import Remote

    opened = open_engine(cluster) if isinstance(cluster, str) else cluster
    try:
        return Remote(opened, max_jobs)
    except BaseException:
        opened.close()
        raise
