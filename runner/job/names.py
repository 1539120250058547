"""Names that Qiskit users know: those of `RuntimeJob` for what `Job` calls otherwise."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from runner.job.delivery import Callback
from runner.job.life import Life
from runner.job.record import JobStatus


class RuntimeJobNames:
    """The part of a `Job` that is there for code written for Qiskit Runtime.

    Each of these says or does what another member does as well; docs/from-qiskit-runtime.md lists
    them.
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
        """When the job was submitted, in UTC: `created`."""
        return self._life.created

    def running(self) -> bool:
        """Return whether the program runs now."""
        return self._life.status is JobStatus.RUNNING

    def done(self) -> bool:
        """Return whether the job has completed."""
        return self._life.status is JobStatus.DONE

    def cancelled(self) -> bool:
        """Return whether the job has ended by being cancelled."""
        return self._life.status is JobStatus.CANCELLED

    def errored(self) -> bool:
        """Return whether the job has ended, neither completed nor cancelled."""
        return self._life.status is JobStatus.ERROR

    def in_final_state(self) -> bool:
        """Return whether the job has ended, however that was."""
        return self._life.record is not None

    def wait_for_final_state(self, timeout: float | None = None) -> None:
        """Wait for the end; TimeoutError after `timeout` seconds, which leaves the job alive."""
        self._life.wait(timeout)

    def interim_results(self) -> list[Any]:
        """Return the interim results that have been published so far, without waiting."""
        return [self._life.decode(body) for body in self._life.history.bodies()]

    def stream_results(self, callback: Callback, on_final: Callback | None = None) -> None:
        """Call `callback(job_id, message)` for every interim result, the earlier ones first.

        Then `on_final(job_id, result)`, a function of its own, if the job completes.  Both are
        called from a thread; their exceptions are logged and do no harm.  Raises RequestError if
        such a stream runs already, RunnerError if no thread can be started.
        """
        self._life.delivery.stream(callback, on_final)

    def cancel_result_streaming(self) -> None:
        """End what `stream_results` began, while the job goes on; harmless if nothing streams."""
        self._life.delivery.cancel_stream()
