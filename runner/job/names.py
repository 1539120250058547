"""The method names of Qiskit's `RuntimeJob`, for members that `Job` names differently."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from runner.job.delivery import Callback
from runner.job.life import Life
from runner.job.record import JobStatus


class RuntimeJobNames:
    """The part of a `Job` that exists for code written for Qiskit Runtime.

    Each member is equivalent to another member of `Job`; docs/from-qiskit-runtime.md lists them.
    """

    _life: Life

    def job_id(self) -> str:
        """Return `id`."""
        return self._life.id

    @property
    def program_id(self) -> str:
        """The program's name, `program`."""
        return self._life.program

    @property
    def creation_date(self) -> datetime:
        """The time of submission, in UTC: `created`."""
        return self._life.created

    def running(self) -> bool:
        """Return True if the program is running."""
        return self._life.status is JobStatus.RUNNING

    def done(self) -> bool:
        """Return True if the job has completed."""
        return self._life.status is JobStatus.DONE

    def cancelled(self) -> bool:
        """Return True if the job was cancelled."""
        return self._life.status is JobStatus.CANCELLED

    def errored(self) -> bool:
        """Return True if the job has ended and was neither completed nor cancelled."""
        return self._life.status is JobStatus.ERROR

    def in_final_state(self) -> bool:
        """Return True if the job has ended, with any outcome."""
        return self._life.record is not None

    def wait_for_final_state(self, timeout: float | None = None) -> None:
        """Wait for the end.  Raises TimeoutError after `timeout` seconds; the job continues."""
        self._life.wait(timeout)

    def interim_results(self) -> list[Any]:
        """Return the interim results published so far, without waiting."""
        return [self._life.decode(body) for body in self._life.history.bodies()]

    def stream_results(self, callback: Callback, on_final: Callback | None = None) -> None:
        """Call `callback(job_id, message)` for every interim result, the earlier ones first.

        After the last one, call `on_final(job_id, result)` if the job completes.  Both are called
        from a thread; their exceptions are logged and do not affect the job.  Raises RequestError
        if such a stream runs already, RunnerError if no thread can be started.
        """
        self._life.delivery.stream(callback, on_final)

    def cancel_result_streaming(self) -> None:
        """End the stream of `stream_results`; the job continues.  Does nothing without a stream."""
        self._life.delivery.cancel_stream()
