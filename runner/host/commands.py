"""Other programs that we run: with a deadline, an end that is certain, and their last words."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import IO, Final, Self

from runner.errors import ImageError
from runner.host import interrupt

STOP_TIMEOUT_S: Final = 10.0


def module(name: str, *arguments: str, python: str | None = None) -> list[str]:
    """Return the command that runs a Python module, by this Python unless another is named.

    -P: else modules of the working directory, which may be a stranger's checkout, come first.
    """
    return [python or sys.executable, "-P", "-m", name, *arguments]


class Command:
    """A subprocess in a session of its own that does not outlive its `with` block."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        output: IO[bytes] | None = None,
        given: bytes = b"",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._command = command
        self._output = output
        self._given = given
        self._environment = environment

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as files:
            given = files.enter_context(tempfile.TemporaryFile())
            given.write(self._given)
            given.seek(0)
            self._errors = files.enter_context(tempfile.TemporaryFile())
            self._process = subprocess.Popen(
                self._command,
                stdin=given,
                stdout=self._output if self._output is not None else self._errors,
                stderr=self._errors,
                env=self._environment,
                start_new_session=True,
            )
            self._files = files.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        with self._files:
            for number in (signal.SIGTERM, signal.SIGKILL):
                if self._process.poll() is not None:
                    return
                with contextlib.suppress(OSError):  # it may have ended just now
                    os.killpg(self._process.pid, number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(STOP_TIMEOUT_S)

    def finish(self, what: str, *, timeout_s: float) -> None:
        """Wait for the end; ImageError with the last words of a command that fails or is late."""
        try:
            with interrupt.calling(self._stop):
                status = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            msg = f"{what} took longer than {timeout_s:g} s and was stopped:\n{self._last_words()}"
            raise ImageError(msg) from None
        if status:
            msg = f"{what} failed (exit code {status}):\n{self._last_words()}"
            raise ImageError(msg)

    def _stop(self) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(OSError):  # it may have ended just now
                os.killpg(self._process.pid, signal.SIGTERM)

    def _last_words(self) -> str:
        self._errors.seek(0)
        text = self._errors.read().decode(errors="replace")
        return "\n".join(_telling(text.splitlines())[-12:])


def _telling(lines: Sequence[str]) -> list[str]:
    """Return the lines that say what went wrong, all of them if none is marked as such."""
    return [line for line in lines if line.startswith(("E:", "ERROR", "W:"))] or list(lines)
