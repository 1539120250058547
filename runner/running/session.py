"""Many jobs of one program in few sandboxes: what `Supervisor.session` and `.map` give to callers.

A weaker boundary than one sandbox for each job, so it is used only where somebody asks for it by
name, for jobs that belong together: docs/sessions.md says what they share.
"""

from __future__ import annotations

import dataclasses
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any, Final, Self

from runner.errors import InputsError, RequestError
from runner.job import Job
from runner.job.delivery import Callback
from runner.policy import Limits
from runner.programs import Program
from runner.running.lanes import Place, Queue
from runner.running.task import refused

WINDOW: Final = 32
"""How many inputs `map` is ahead of the job that it yields, for each sandbox."""


class Session:
    """Runs jobs of one program, one at a time in each of its sandboxes, in order.

    Made by `Supervisor.session`; a context manager.  Leaving it cancels what has not ended.
    """

    def __init__(
        self, program: Program, limits: Limits, user: str, queue: Queue, submit: Callable[..., Job]
    ) -> None:
        self.program = program
        self.user = user
        self._limits = limits
        self._queue = queue
        self._submit = submit
        self._close = weakref.finalize(self, queue.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(
        self,
        inputs: Mapping[str, Any] | None = None,
        *,
        callback: Callback | None = None,
        on_final: Callback | None = None,
        limits: Mapping[str, float] | None = None,
    ) -> Job:
        """Submit a job and return it at once; the arguments are those of `Supervisor.run`.

        `limits` may lower those of a job (time, messages, result, log); those of the sandbox
        (memory, cpus, processes, tmp) are the session's.  Raises RequestError, also after `close`.
        """
        lowered = self._limits.lowered_by(limits or {})
        if limits:
            _check_container(lowered.for_container(), self._limits.for_container())
        place = Place(self._queue, self)
        return self._submit(place, inputs, lowered, callback=callback, on_final=on_final)

    def close(self) -> None:
        """Cancel what has not ended, and give the sandboxes back."""
        self._close()


def mapped(
    session: Session,
    inputs_list: Iterable[Mapping[str, Any] | InputsError],
    callback: Callback | None,
    *,
    ahead: int,
) -> Generator[Job, None, None]:
    """Run each of many inputs; yield the jobs in this order, each when it has ended.

    At most `ahead` inputs are read beyond the job that is yielded.  Refused inputs, and an error
    in the place of inputs, become jobs that have ended as `invalid_inputs`.
    """
    jobs: deque[Job] = deque()
    with session:
        for inputs in inputs_list:
            try:
                if isinstance(inputs, InputsError):
                    raise inputs
                jobs.append(session.run(inputs, callback=callback))
            except InputsError as error:
                jobs.append(refused(session.program, error, user=session.user))
            while len(jobs) >= ahead or (jobs and jobs[0].record is not None):
                yield _ended(jobs.popleft())
        while jobs:
            yield _ended(jobs.popleft())


def _ended(job: Job) -> Job:
    job.wait()
    return job


def _check_container(wanted: Limits, there: Limits) -> None:
    for each in dataclasses.fields(Limits):
        value, known = getattr(wanted, each.name), getattr(there, each.name)
        if value != known:
            msg = (
                f"limit {each.name} of a job in a session is {value:g}, that of the session's "
                f"sandbox {known:g}: give it to the session, where it holds for all jobs"
            )
            raise RequestError(msg)
