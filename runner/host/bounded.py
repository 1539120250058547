"""Work on untrusted data in a child process with bounds on CPU time, memory and answers.

A module that has such work calls `ask` with its own name, and `serve` in the child.  Questions and
answers are JSON, one per line, so that answers given in time count even if later ones are missing.
Nothing is left behind: the child always ends with `ask`.
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
    """The caller no longer wants the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The most that all answers to one `ask` may use together; `wall_s` suits a busy machine."""

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
    """Return the answers that a child running `module` gave within the bounds.

    Each question is JSON text.  Raises AbandonedError soon after `abandoned` is set.
    """
    with tempfile.TemporaryFile() as asked, tempfile.TemporaryFile() as answered:
        for each in questions:
            # Line breaks in JSON text can only stand between its tokens.
            asked.write(each.replace("\n", " ").replace("\r", " ").encode() + b"\n")
        asked.seek(0)
        _run(module, asked, answered, bounds, abandoned or threading.Event())
        answered.seek(0)
        lines = answered.read(MAX_ANSWER_BYTES).split(b"\n")
    return [json.loads(each) for each in lines[:-1]]


def _run(
    module: str, asked: IO[bytes], answered: IO[bytes], bounds: Bounds, abandoned: threading.Event
) -> None:
    """Run the child until it ends, or must be ended."""
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
    """Answer on stdout the questions on stdin, within the bounds; runs in the child."""
    cpu_s, memory_bytes = map(int, sys.argv[1:])
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_ANSWER_BYTES, MAX_ANSWER_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for each in answers(map(json.loads, sys.stdin.buffer)):
        os.write(sys.stdout.fileno(), json.dumps(each).encode() + b"\n")
