"""Work on what strangers wrote, in a child process whose CPU time, memory and answers are bounded.

A module that has such work calls `ask` with itself as the child; there it calls `serve`.  Questions
and answers are JSON, one a line, so that what was answered in time counts although the rest was
not.  Nothing of it stays: the child ends with `ask`, whatever happens.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from runner.errors import RunnerError

MAX_ANSWER_BYTES: Final = 16 << 20

_TICK_S: Final = 0.05


class AbandonedError(RunnerError):
    """Whoever asked does not want to know any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What all answers to one `ask` may take together; `wall_s` is for a busy machine."""

    cpu_s: int
    wall_s: float
    memory_bytes: int

    def __str__(self) -> str:
        return f"{self.cpu_s} s or {self.memory_bytes >> 20} MiB"


def ask(
    module: str,
    questions: Iterable[str],
    bounds: Bounds,
    abandoned: threading.Event | None = None,
) -> list[Any]:
    """Return the answers of a child that runs `module`: those that it gave within the bounds.

    Each question is JSON text.  Raises AbandonedError soon after `abandoned` is set.
    """
    with tempfile.TemporaryFile() as asked, tempfile.TemporaryFile() as answered:
        for each in questions:
            # Line ends in JSON text can only stand between its tokens.
            asked.write(each.replace("\n", " ").replace("\r", " ").encode() + b"\n")
        asked.seek(0)
        _run(module, asked, answered, bounds, abandoned or threading.Event())
        answered.seek(0)
        lines = answered.read(MAX_ANSWER_BYTES).split(b"\n")
    return [json.loads(each) for each in lines[:-1]]


def _run(
    module: str, asked: IO[bytes], answered: IO[bytes], bounds: Bounds, abandoned: threading.Event
) -> None:
    """Run the child until it has ended, or has to."""
    deadline = time.monotonic() + bounds.wall_s
    arguments = [str(bounds.cpu_s), str(bounds.memory_bytes)]
    with subprocess.Popen(
        [sys.executable, "-s", "-m", module, *arguments],
        stdin=asked,
        stdout=answered,
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).parents[2],
    ) as child:
        try:
            while time.monotonic() < deadline:
                if abandoned.is_set():
                    raise AbandonedError
                try:
                    child.wait(_TICK_S)
                except subprocess.TimeoutExpired:
                    continue
                return
        finally:
            child.kill()


def serve(answers: Callable[[Iterator[Any]], Iterable[Any]]) -> None:
    """Answer on stdout what is asked on stdin, within the bounds; runs in the child."""
    cpu_s, memory_bytes = map(int, sys.argv[1:])
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_ANSWER_BYTES, MAX_ANSWER_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for each in answers(map(json.loads, sys.stdin.buffer)):
        os.write(sys.stdout.fileno(), json.dumps(each).encode() + b"\n")
