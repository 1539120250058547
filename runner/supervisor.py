"""The public entry: run programs in sandboxes, and leave nothing behind.

`Supervisor` checks requests and submits them; what then happens to a job, in a thread of its own,
is in `runner.running.dispatch`.  Each job gets a sandbox of its own, but for sessions
(`runner.running.session`).  Jobs beyond `max_jobs` wait, those of one owner in order, the owners in
turns.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self

from runner import backends, values
from runner.engine import Engine
from runner.errors import RequestError, RunnerError
from runner.images import ImageStore, build_id
from runner.isolation import Isolation
from runner.job import Job
from runner.job.options import checked_options
from runner.policy import Limits, Policy
from runner.pool import PoolState, Warm
from runner.registry import Program, find
from runner.relay import SINGLE_USE_JOB
from runner.running.dispatch import Dispatcher
from runner.running.holdings import Holdings
from runner.running.lanes import Lanes, Place, Queue
from runner.running.session import Sessions
from runner.running.task import Task, our_fault
from runner.sandboxes.spec import Carrier, Mode
from runner.sandboxes.starts import CORES, memory_share
from runner.store import Store
from runner.store.archive import Archive, Library
from runner.store.rows import Kept
from runner.trace import Trace
from sandbox import protocol

if TYPE_CHECKING:
    from runner.cluster.boundary import AnyEngine
    from runner.cluster.remote import Remote

log = logging.getLogger(__name__)

Callback = Callable[[str, Any], object]
Progress = Callable[[str], object]


class Supervisor(Sessions, Library):
    """Runs programs in sandboxes.  A context manager: leaving it ends what it started.

    One that is dropped instead finishes its jobs and then closes itself; the interpreter's end
    closes the rest.  It belongs to the process that made it: a forked child makes its own.

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
        self._budget = memory_budget_bytes
        self._mode = Mode.WARM if warm is True else Mode.COLD
        self._policy = policy or Policy()
        if isolation is not None:
            self._policy = dataclasses.replace(self._policy, isolation=_isolation(isolation))
        if cluster is not None and (warm or engine is not None or carrier is not None):
            msg = "warm, engine and carrier are for one machine: a cluster's nodes have their own"
            raise RequestError(msg)
        with contextlib.ExitStack() as opened:
            self._archive = opened.enter_context(contextlib.closing(Archive(store)))
            self._remote = None if cluster is None else _remote(cluster, max_jobs)
            if self._remote is None:
                given = engine is not None
                engine = engine or Engine.connect()
                jobs_at_once = max_jobs or 4 * CORES
                self._holdings = Holdings(engine, keep_engine=given, max_jobs=jobs_at_once)
            else:
                self._places = self._remote.capacity().slots
            opened.pop_all()
        # Called by `close`, by the garbage collector, or at the end of the interpreter.
        holder = self._remote or self._holdings
        self._close = weakref.finalize(self, _release, holder.close, self._archive.close)
        if engine is None or self._remote is not None:
            return
        self._dispatcher = Dispatcher(
            self._holdings,
            ImageStore(engine, progress=progress),
            self._policy,
            Carrier(carrier) if carrier else None,
        )
        self._holdings.workers.set_budget(self._budget or memory_share())
        try:
            for named, size in warm.items() if isinstance(warm, Mapping) else ():
                program = find(named)
                limits_ = self._limits.lowered_by(program.manifest.limits)
                self._dispatcher.stock(program, limits_, Warm.of(size))
        except BaseException:
            self.close()
            raise

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
        owner: str = "",
        retries: int | None = None,
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
            owner: for whom; owners whose jobs wait take turns, those of one run in order.
            retries: what else holds for all of this supervisor's jobs.

        Raises RequestError (ManifestError, InputsError, UnknownProgramError) if the request is
        refused; nothing was started then.
        """
        trace = Trace()
        self._check_usable()
        if not isinstance(program, Program):
            program = find(program)
        trace.mark("find")
        effective = self._limits_of(program, limits)
        request, tags = self._request(program, inputs, effective, backend, options)
        trace.mark("check")
        return self.accept(
            program,
            request,
            effective,
            callback=callback,
            on_final=on_final,
            retries=retries,
            tags=tags,
            owner=owner,
            trace=trace,
        )

    def _limits_of(self, program: Program, limits: Mapping[str, float] | Limits | None) -> Limits:
        effective = self._limits.lowered_by(program.manifest.limits)
        if limits is None:
            return effective
        wanted = dataclasses.asdict(limits) if isinstance(limits, Limits) else limits
        return effective.lowered_by(wanted)

    def _request(
        self,
        program: Program,
        inputs: Mapping[str, Any] | None,
        limits: Limits,
        backend: str | Mapping[str, Any] | None,
        options: Mapping[str, Any] | None,
    ) -> tuple[protocol.Run, tuple[str, ...]]:
        """Return what is checked of a request, and the tags."""
        chosen = checked_options(options or {})
        description = backends.describe(backend)
        backends.check_requirements(program.manifest, description, limits.memory_bytes)
        request = protocol.Run(
            job=SINGLE_USE_JOB,
            entry=program.manifest.entry,
            inputs=values.check_inputs(program, inputs or {}, limit_bytes=limits.inputs_bytes),
            backend=description,
            options={"log_level": chosen["log_level"]},
            limits=limits.for_guest(),
        )
        return request, chosen["tags"]

    def accept(  # noqa: PLR0913  keywords only but for the first three
        self,
        program: Program,
        request: protocol.Run,
        limits: Limits,
        *,
        callback: Callback | None = None,
        on_final: Callback | None = None,
        retries: int | None = None,
        tags: tuple[str, ...] = (),
        replay_of: Kept | None = None,
        owner: str = "",
        trace: Trace | None = None,
        place: Place | None = None,
    ) -> Job:
        """Submit what `run` has checked, here or on another machine; else as `run`.

        `place` is the session whose sandbox it gets, if any.
        """
        self._check_usable()
        if self._remote is not None:
            self._remote.check(limits)
        elif self._budget is not None and limits.memory_bytes > self._budget:
            msg = (
                f"a job of {limits.memory_bytes} bytes of memory never fits into this supervisor's "
                f"budget of {self._budget}: lower the job's memory_bytes or raise the budget"
            )
            raise RequestError(msg)
        workers = (self._remote or self._holdings).workers
        task = Task(
            program,
            request,
            limits,
            self._policy,
            workers.withdraw if place is None else place.withdraw,
            keeper=self._archive.keeper,
            tags=tags,
            replay_of=replay_of.summary.id if replay_of else None,
        )
        task.mode = self._mode
        task.job.trace = trace or task.job.trace
        task.retries = self._retries if retries is None else retries
        if replay_of is not None and self._remote is None:
            task.image = _usable_image(replay_of, self._holdings.engine)
        if callback is not None or on_final is not None:
            task.callbacks = (callback or _ignore, on_final or _ignore)
        task.job.enqueue()
        self._archive.add(task.job, program)
        try:
            if place is None:
                workers.submit(task, self._work, owner=owner, weight=limits.memory_bytes)
            else:
                place.submit(task)
        except RunnerError as error:
            task.finish(our_fault(str(error)))
            raise
        return task.job

    def pool(self) -> PoolState:
        """Return how many warm sandboxes wait, and what memory they use."""
        pool = None if self._remote is not None else self._holdings.pool
        return pool.state() if pool is not None else PoolState()

    def wait_until_warm(self, timeout: float | None = None) -> bool:
        """Wait until as many warm sandboxes wait as are wanted; False after `timeout` seconds."""
        pool = None if self._remote is not None else self._holdings.pool
        return pool is None or pool.wait(timeout)

    def close(self) -> None:
        """Cancel what is running, wait for the clean-up, and release the engine.

        Takes as long as the clean-up does; if the engine is stuck, 5 s, and then the rest is
        removed when this process has ended.
        """
        self._close()

    def _check_usable(self) -> None:
        pid = (self._remote or self._holdings).pid
        if os.getpid() != pid:
            msg = f"this Supervisor belongs to process {pid}: make one after the fork"
            raise RequestError(msg)
        if not self._close.alive:
            msg = "this Supervisor is closed: make a new one"
            raise RequestError(msg)

    def _make_lanes(self, count: int, owner: str) -> Queue:
        self._check_usable()
        if self._remote is not None:
            return self._remote.spread(self._work)
        holdings = self._holdings
        lanes = Lanes(self._dispatcher, holdings.engine, holdings.workers, count, owner=owner)
        holdings.sessions.add(lanes)
        return lanes

    def _run_in(
        self, place: Place, program: Program, inputs: Any, limits: Limits, **arguments: Any
    ) -> Job:
        options, backend = arguments.pop("options"), arguments.pop("backend")
        request, tags = self._request(program, inputs, limits, backend, options)
        return self.accept(program, request, limits, tags=tags, place=place, **arguments)

    def _repeat(self, found: Kept, program: Program, **callbacks: Any) -> Job:
        asked = found.request
        limits = self._limits.lowered_by(asked.limits)
        request = protocol.Run(
            job=SINGLE_USE_JOB,
            entry=program.manifest.entry,
            inputs=dict(asked.inputs),
            backend=dict(asked.backend),
            options=dict(asked.options),
            limits=limits.for_guest(),
        )
        return self.accept(program, request, limits, tags=asked.tags, replay_of=found, **callbacks)

    def _work(self, task: Task) -> None:
        # Bound to this object, so that it lives, and closes nothing, while jobs do.
        (self._remote or self._dispatcher).work(task)


def _release(close_holder: Callable[[], None], close_archive: Callable[[], None]) -> None:
    try:
        close_holder()
    finally:
        close_archive()


def _ignore(_job_id: str, _value: object) -> None:
    """Stand in for a callback that nobody gave."""


def _usable_image(kept: Kept, engine: Engine) -> str | None:
    """Return the image of a kept job if a sandbox can still be made of it."""
    is_ours = kept.record is not None and kept.record.versions.get("guest") == build_id()
    return engine.image_id(kept.summary.image) if is_ours and kept.summary.image else None


def _remote(cluster: str | AnyEngine, max_jobs: int | None) -> Remote:
    from runner.cluster.engines import open_engine
    from runner.cluster.remote import Remote

    opened = open_engine(cluster) if isinstance(cluster, str) else cluster
    try:
        return Remote(opened, max_jobs)
    except BaseException:
        opened.close()
        raise


def _isolation(name: str) -> Isolation:
    try:
        return Isolation(name)
    except ValueError:
        msg = f"unknown isolation {name!r}: known are {', '.join(Isolation)}"
        raise RequestError(msg) from None
