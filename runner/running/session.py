"""Many jobs of one program in few sandboxes: what `Supervisor.session` and `.map` give to callers.

A weaker boundary than one sandbox for each job, so it is used only where somebody asks for it by
name, for jobs that belong together: docs/sessions.md says what they share.
"""

from __future__ import annotations

import dataclasses
import os
import weakref
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any, Final, Self

from runner.errors import InputsError, RequestError
from runner.job import Job
from runner.policy import Limits
from runner.registry import Program, find
from runner.running.lanes import Place, Queue, refused
from runner.sandboxes.starts import CORES

Callback = Callable[[str, Any], object]

WINDOW: Final = 32
"""How many inputs `map` is ahead of the job that it yields, for each sandbox."""


class Session:
    """Runs jobs of one program, one at a time in each of its sandboxes, in order.

    Made by `Supervisor.session`; a context manager.  Leaving it cancels what has not ended.
    """

    def __init__(self, program: Program, lanes: Queue, run: Callable[..., Job]) -> None:
        self.program = program
        self._run = run
        self._lanes = lanes
        self._close = weakref.finalize(self, lanes.close)

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
        place = Place(self._lanes, self)
        return self._run(place, inputs, callback=callback, on_final=on_final, limits=limits)

    def refused(self, error: InputsError) -> Job:
        """Return a job that has ended because of its inputs."""
        return refused(self.program, error)

    def close(self) -> None:
        """Cancel what has not ended, and give the sandboxes back."""
        self._close()


class Sessions(ABC):
    """The part of a supervisor that makes sessions; `_places`: how many jobs `map` runs at once."""

    _places: int = CORES

    def session(
        self,
        program: str | os.PathLike[str] | Program,
        *,
        backend: str | Mapping[str, Any] | None = None,
        limits: Mapping[str, float] | Limits | None = None,
        options: Mapping[str, Any] | None = None,
        sandboxes: int = 1,
        owner: str = "",
    ) -> Session:
        """Return a session: many jobs of one program, forked one after another in one sandbox.

        Many times as many jobs a second as with a sandbox for each, and a weaker boundary between
        them: docs/sessions.md.  For jobs of one owner, never of several.

        Arguments:
            program, backend, limits, options, owner: as in `run`; they hold for all jobs.
            sandboxes: how many jobs run at the same time, each in a sandbox of its own.

        Raises RequestError if the program or an argument is refused; nothing is started before the
        first job.
        """
        if sandboxes < 1:
            msg = f"sandboxes is {sandboxes}: a session needs at least one"
            raise RequestError(msg)
        if not isinstance(program, Program):
            program = find(program)
        container = self._limits_of(program, limits).for_container()
        common = {"backend": backend, "options": options}

        def run(place: Place, inputs: Any, **own: Any) -> Job:
            lower = own.pop("limits") or {}
            effective = self._limits_of(program, limits).lowered_by(lower)
            _check_container(effective.for_container(), container)
            return self._run_in(place, program, inputs, effective, **common, **own)

        return Session(program, self._make_lanes(sandboxes, owner), run)

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
        owner: str = "",
    ) -> Generator[Job, None, None]:
        """Run a program once for each of many inputs; yield each job when it has ended, in order.

        The jobs run in a session of `sandboxes` (default: one per core), on a cluster each in a
        sandbox of its own.  `inputs_list` is read as it is needed, at most `WINDOW` per sandbox
        ahead of the job that is yielded.  Refused inputs come as jobs that have ended as
        `invalid_inputs`, and so does an `InputsError` in the place of inputs; failing jobs come as
        what they are.  Leaving the loop early, or closing the iterator, cancels the rest.

        Raises RequestError if the program or an argument is refused.
        """
        count = self._places if sandboxes is None else sandboxes
        session = self.session(
            program,
            backend=backend,
            limits=limits,
            options=options,
            sandboxes=count,
            owner=owner,
        )
        return self._map(session, inputs_list, callback, WINDOW * count)

    def _map(
        self,
        session: Session,
        inputs_list: Iterable[Mapping[str, Any] | InputsError],
        callback: Callback | None,
        window: int,
    ) -> Generator[Job, None, None]:
        jobs: deque[Job] = deque()
        with session:
            for inputs in inputs_list:
                try:
                    if isinstance(inputs, InputsError):
                        raise inputs
                    jobs.append(session.run(inputs, callback=callback))
                except InputsError as error:
                    jobs.append(session.refused(error))
                while len(jobs) >= window or (jobs and jobs[0].record is not None):
                    yield _ended(jobs.popleft())
            while jobs:
                yield _ended(jobs.popleft())

    @abstractmethod
    def _limits_of(
        self, program: Program, limits: Mapping[str, float] | Limits | None
    ) -> Limits: ...

    @abstractmethod
    def _make_lanes(self, count: int, owner: str) -> Queue: ...

    @abstractmethod
    def _run_in(
        self, place: Place, program: Program, inputs: Any, limits: Limits, **arguments: Any
    ) -> Job: ...


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
