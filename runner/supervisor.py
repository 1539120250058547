"""The public entry: run programs in sandboxes, and leave nothing behind.

`Supervisor` owns the connection to the engine, the queue of jobs and the threads that execute
them.  Each job gets a sandbox of its own.  Jobs beyond `max_jobs` wait in order; sandboxes beyond
the number of cores do not start at the same time, because starting more at once makes all slower.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import secrets
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, Final, Self

from runner import cgroup, values
from runner.engine import Engine
from runner.errors import RequestError, RunnerError
from runner.execution import Execution, Verdict
from runner.images import ImageStore, build_id
from runner.job import Evidence, Job, JobRecord, Outcome
from runner.launcher import CancelledError, Carrier, Sandbox, SandboxSpec, Waker
from runner.owner import Owner
from runner.policy import Isolation, Limits, Policy
from runner.registry import Program, find
from runner.relay import SINGLE_USE_JOB
from runner.sweep import Janitor, make_owner_directory, remove_traces, sweep
from sandbox import protocol

log = logging.getLogger(__name__)

_CORES: Final = os.cpu_count() or 1
_CLOSE_S: Final = 30.0

Callback = Callable[[str, Any], object]
Progress = Callable[[str], object]


class Supervisor:
    """Runs programs in sandboxes.  A context manager: leaving it ends what it started.

    Arguments:
        limits: the ceiling for every job (default: `Limits()`).
        policy: the hardening of every sandbox (default: `Policy()`, the strictest).
        isolation: the engine runtime, if not the policy's ("runc" or "runsc").
        max_jobs: how many jobs may run at once; more wait (default: four per core).
        carrier: "socket" or "stdio" to force one; None lets the first sandbox find out.
        store: None keeps messages and results as long as the `Job` objects live.
        progress: called with a line of text when something takes a while, such as a build.

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
    ) -> None:
        self._limits = limits or Limits()
        self._policy = policy or Policy()
        if isolation is not None:
            self._policy = dataclasses.replace(self._policy, isolation=_isolation(isolation))
        self._carrier = Carrier(carrier) if carrier else None
        self._engine = Engine.connect()
        self._images = ImageStore(self._engine, progress=progress)
        self._build = build_id()
        self._owner = Owner.current()
        self._workers = ThreadPoolExecutor(max_jobs or 4 * _CORES, thread_name_prefix="job")
        self._starts = threading.BoundedSemaphore(_CORES)
        self._lock = threading.Lock()
        self._jobs: dict[str, Job] = {}
        self._janitor: Janitor | None = None
        self._closed = False
        self._rootful = True
        self._own_cgroup = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(
        self,
        program: str | os.PathLike[str] | Program,
        inputs: Mapping[str, Any] | None = None,
        *,
        backend: str | Mapping[str, Any] | None = None,
        callback: Callback | None = None,
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
            limits: limits to lower for this job, as `Limits` or by their names.
            options: "log_level", one of the names of the logging module (default "WARNING").

        Raises RequestError (ManifestError, InputsError, UnknownProgramError) if the request is
        refused; nothing was started then.
        """
        if self._closed:
            msg = "this Supervisor is closed: make a new one"
            raise RequestError(msg)
        if not isinstance(program, Program):
            program = find(program)
        effective = self._limits.lowered_by(program.manifest.limits)
        if limits is not None:
            wanted = dataclasses.asdict(limits) if isinstance(limits, Limits) else limits
            effective = effective.lowered_by(wanted)
        request = protocol.Run(
            job=SINGLE_USE_JOB,
            entry=program.manifest.entry,
            inputs=values.check_inputs(program, inputs or {}, limit_bytes=effective.inputs_bytes),
            backend=values.backend_description(backend),
            options=dict(options or {}),
            limits=effective.for_guest(),
        )
        waker = Waker()
        job = Job(
            f"job-{secrets.token_hex(8)}",
            program.name,
            log_kept_bytes=effective.log_kept_bytes,
            decode=values.decode,
            on_cancel=waker.wake,
        )
        if callback is not None:
            job.expect_callback()
            arguments = (callback, waker.wake)
            threading.Thread(target=job.deliver, args=arguments, daemon=True).start()
        with self._lock:
            self._jobs[job.id] = job
        job.enqueue()
        self._workers.submit(self._work, job, program, request, effective, waker)
        return job

    def close(self) -> None:
        """Cancel what is running, wait for the clean-up, and release the engine."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            running = list(self._jobs.values())
        for job in running:
            job.cancel()
        self._workers.shutdown(wait=True)
        if self._janitor is not None:
            remove_traces(self._owner)
            self._janitor.close()
        self._engine.close()

    # --- in a worker thread ---------------------------------------------------------------------

    def _work(
        self, job: Job, program: Program, request: protocol.Run, limits: Limits, waker: Waker
    ) -> None:
        """Execute one job; whatever happens, it ends with a record and nothing is left."""
        sandbox: Sandbox | None = None
        verdict = _our_fault("the supervisor was interrupted")
        try:
            if job.is_cancelled:
                raise CancelledError
            self._prepare()
            job.image = self._images.program(program.files, program.name).id
            sandbox = self._sandbox(job.image, limits)
            self._launch(sandbox, job, waker)
            job.start()
            execution = Execution(self._engine, sandbox, job, limits, waker)
            verdict = execution.run(protocol.encode(request))
        except CancelledError:
            verdict = Verdict(outcome=Outcome.CANCELLED)
        except RunnerError as error:
            verdict = _our_fault(str(error))
        except Exception as error:
            log.exception("job %s failed inside the supervisor", job.id)
            verdict = _our_fault(f"a fault of the runner itself: {type(error).__name__}: {error}")
        finally:
            self._finish(job, program, limits, sandbox, verdict)
            if sandbox is not None:
                sandbox.destroy()
            waker.close()
            with self._lock:
                self._jobs.pop(job.id, None)

    def _sandbox(self, image: str, limits: Limits) -> Sandbox:
        carrier = self._carrier or (Carrier.SOCKET if self._engine.is_local else Carrier.STDIO)
        spec = SandboxSpec(
            image=image,
            build=self._build,
            policy=self._policy,
            limits=limits,
            rootful=self._rootful,
            own_cgroup=self._own_cgroup,
            carrier=carrier,
            directory=make_owner_directory(self._owner),
            owner=self._owner,
        )
        return Sandbox(self._engine, spec)

    def _launch(self, sandbox: Sandbox, job: Job, waker: Waker) -> None:
        with self._starts:
            if job.is_cancelled:
                raise CancelledError
            sandbox.start()
            sandbox.wait_ready(waker, lambda: job.is_cancelled)
        if self._carrier is None:
            # The first sandbox was the probe: what carried its `ready` carries the later ones.
            self._carrier = sandbox.carrier

    def _finish(
        self, job: Job, program: Program, limits: Limits, sandbox: Sandbox | None, verdict: Verdict
    ) -> None:
        stamps = {"created": job.created, "started": job.started, "finished": datetime.now(UTC)}
        traceback = verdict.traceback
        if traceback is not None:
            traceback = _with_shown_paths(traceback, program)
        job.finish(
            JobRecord(
                job=job.id,
                program=program.name,
                outcome=verdict.outcome,
                result=verdict.result,
                error=verdict.error,
                traceback=traceback,
                evidence=verdict.evidence,
                usage=verdict.usage,
                image=job.image,
                isolation=self._policy.isolation.value,
                carrier=sandbox.carrier.value if sandbox else None,
                policy=self._policy.digest(limits),
                timestamps={
                    name: stamp.isoformat() if stamp else None for name, stamp in stamps.items()
                },
            )
        )

    def _prepare(self) -> None:
        """Before the first sandbox: learn about the engine, sweep, and set the janitor waiting."""
        with self._lock:
            if self._janitor is not None:
                return
            info = self._engine.info()
            options = " ".join(info.security_options)
            self._rootful = "rootless" not in options and "userns" not in options
            self._own_cgroup = self._engine.is_local and cgroup.is_usable(driver=info.cgroup_driver)
            sweep(self._engine)
            self._janitor = Janitor()


def _isolation(name: str) -> Isolation:
    try:
        return Isolation(name)
    except ValueError:
        msg = f"unknown isolation {name!r}: known are {', '.join(Isolation)}"
        raise RequestError(msg) from None


def _our_fault(detail: str) -> Verdict:
    evidence = Evidence(source="host", detail=detail)
    return Verdict(outcome=Outcome.SANDBOX_ERROR, evidence=evidence, error=detail)


def _with_shown_paths(traceback: str, program: Program) -> str:
    """Replace the sandbox's paths of the program's files by the user's own."""
    for inside in program.files:
        if inside.endswith(".py"):
            seen = f'File "{protocol.PROGRAM_DIRECTORY}/{inside}"'
            traceback = traceback.replace(seen, f'File "{program.shown_path(inside)}"')
    return traceback
