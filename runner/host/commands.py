"""External commands: with a deadline, a certain end, and the last lines of their output."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Final, Self

from runner.errors import ImageError, ManifestError
from runner.host import interrupt

STOP_TIMEOUT_S: Final = 10.0

_TICK_S: Final = 0.2
_MAX_WORDS: Final = 1 << 20
"""How many of the last bytes of a command's output are read."""


def module(name: str, *arguments: str, python: str | None = None) -> list[str]:
    """Return the command that runs a Python module, with this Python unless another is given.

    -P excludes the working directory, which may be an untrusted checkout, from the module path.
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
        limits: Mapping[int, int] | None = None,
    ) -> None:
        """Start the command; `limits` are resource limits for `resource.setrlimit`."""
        self._command = command
        self._limits = dict(limits or {})
        self._output = output
        self._given = given
        self._environment = environment

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as files:
            given = files.enter_context(tempfile.TemporaryFile())
            given.write(self._given)
            given.seek(0)
            self._errors = files.enter_context(tempfile.TemporaryFile())
            self._heard = 0
            self._process = subprocess.Popen(
                self._command,
                stdin=given,
                stdout=self._output if self._output is not None else self._errors,
                stderr=self._errors,
                env=self._environment,
                start_new_session=True,
                preexec_fn=self._confine,  # noqa: PLW1509  calls the kernel only, takes no lock
            )
            self._files = files.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        with self._files:
            for number in (signal.SIGTERM, signal.SIGKILL):
                if self._process.poll() is not None:
                    return
                with contextlib.suppress(OSError):  # it may have just ended
                    os.killpg(self._process.pid, number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(STOP_TIMEOUT_S)

    def finish(
        self,
        what: str,
        *,
        timeout_s: float,
        look: Callable[[], None] = lambda: None,
        hear: Callable[[str], None] = lambda _: None,
        blame: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """Wait for the end.  Raises ImageError with the last lines if it fails or is too late.

        `look` is called several times a second, and `hear` with the lines written since its last
        call; both may raise.  If the command fails and `blame` returns True for its output, the
        program is at fault, and ManifestError is raised instead.
        """
        deadline = time.monotonic() + timeout_s
        status = None
        with interrupt.calling(self._stop):
            while status is None:
                look()
                hear(self._news())
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    words = self._last_words()
                    msg = f"{what} took longer than {timeout_s:g} s and was stopped:\n{words}"
                    raise ImageError(msg)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    status = self._process.wait(min(left_s, _TICK_S))
        hear(self._news())
        if status:  # negative if it was killed, of which its output says nothing
            words = self.words()
            msg = f"{what} failed (exit code {status}):\n{_last(words)}"
            raise ManifestError(msg) if status > 0 and blame(words) else ImageError(msg)

    def _confine(self) -> None:
        for which, most in self._limits.items():
            resource.setrlimit(which, (most, most))

    def _stop(self) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(OSError):  # it may have just ended
                os.killpg(self._process.pid, signal.SIGTERM)

    def _news(self) -> str:
        """Return the whole lines that the command has written since the last call."""
        written = os.pread(self._errors.fileno(), _MAX_WORDS, self._heard)
        lines = written[: written.rfind(b"\n") + 1] if len(written) < _MAX_WORDS else written
        self._heard += len(lines)
        return lines.decode(errors="replace")

    def _last_words(self) -> str:
        return _last(self.words())

    def words(self) -> str:
        """Return what the command has written, of much the end."""
        self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - _MAX_WORDS))
        return self._errors.read().decode(errors="replace")


def _last(words: str) -> str:
    return "\n".join(_telling(words.splitlines())[-12:])


def _telling(lines: Sequence[str]) -> list[str]:
    """Return the lines that report an error, or all lines if none is marked as such."""
    return [line for line in lines if line.startswith(("E:", "ERROR", "W:"))] or list(lines)
