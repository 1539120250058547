"""One job on its way through the supervisor: what was asked, and how it is ended from outside.

`Job` is the caller's handle; `Task` is what the supervisor's threads hold.  Cancelling a job whose
program does not run yet ends it at once: whatever its thread waits for is interrupted and cleaned
up afterwards, off the caller's path.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from runner import values
from runner.execution import Verdict
from runner.interrupt import Interrupt
from runner.job import Evidence, Job, JobRecord, Outcome
from runner.launcher import Sandbox, Waker
from runner.policy import Limits, Policy
from runner.registry import Program
from sandbox import protocol

log = logging.getLogger(__name__)


class Task:
    """A job with its request; `sandbox` is the one that it has now, if any."""

    def __init__(
        self,
        program: Program,
        request: protocol.Run,
        limits: Limits,
        policy: Policy,
        withdraw: Callable[[Task], object],
    ) -> None:
        self.program = program
        self.request = request
        self.limits = limits
        self.policy = policy
        self.sandbox: Sandbox | None = None
        self.interrupt = Interrupt()
        self.waker = Waker()
        self._withdraw = withdraw
        self.job = Job(
            f"job-{secrets.token_hex(8)}",
            program.name,
            log_kept_bytes=limits.log_kept_bytes,
            decode=values.decode,
            compare=partial(values.mismatches, program.manifest),
            on_cancel=self._on_cancel,
        )

    def _on_cancel(self) -> None:
        if self.job.started is None:
            self.finish(Verdict(outcome=Outcome.CANCELLED))
            self._withdraw(self)
        self.interrupt.fire()
        self.waker.wake()

    def finish(self, verdict: Verdict) -> None:
        """Give the job its record; only the first one counts."""
        try:
            record = self._record(verdict)
        except Exception as error:
            # Somebody may be waiting for it without a limit.
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
            isolation=self.policy.isolation.value,
            carrier=sandbox.carrier.value if sandbox else None,
            policy=self.policy.digest(self.limits),
            exceptions=self.policy.exceptions(),
            timestamps={
                name: stamp.isoformat() if stamp else None for name, stamp in stamps.items()
            },
        )


def our_fault(detail: str) -> Verdict:
    """Return the verdict for what is neither the program's nor the caller's doing."""
    evidence = Evidence(source="host", detail=detail)
    return Verdict(outcome=Outcome.SANDBOX_ERROR, evidence=evidence, error=detail)


def _with_shown_paths(traceback: str, program: Program) -> str:
    """Replace the sandbox's paths of the program's files by the user's own."""
    for inside in program.files:
        if inside.endswith(".py"):
            seen = f'File "{protocol.PROGRAM_DIRECTORY}/{inside}"'
            traceback = traceback.replace(seen, f'File "{program.shown_path(inside)}"')
    return traceback
