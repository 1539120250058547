"""The public entry: run programs in sandboxes, and leave nothing behind.

`Supervisor` owns the connection to the engine, the queue of jobs and the threads that execute
them.  Each job gets a sandbox of its own.  Jobs beyond `max_jobs` wait in order; sandboxes beyond
the number of cores do not start at the same time, because starting more at once makes all slower.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Self

from runner import cgroup, values
from runner.engine import Engine
from runner.errors import RequestError, RunnerError
from runner.execution import Execution, Verdict
from runner.holdings import Holdings
from runner.images import ImageStore, build_id
from runner.interrupt import CancelledError, check
from runner.isolation import Isolation
from runner.job import Job, Outcome
from runner.launcher import Carrier, ImageGoneError, Sandbox, SandboxSpec
from runner.policy import Limits, Policy
from runner.registry import Program, find
from runner.relay import SINGLE_USE_JOB
from runner.sweep import sweep
from runner.task import Task, our_fault
from sandbox import protocol

log = logging.getLogger(__name__)

_CORES: Final = os.cpu_count() or 1
_POLL_S: Final = 0.1

Callback = Callable[[str, Any], object]
Progress = Callable[[str], object]


class Supervisor:
    """Runs programs in sandboxes.  A context manager: leaving it ends what it started.

    One that is dropped instead finishes its jobs and then closes itself; the interpreter's end
    closes the rest.  It belongs to the process that made it: a forked child makes its own.

    Arguments:
        limits: the ceiling for every job (default: `Limits()`).
        policy: the hardening of every sandbox (default: `Policy()`, the strictest).
        isolation: the engine runtime, if not the policy's ("runc" or "runsc").
        max_jobs: how many jobs may run at once; more wait (default: four per core).
        carrier: "socket" or "stdio" to force one; None lets the first sandbox find out.
        store: None keeps messages and results as long as the `Job` objects live.
        progress: called with a line of text when something takes a while, such as a build.
        engine: the connection to use, which stays open; None connects as the docker command does.

    Raises EngineUnavailableError if no engine answers.
    """

    def __init__(  # noqa: PLR0913  keywords only, each with a default
        self,
        *,
        limits: Limits | None = None,
        policy: Policy | None = None,
        isolation: str | None = None,
        max_jobs: int | None = None,
        carrier: str | None = None,
        store: None = None,  # noqa: ARG002  the one kind there is
        progress: Progress = log.info,
        engine: Engine | None = None,
    ) -> None:
        self._limits = limits or Limits()
        self._policy = policy or Policy()
        if isolation is not None:
            self._policy = dataclasses.replace(self._policy, isolation=_isolation(isolation))
        self._carrier = Carrier(carrier) if carrier else None
        self._build = build_id()
        self._engine = engine or Engine.connect()
        self._images = ImageStore(self._engine, progress=progress)
        self._holdings = Holdings(
            self._engine, keep_engine=engine is not None, max_jobs=max_jobs or 4 * _CORES
        )
        # Called by `close`, by the garbage collector, or at the end of the interpreter.
        self._close = weakref.finalize(self, self._holdings.close)
        self._starts = threading.BoundedSemaphore(_CORES)
        self._preparing = threading.Lock()
        self._is_prepared = False
        self._facts: Mapping[str, Any] = {}
        self._rootful = True
        self._own_cgroup = False

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
    ) -> Job:
        """Submit a program and return its `Job` at once.

        Arguments:
            program: a name, a directory with a manifest, or a `.py` file; read now.
            inputs: the keyword arguments of `main`; any value that the codec carries.
            backend: a backend's name, or {"name": …, "options": {…}}.
            callback: called as `callback(job_id, message)` for each interim result, in order,
                from a thread of its own; an exception in it is logged and does no harm.
            on_final: called once as `on_final(job_id, result)`, after the last message, if the job
                completes: a function of its own, so that the two can never be confused.
            limits: limits to lower for this job, as `Limits` or by their names.
            options: "log_level", one of the names of the logging module (default "WARNING").

        Raises RequestError (ManifestError, InputsError, UnknownProgramError) if the request is
        refused; nothing was started then.
        """
        self._check_usable()
        if not isinstance(program, Program):
            program = find(program)
        effective = self._limits.lowered_by(program.manifest.limits)
        if limits is not None:
            wanted = dataclasses.asdict(limits) if isinstance(limits, Limits) else limits
            effective = effective.lowered_by(wanted)
        description = values.backend_description(backend)
        values.check_requirements(program.manifest, description, effective.memory_bytes)
        request = protocol.Run(
            job=SINGLE_USE_JOB,
            entry=program.manifest.entry,
            inputs=values.check_inputs(program, inputs or {}, limit_bytes=effective.inputs_bytes),
            backend=description,
            options=dict(options or {}),
            limits=effective.for_guest(),
        )
        task = Task(program, request, effective, self._policy, self._holdings.workers.withdraw)
        wants_delivery = callback is not None or on_final is not None
        if wants_delivery:
            task.job.expect_callback()
        task.job.enqueue()
        self._holdings.workers.submit(task, self._work)
        if wants_delivery:
            _deliver(task, callback or _ignore, on_final or _ignore)
        return task.job

    def close(self) -> None:
        """Cancel what is running, wait for the clean-up, and release the engine.

        Takes as long as the clean-up does; if the engine is stuck, 5 s, and then the rest is
        removed when this process has ended.
        """
        self._close()

    def _check_usable(self) -> None:
        if os.getpid() != self._holdings.pid:
            msg = (
                f"this Supervisor belongs to process {self._holdings.pid}: make one after the fork"
            )
            raise RequestError(msg)
        if not self._close.alive:
            msg = "this Supervisor is closed: make a new one"
            raise RequestError(msg)

    # --- in a worker thread ---------------------------------------------------------------------

    def _work(self, task: Task) -> None:
        """Execute one job; whatever happens, it ends with a record and nothing is left."""
        verdict = our_fault("the supervisor was interrupted")
        try:
            verdict = self._execute(task)
        except CancelledError:
            verdict = Verdict(outcome=Outcome.CANCELLED)
        except RunnerError as error:
            verdict = our_fault(str(error))
        except OSError as error:
            verdict = our_fault(f"this host refused what a sandbox needs: {error}")
        except Exception as error:
            log.exception("job %s failed inside the supervisor", task.job.id)
            verdict = our_fault(f"a fault of the runner itself: {type(error).__name__}: {error}")
        finally:
            try:
                task.finish(verdict)
            finally:
                self._clean_up(task)

    def _execute(self, task: Task) -> Verdict:
        with task.interrupt.scope():
            check()
            task.waker.open()
            self._prepare()
            task.policy = self._policy_for(task.program)
            sandbox = self._launch(task)
        if not task.job.start():
            raise CancelledError
        execution = Execution(self._engine, sandbox, task.job, task.limits, task.waker)
        return execution.run(protocol.encode(task.request))

    def _policy_for(self, program: Program) -> Policy:
        """Return the policy, with the stronger isolation if the program asks for one."""
        if program.manifest.isolation in {None, Isolation.RUNC, self._policy.isolation}:
            return self._policy
        stronger = dataclasses.replace(self._policy, isolation=Isolation.RUNSC)
        return stronger.fitted_to(self._facts)

    def _launch(self, task: Task) -> Sandbox:
        """Return a sandbox that is ready; an image that vanishes meanwhile is built once more."""
        try:
            return self._start(task)
        except ImageGoneError as error:
            log.warning("building an image again that is gone: %s", error)
            self._clean_up(task, is_last=False)
            return self._start(task)

    def _start(self, task: Task) -> Sandbox:
        program = task.program
        image = self._images.program(program.files, program.name, program.pins).id
        task.job.image = image
        carrier = self._carrier or (Carrier.SOCKET if self._engine.is_local else Carrier.STDIO)
        spec = SandboxSpec(
            image=image,
            build=self._build,
            policy=task.policy,
            limits=task.limits,
            rootful=self._rootful,
            own_cgroup=self._own_cgroup,
            carrier=carrier,
            owner=self._holdings.owner,
        )
        with self._start_slot():
            task.sandbox = sandbox = Sandbox(self._engine, spec)
            sandbox.start()
            sandbox.wait_ready(task.waker)
        # The first sandbox was the probe: what carried its `ready` carries the later ones.
        self._carrier = self._carrier or sandbox.carrier
        return sandbox

    @contextlib.contextmanager
    def _start_slot(self) -> Iterator[None]:
        while not self._starts.acquire(timeout=_POLL_S):
            check()
        try:
            yield
        finally:
            self._starts.release()

    def _clean_up(self, task: Task, *, is_last: bool = True) -> None:
        """Remove the task's sandbox, now or as soon as the engine lets go of it."""
        sandbox, task.sandbox = task.sandbox, None
        try:
            if sandbox is not None and not sandbox.destroy():
                self._holdings.reaper.add(sandbox)
        finally:
            if is_last:
                task.waker.close()

    def _prepare(self) -> None:
        """Before the first sandbox: learn about the engine, sweep, and set the janitor waiting."""
        with self._preparing:
            if self._is_prepared:
                return
            info = self._engine.info()
            self._facts = info.raw
            self._policy = self._policy.fitted_to(info.raw)
            options = " ".join(info.security_options)
            self._rootful = "rootless" not in options and "userns" not in options
            self._own_cgroup = self._engine.is_local and cgroup.is_usable(driver=info.cgroup_driver)
            sweep(self._engine)
            self._holdings.move_in(own_cgroup=self._own_cgroup)
            self._is_prepared = True


def _ignore(_job_id: str, _value: object) -> None:
    """Stand in for a callback that nobody gave."""


def _deliver(task: Task, callback: Callback, on_final: Callback) -> None:
    """Call `callback` for each message, from a thread that ends with the job."""
    arguments = (callback, on_final, task.waker.wake)
    thread = threading.Thread(
        target=task.job.deliver, args=arguments, name="qrunner-callback", daemon=True
    )
    try:
        thread.start()
    except RuntimeError as error:
        task.job.cancel()
        msg = f"this process cannot start a thread for the callback: {error}"
        raise RunnerError(msg) from error


def _isolation(name: str) -> Isolation:
    try:
        return Isolation(name)
    except ValueError:
        msg = f"unknown isolation {name!r}: known are {', '.join(Isolation)}"
        raise RequestError(msg) from None
