"""One job within the supervisor: its request, and how it is ended from outside.

`Job` is the caller's handle; `Task` is what the supervisor's threads hold.  Cancelling a job whose
program does not run yet ends it at once: whatever its thread waits for is interrupted, and cleaned
up later, without delaying the caller.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from runner.errors import InputsError, RequestError, RunnerError, our_own
from runner.host.interrupt import CancelledError, Interrupt, Waker
from runner.host.trace import Trace
from runner.job import Job
from runner.job.delivery import Callback
from runner.job.device import Device
from runner.job.life import Keeper, Life, nothing_known
from runner.job.record import Evidence, JobRecord, Outcome
from runner.job.request import Request
from runner.policy import Policy
from runner.programs import Program, values
from runner.running.verdict import Verdict
from runner.running.versions import versions
from runner.sandboxes.spec import Holding, Kind
from sandbox.wire import protocol

log = logging.getLogger(__name__)


class Task:
    """A job with its program and its request; `sandbox` is the one it has now, None without one.

    Attributes:
        job: the job's state.
        handle: the caller's handle; the task keeps it alive, so that the job can be found.
        exceptions: exceptions for the job's record, besides those of policy and sandbox.
        device: the backend that the host holds for the job; None for most.
        image: the image to use instead of the program's own; see `Supervisor.replay`.
    """

    def __init__(
        self,
        program: Program,
        request: Request,
        policy: Policy,
        withdraw: Callable[[Task], object],
        *,
        keeper: Keeper | None = None,
        device: Device | None = None,
    ) -> None:
        self.program = program
        self.request = request
        self.limits = request.limits
        self.policy = policy
        self._callbacks: tuple[Callback, Callback] | None = None
        self.retries = 0
        self.image = request.image
        self.exceptions: tuple[str, ...] = ()
        self.device = device
        self.sandbox: Holding | None = None
        self.interrupt = Interrupt()
        self.waker = Waker()
        self._withdraw = withdraw
        self.job = Life(
            f"job-{secrets.token_hex(8)}",
            program.name,
            log_kept_bytes=request.limits.log_kept_bytes,
            decode=values.decode,
            compare=partial(values.mismatches, program.manifest),
            on_cancel=self._on_cancel,
            request=request,
            keeper=keeper,
        )
        self.handle = Job(self.job)

    @property
    def trace(self) -> Trace:
        """The time that each step of the job took."""
        return self.job.trace

    def hold(self, sandbox: Holding | None) -> None:
        """Set the sandbox that the job has from now on; None means none."""
        if sandbox is not None:
            self.job.image = sandbox.spec.image
        self.job.gauge = sandbox.memory_bytes if sandbox is not None else nothing_known
        self.sandbox = sandbox

    def call_back(self, callback: Callback | None, on_final: Callback | None) -> None:
        """Set the callbacks for messages and result, called from `begin` on."""
        if callback is not None or on_final is not None:
            self._callbacks = (callback or _ignore, on_final or _ignore)

    def begin(self) -> None:
        """Start the thread that calls back and ends with the job; RunnerError if it cannot start.

        Called when it is the job's turn: a thousand waiting jobs need no thousand threads.
        """
        if self._callbacks is None:
            return
        self.job.delivery.expect()
        arguments = (*self._callbacks, self.waker.wake)
        thread = threading.Thread(
            target=self.job.delivery.deliver, args=arguments, name="qrunner-callback", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:
            msg = f"this process cannot start a thread for the callback: {error}"
            raise RunnerError(msg) from error

    def perform(self, execute: Callable[[Task], Verdict]) -> None:
        """Execute the job in this thread; it always ends with a record."""
        verdict = our_fault("the supervisor was interrupted")
        try:
            self.begin()
            verdict = execute(self)
        except CancelledError:
            verdict = Verdict(outcome=Outcome.CANCELLED)
        except RequestError as error:  # found only by the engine, or while the image is built
            verdict = refusal(error)
        except RunnerError as error:
            verdict = our_fault(str(error))
        except OSError as error:
            verdict = our_fault(f"this host refused what a job needs: {error}")
        except Exception as error:
            log.exception("job %s failed inside the supervisor", self.job.id)
            verdict = our_fault(our_own(error))
        finally:
            self.finish(verdict)

    def _on_cancel(self) -> None:
        if self.job.started is None:
            self.finish(Verdict(outcome=Outcome.CANCELLED))
            self._withdraw(self)
        self.interrupt.fire()
        self.waker.wake()

    def finish(self, verdict: Verdict) -> None:
        """Set the job's record; only the first call has an effect."""
        try:
            record = self._record(verdict)
        except Exception as error:
            # Someone may be waiting for the job without a timeout.
            log.exception("the record of %s cannot be written", self.job.id)
            evidence = Evidence(source="host", detail=f"no record could be written: {error!r}")
            record = JobRecord(
                job=self.job.id,
                program=self.program.name,
                outcome=Outcome.SANDBOX_ERROR,
                evidence=evidence,
                error=evidence.detail,
            )
        self.job.finish(record)

    def _record(self, verdict: Verdict) -> JobRecord:
        job, sandbox = self.job, self.sandbox
        stamps = {"created": job.created, "started": job.started, "finished": datetime.now(UTC)}
        traceback = verdict.traceback
        if traceback is not None:
            traceback = _with_shown_paths(traceback, self.program)
        policy = sandbox.spec.policy if sandbox else self.policy  # a cell may have more of it
        return JobRecord(
            job=job.id,
            program=self.program.name,
            outcome=verdict.outcome,
            result=verdict.result,
            error=verdict.error,
            traceback=traceback,
            evidence=verdict.evidence,
            usage=verdict.usage,
            image=job.image,
            isolation=policy.isolation.value,
            carrier=sandbox.carrier.value if sandbox else None,
            place=sandbox.kind.value if sandbox else None,
            policy=policy.digest(self.limits),
            exceptions=(*policy.exceptions(), *_weaker(sandbox), *self.exceptions),
            node=job.node,
            attempt=job.attempt,
            user=self.request.user,
            timestamps={
                name: stamp.isoformat() if stamp else None for name, stamp in stamps.items()
            },
            versions=versions(),
        )


def _weaker(sandbox: Holding | None) -> tuple[str, ...]:
    """Return the exception for a place that separates jobs less strictly than others do."""
    return ("session",) if sandbox is not None and sandbox.kind is Kind.SESSION else ()


def refused(program: Program, error: InputsError, *, user: str) -> Job:
    """Return a job of `user` that has ended as `invalid_inputs`; `error` is the reason."""
    request = Request(program=program.name, path=str(program.path), user=user)
    task = Task(program, request, Policy(), lambda _: None)
    task.finish(refusal(error))
    return task.handle


def refusal(error: RequestError) -> Verdict:
    """Return the verdict for a request that was refused before a sandbox was used."""
    evidence = Evidence(source="host", detail=str(error))
    return Verdict(outcome=Outcome.INVALID_INPUTS, evidence=evidence, error=str(error))


def our_fault(detail: str) -> Verdict:
    """Return the verdict for a fault of neither the program nor the caller."""
    evidence = Evidence(source="host", detail=detail)
    return Verdict(outcome=Outcome.SANDBOX_ERROR, evidence=evidence, error=detail)


def _ignore(_job_id: str, _value: object) -> None:
    """Replace a callback that was not given."""


def _with_shown_paths(traceback: str, program: Program) -> str:
    """Replace the sandbox's paths of the program's files by the user's paths."""
    for inside in program.files:
        if inside.endswith(".py"):
            seen = f'File "{protocol.PROGRAM_DIRECTORY}/{inside}"'
            traceback = traceback.replace(seen, f'File "{program.shown_path(inside)}"')
    return traceback
