"""What every contender is to the comparison: it opens, answers, settles and closes."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from benchmarks.subjects import Answer, Subject
from runner.engine import Engine

CALLERS: Final = 2
"""How many ask at the same time where jobs per second are measured."""

DEADLINE_S: Final = 120.0

DRIVER: Final = (Path(__file__).parents[1] / "rivals" / "driver.py").read_text()


class UnavailableError(Exception):
    """A contender cannot take part here; the message says why, for a reader of the table."""


class WrongAnswerError(Exception):
    """A contender answered, and not what the program says."""


@dataclass(frozen=True, slots=True)
class Ring:
    """Where the contenders meet: one engine, one program, its image and one for the rivals."""

    engine: Engine
    subject: Subject
    image: str
    rivals_image: str
    labels: dict[str, str]


class Contender(ABC):
    """One way to run a program.  `open` may take its time; only `run` is on the clock."""

    name: ClassVar[str]
    title: ClassVar[str]
    what: ClassVar[str]
    """One line for the reader: what happens between the question and the answer."""

    group: ClassVar[str]
    """`ours`, `bare`, `rival` or `limit`."""

    samples: ClassVar[int] = 1
    """How many answers are timed in each round: more of those that are quick."""

    keeps: ClassVar[int] = 0
    """How many sandboxes of ours wait while it rests."""

    version: str = ""

    def __init__(self, ring: Ring) -> None:
        self.ring = ring

    def open(self) -> None:  # noqa: B027  nothing, for most
        """Make ready.  Raises UnavailableError if it cannot take part."""

    @abstractmethod
    def run(self) -> Answer:
        """Run the program once."""

    def settle(self) -> None:  # noqa: B027
        """Wait until nothing of this contender's uses the machine, and it is ready again."""

    def jobs_per_second(self, seconds: float) -> float:
        """Return how many jobs a second it answers when CALLERS ask all the time."""
        began = time.perf_counter()

        def ask_on(_: int) -> int:
            count = 0
            while time.perf_counter() - began < seconds:
                self.checked()
                count += 1
            return count

        with ThreadPoolExecutor(CALLERS) as callers:
            count = sum(callers.map(ask_on, range(CALLERS)))
        return count / (time.perf_counter() - began)

    def close(self) -> None:  # noqa: B027
        """Leave nothing behind; also after a failure."""

    def checked(self) -> Answer:
        """Run the program once, and insist on the right answer."""
        return self.insist(self.run())

    def insist(self, answer: Answer) -> Answer:
        """Return the answer if it is right.  Raises WrongAnswerError."""
        if not self.ring.subject.is_right(answer):
            msg = f"a wrong answer: {answer.result!r:.200} after {len(answer.messages)} messages"
            raise WrongAnswerError(msg)
        return answer


def answer_of(lines: Iterable[str], seconds: float, **further: float) -> Answer:
    """Return what the driver's lines say.  Raises WrongAnswerError if there is no result."""
    said: list[dict[str, Any]] = [json.loads(line) for line in lines if line.startswith("{")]
    if not said or "result" not in said[-1]:
        msg = f"no result, but {''.join(lines)!r:.300}"
        raise WrongAnswerError(msg)
    messages = [each["message"] for each in said[:-1]]
    return Answer(seconds, said[-1]["result"], messages, further)
