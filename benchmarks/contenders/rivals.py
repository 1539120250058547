"""The rivals, each in a process of its own with the libraries that it needs."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, ClassVar, Final

from benchmarks.contenders.contender import (
    CALLERS,
    DEADLINE_S,
    DRIVER,
    Contender,
    Ring,
    UnavailableError,
    WrongAnswerError,
    answer_of,
)
from benchmarks.subjects import Answer

ROOT: Final = Path(__file__).parents[2]
BIN: Final = ROOT / ".venv" / "bench" / "bin"
LOG: Final = ROOT / ".venv" / "bench.log"


class Rival(Contender):
    """A system of `benchmarks.rivals.systems`, which is timed in its own process."""

    group: ClassVar = "rival"

    def __init__(self, ring: Ring) -> None:
        super().__init__(ring)
        self._process: subprocess.Popen[bytes] | None = None
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed in `close`
        self._pending = b""
        self.version = ""

    def open(self) -> None:
        python = BIN / "python"
        if not python.exists():
            raise UnavailableError(not_installed())
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks.rivals"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        ring = self.ring
        what = {"system": self.name, "image": ring.rivals_image, "driver": DRIVER}
        answer = self._ask(open={**what, "labels": ring.labels})
        self.version = answer["version"]
        self.checked()

    def run(self) -> Answer:
        answer = self._ask(run=dict(self.ring.subject.inputs))
        return answer_of(answer["output"].splitlines(), answer["seconds"])

    def jobs_per_second(self, seconds: float) -> float:
        inputs = dict(self.ring.subject.inputs)
        answer = self._ask(rate=inputs, seconds=seconds, callers=CALLERS)
        return float(answer["count"] / answer["seconds"])

    def _ask(self, **request: Any) -> dict[str, Any]:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()
        answer = json.loads(self._line(time.monotonic() + DEADLINE_S))
        if "error" in answer:
            raise WrongAnswerError(answer["error"])
        assert isinstance(answer, dict)
        return answer

    def _line(self, deadline: float) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        while b"\n" not in self._pending:
            output = self._process.stdout.fileno()
            ready, _, _ = select.select([output], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(output, 1 << 16) if ready else b""
            if not data:
                why = "its process has ended" if ready else f"no answer within {DEADLINE_S:.0f} s"
                self._errors.seek(0)
                msg = f"{why}: {self._errors.read()[-300:]!r}"
                raise WrongAnswerError(msg)
            self._pending += data
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    def close(self) -> None:
        self._errors.close()
        if self._process is None:
            return
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


def not_installed() -> str:
    """Say why the rivals' environment is not there."""
    if not LOG.exists():
        return "not installed: run tools/setup-group bench"
    said = [each for each in LOG.read_text(errors="replace").splitlines() if "ERROR" in each]
    return f"not installed: {said[-1][:200] if said else f'see {LOG.name}'}"


class Epicbox(Rival):
    """epicbox: a container for each job."""

    name: ClassVar = "epicbox"
    title: ClassVar = "epicbox"
    what: ClassVar = "epicbox.run: a container for each job, until it has ended and is removed"


class LlmSandbox(Rival):
    """llm-sandbox: a session for each job."""

    name: ClassVar = "llm-sandbox"
    title: ClassVar = "llm-sandbox"
    what: ClassVar = "a session for each job: start a container, copy the code in, execute it"


class LlmSandboxPooled(Rival):
    """llm-sandbox with its pool: containers serve one caller after another."""

    name: ClassVar = "llm-sandbox-pooled"
    title: ClassVar = "llm-sandbox, pooled"
    what: ClassVar = "a session in a container of its pool, which has served other callers before"
