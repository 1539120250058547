"""This project: a cold start for each job, cells and containers that wait, and sessions."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from typing import Any, ClassVar, Final

from benchmarks.contenders.contender import CALLERS, DEADLINE_S, Contender, Ring
from benchmarks.subjects import Answer
from runner import Job, Supervisor

POOL: Final = 2
"""How many sandboxes wait: as many as are asked for at the same time."""

AHEAD: Final = 32
"""How many jobs of a session are submitted before the first has ended, in all its sandboxes."""


class Ours(Contender):
    """A job of a supervisor, from `run` to the result; the supervisor stays."""

    group: ClassVar = "ours"

    def __init__(self, ring: Ring) -> None:
        super().__init__(ring)
        self._supervisor: Supervisor | None = None

    def options(self) -> dict[str, Any]:
        """Return the supervisor's options."""
        return {}

    def open(self) -> None:
        self._supervisor = Supervisor(**self.options())
        self.settle()

    def submit(self) -> Job:
        """Submit one job."""
        assert self._supervisor is not None
        return self._supervisor.run(self.ring.subject.program, self.ring.subject.inputs)

    def run(self) -> Answer:
        began = time.perf_counter()
        return self.answer(self.submit(), began)

    def answer(self, job: Job, began: float) -> Answer:
        """Wait for the result, and return it with the time until then."""
        result = job.result(DEADLINE_S)
        seconds = time.perf_counter() - began
        return Answer(seconds, result, list(job.messages()), {})

    def close(self) -> None:
        if self._supervisor is not None:
            self._supervisor.close()


class Cold(Ours):
    """A new sandbox for every job, started when the job is submitted."""

    name: ClassVar = "cold"
    title: ClassVar = "qrunner, cold"
    what: ClassVar = "a sandbox that is started for the job, and used once"


class Warm(Ours):
    """A place that waits with everything imported, for one job; the next is made meanwhile.

    A cell, and where there are none a container.
    """

    name: ClassVar = "warm"
    title: ClassVar = "qrunner, warm"
    what: ClassVar = "a cell that was made beforehand, and is used once"
    samples: ClassVar = 10
    keeps: ClassVar = POOL

    def options(self) -> dict[str, Any]:
        return {"warm": {self.ring.subject.program: POOL}}

    def settle(self) -> None:
        assert self._supervisor is not None
        self._supervisor.wait_until_warm(DEADLINE_S)


class Session(Ours):
    """Many jobs of one user, each in a cell of its own."""

    name: ClassVar = "session"
    title: ClassVar = "qrunner, in a session"
    what: ClassVar = "one of many jobs of one user, each in a cell that is made meanwhile"
    samples: ClassVar = 10
    keeps: ClassVar = 1

    def open(self) -> None:
        super().open()
        assert self._supervisor is not None
        self._session = self._supervisor.session(self.ring.subject.program)

    def submit(self) -> Job:
        return self._session.run(self.ring.subject.inputs)

    def jobs_per_second(self, seconds: float) -> float:
        """Return how many jobs a second it does for a user who has many, as many at a time."""
        assert self._supervisor is not None
        subject = self.ring.subject
        with self._supervisor.session(subject.program, sandboxes=CALLERS) as session:
            self._answer_all([session.run(subject.inputs) for _ in range(2 * CALLERS)])
            began = time.perf_counter()
            pending: deque[Job] = deque()
            count = 0
            while (is_early := time.perf_counter() - began < seconds) or pending:
                while is_early and len(pending) < AHEAD:
                    pending.append(session.run(subject.inputs))
                self._answer_all([pending.popleft()])
                count += 1
            return count / (time.perf_counter() - began)

    def _answer_all(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            self.insist(self.answer(job, time.perf_counter()))


class Forks(Session):
    """The same without cells: jobs are forked one after another in one container."""

    name: ClassVar = "forks"
    title: ClassVar = "qrunner, in a session of forks"
    what: ClassVar = "one of many jobs in the same container, each forked from what was warmed up"

    def options(self) -> dict[str, Any]:
        return {"cells": False}
