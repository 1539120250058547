"""Many jobs of one program: the results of `Supervisor.session` and `.map`.

Where there are no cells, jobs of a session are separated less strictly than with one sandbox per
job.  Sessions are therefore used only on explicit request, for jobs that belong together;
docs/sessions.md lists what they share.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Final, Self

from runner.errors import InputsError, RequestError
from runner.host.closing import Closing
from runner.job import Job
from runner.job.delivery import Callback
from runner.policy import Limits
from runner.programs import Program
from runner.running.task import refused

WINDOW: Final = 32
"""How many inputs per sandbox `map` reads ahead of the job that it yields."""


class Session:
    """Runs jobs of one program in order, one at a time in each of its sandboxes.

    Made by `Supervisor.session`.  A context manager: leaving it cancels jobs that have not ended.
    """

    def __init__(
        self,
        program: Program,
        limits: Limits,
        user: str,
        submit: Callable[..., Job],
        closing: Closing,
    ) -> None:
        self.program = program
        self.user = user
        self._limits = limits
        self._submit = submit
        self._close = closing

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

        `limits` may lower the limits of a job (time, messages, result, log); the limits of the
        sandbox (memory, cpus, processes, tmp) belong to the session.  Raises RequestError, also
        after `close`.
        """
        lowered = self._limits.lowered_by(limits or {})
        if limits:
            _check_container(lowered.for_container(), self._limits.for_container())
        return self._submit(inputs, lowered, callback=callback, on_final=on_final)

    def mapped(
        self,
        inputs_list: Iterable[Mapping[str, Any] | InputsError],
        callback: Callback | None,
        *,
        ahead: int,
    ) -> MappedJobs:
        """Return the jobs for many inputs, which end with the session: see `Supervisor.map`."""
        self._close.rename(f"map of {self.program.name}")
        run = partial(self.run, callback=callback)
        reject = partial(refused, self.program, user=self.user)
        return MappedJobs(run, reject, inputs_list, self._close, ahead=ahead)

    def close(self) -> None:
        """Cancel jobs that have not ended, and give the sandboxes back."""
        self._close()


class MappedJobs(Iterator[Job]):
    """The jobs of a `map`, in the order of their inputs, each one after it has ended.

    Closes itself at the end.  `close`, or leaving it as a context manager, cancels the jobs that
    have not ended.
    """

    def __init__(
        self,
        run: Callable[[Mapping[str, Any]], Job],
        reject: Callable[[InputsError], Job],
        inputs_list: Iterable[Mapping[str, Any] | InputsError],
        close: Closing,
        *,
        ahead: int,
    ) -> None:
        self._close = close
        self._jobs = _run_all(run, reject, inputs_list, ahead)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __next__(self) -> Job:
        try:
            return next(self._jobs)
        except BaseException:  # the end, an error of `inputs_list`, or Ctrl-C
            self.close()
            raise

    def close(self) -> None:
        """Cancel jobs that have not ended, and give the sandboxes back; yields no more jobs."""
        self._close()
        self._jobs = iter(())


def _run_all(
    run: Callable[[Mapping[str, Any]], Job],
    reject: Callable[[InputsError], Job],
    inputs_list: Iterable[Mapping[str, Any] | InputsError],
    ahead: int,
) -> Iterator[Job]:
    """Yield each job when it has ended; read at most `ahead` inputs ahead of it."""
    jobs: deque[Job] = deque()
    for inputs in inputs_list:
        try:
            if isinstance(inputs, InputsError):
                raise inputs
            jobs.append(run(inputs))
        except InputsError as error:
            jobs.append(reject(error))
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
                f"limit {each.name} of a job in a session is {value:g}, but its sandbox has "
                f"{known:g}: give the limit to the session, where it applies to all jobs"
            )
            raise RequestError(msg)
