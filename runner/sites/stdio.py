"""The node part as a child process: here, or wherever a command prefix starts it.

Slurm uses this with `srun` as prefix.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from runner.errors import RunnerError
from runner.host import commands
from runner.sites.cluster import Capacity, NodeCapacity, node_name
from runner.sites.stream import Stream, Streams
from runner.sites.wire import End, JobSpec

_LAST_WORDS: Final = 1 << 14
_SHOWN: Final = 500


class StdioEngine(Streams):
    """Starts one process per job; `prefix` is put before the node part's command.

    It has the environment of this one without the variables `withheld`, which are for others.
    """

    name = "stdio"
    untaken = End.REFUSED
    patience_s: float | None = 60.0  # for Python to start and import the runner on a busy machine

    def __init__(
        self,
        prefix: Callable[[JobSpec], Sequence[str]] = lambda _: (),
        withheld: Collection[str] = (),
    ) -> None:
        super().__init__()
        self._prefix = prefix
        self._withheld = frozenset(withheld)

    def submit(self, spec: JobSpec) -> Stream:
        """Start the node part.  Raises RunnerError."""
        line = spec.to_line()
        command = [*self._prefix(spec), *node_command()]
        try:
            given = {k: v for k, v in os.environ.items() if k not in self._withheld}
            channel = Process(command, given)
        except OSError as error:
            msg = f"the command {command[0]!r} cannot be started: {error.strerror}"
            raise RunnerError(msg) from error
        return self._open(channel, line, untaken=self.untaken, patience_s=self.patience_s)

    def capacity(self) -> Capacity:
        """Return the capacity of this machine."""
        cpus = float(os.cpu_count() or 1)
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return Capacity(nodes=(NodeCapacity(name=node_name(), cpus=cpus, memory_bytes=memory),))


def node_command() -> list[str]:
    """Return the command of the node part: QRUNNER_NODE_PYTHON if it is set, else this Python."""
    return commands.module("runner.nodes.node", python=os.environ.get("QRUNNER_NODE_PYTHON"))


class Process:
    """A child process whose stdin and stdout are a stream; stdin is its lifeline."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        # A session of its own: the caller handles Ctrl-C of the terminal.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        assert self._process.stdin
        assert self._process.stdout
        self.writer = self._process.stdin.fileno()
        self.reader = self._process.stdout.fileno()
        self._words = LastWords(self._process)

    def hang_up(self) -> None:
        """Ask the process to end."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)

    def close(self, patience_s: float) -> None:
        """Close its stdin, wait for its end, and kill it after `patience_s` seconds."""
        process = self._process
        for each in (process.stdin, process.stdout):
            assert each
            with contextlib.suppress(OSError):
                each.close()
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._words.close()

    def last_words(self) -> str:
        """Return the end of its stderr."""
        return self._words.text()


class LastWords:
    """Reads a process's stderr in a thread and keeps the end of it."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr
        self._file = process.stderr
        self._kept = b""
        self._thread = threading.Thread(target=self._read, name="qrunner-stderr", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while data := os.read(self._file.fileno(), 1 << 16):
                self._kept = (self._kept + data)[-_LAST_WORDS:]

    def text(self) -> str:
        """Return the end of stderr on one line."""
        self._thread.join(0.2)  # all output of an ended process has arrived by then
        lines = self._kept.decode(errors="replace").splitlines()
        told = [line for line in lines if "[0x" not in line]  # without the frames of a native crash
        return " ".join(" ".join(told).split())[-_SHOWN:]

    def close(self) -> None:
        """Stop reading."""
        self._thread.join(1.0)
        if not self._thread.is_alive():
            self._file.close()
