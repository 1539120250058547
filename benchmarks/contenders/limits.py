"""The same program with no container to start, in the same image.

Both run in one container that stays, and are timed inside it.
"""

from __future__ import annotations

import json
from typing import Any, ClassVar

from benchmarks.contenders.containers import Container
from benchmarks.contenders.contender import DRIVER, Contender, WrongAnswerError, answer_of
from benchmarks.subjects import Answer

INSIDE = """
import contextlib, io, json, subprocess, sys, time
from concurrent.futures import ThreadPoolExecutor

DRIVER = sys.argv[1]
sys.path.insert(0, "/program")


class Messenger:
    def publish(self, message, final=False):
        lines.append(json.dumps({"message": message}, default=lambda each: each.tolist()))


def in_process(inputs):
    lines.clear()
    result = program.main(AerSimulator(), Messenger(), **inputs)
    return [*lines, json.dumps({"result": result}, default=lambda each: each.tolist())]


def interpreter(inputs):
    command = [sys.executable, "-c", DRIVER]
    done = subprocess.run(command, input=json.dumps(inputs), capture_output=True, text=True)
    return done.stdout.splitlines() or [done.stderr]


run = {"in-process": in_process, "interpreter": interpreter}[sys.argv[2]]
if run is in_process:
    import program
    from qiskit_aer import AerSimulator
lines = []
for line in sys.stdin:
    asked = json.loads(line)
    began = time.perf_counter()
    if "for" in asked:

        def ask_on(_):
            count = 0
            while time.perf_counter() - began < asked["for"]:
                run(asked["inputs"])
                count += 1
            return count

        with ThreadPoolExecutor(asked["callers"]) as callers:
            said = {"count": sum(callers.map(ask_on, range(asked["callers"])))}
    else:
        said = {"lines": run(asked["inputs"])}
    print(json.dumps({"seconds": time.perf_counter() - began, **said}), flush=True)
"""


class Inside(Contender):
    """A contender that lives in a container of its own all the time."""

    group: ClassVar = "limit"
    mode: ClassVar[str]
    callers: ClassVar[int]

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._container: Container | None = None

    def open(self) -> None:
        command = ["python3", "-c", INSIDE, DRIVER, self.mode]
        ring = self.ring
        self._container = Container(ring.engine, ring.image, command, ring.labels)
        self.checked()

    def _ask(self, **what: Any) -> dict[str, Any]:
        assert self._container is not None
        self._container.write(json.dumps({"inputs": dict(self.ring.subject.inputs), **what}))
        while not (line := self._container.read()).startswith("{"):
            pass  # what the program printed
        said = json.loads(line)
        assert isinstance(said, dict)
        return said

    def run(self) -> Answer:
        said = self._ask()
        return answer_of(said["lines"], said["seconds"])

    def jobs_per_second(self, seconds: float) -> float:
        said = self._ask(**{"for": seconds, "callers": self.callers})
        if not said["count"]:
            msg = "no job was finished"
            raise WrongAnswerError(msg)
        return float(said["count"] / said["seconds"])

    def close(self) -> None:
        if self._container is not None:
            self._container.remove()


class InProcess(Inside):
    """A call of `main` where everything has been imported: with no boundary there is no faster."""

    name: ClassVar = "in-process"
    title: ClassVar = "call in a warm interpreter"
    what: ClassVar = "main() in an interpreter that has imported everything; no boundary at all"
    mode: ClassVar = "in-process"
    samples: ClassVar = 10
    callers: ClassVar = 1


class Interpreter(Inside):
    """A new interpreter for every job, no container."""

    name: ClassVar = "python"
    title: ClassVar = "python program.py"
    what: ClassVar = "a new interpreter for each job, no container to start"
    mode: ClassVar = "interpreter"
    callers: ClassVar = 2
