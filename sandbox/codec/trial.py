"""Reads circuits from a program in a child process first, to find out whether the host may.

A few crafted bytes of QPY make Qiskit's reader take gigabytes or abort the process (measured:
2.6.2).  The child has a bound on its memory.  It stays, because importing Qiskit takes longest, and
ends with this process.  The module uses only the standard library.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import struct
import subprocess
import sys
import threading
from typing import Final

MEMORY_BYTES: Final = 2 << 30
TIMEOUT_S: Final = 10.0
"""Seconds for each MiB of the circuit, rounded up: ten times what honest ones take."""

START_S: Final = 30.0
"""Seconds for importing Qiskit, on a busy machine."""

_SIZE: Final = struct.Struct("!Q")
_CHILD: Final = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
import io, resource, struct, warnings
import qiskit.qpy
warnings.simplefilter("ignore")
try:
    with open("/proc/self/statm") as statm:
        size = int(statm.read().split()[0]) * resource.getpagesize() + int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
except OSError:  # not Linux: only the time is bounded
    pass
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
while head := sys.stdin.buffer.read(8):
    content = io.BytesIO(sys.stdin.buffer.read(*struct.unpack("!Q", head)))
    answer = b"+"
    try:
        qiskit.qpy.load(content)
    except MemoryError:
        answer = b"-"
    except BaseException:  # the caller will get the same exception
        pass
    sys.stdout.buffer.write(answer)
    sys.stdout.buffer.flush()
"""


class Trial:
    """The child that reads circuits first; a new one is started when it has died."""

    def __init__(self, code: str = _CHILD) -> None:
        self._code = code
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def survives(self, content: bytes | bytearray) -> bool:
        """Return whether reading the circuit ends within the bounds, even with an exception."""
        with self._lock:
            try:
                answer = self._ask(content)
            except OSError:  # the child died during the write
                answer = b""
            if answer != b"+":
                self._end()
            return answer == b"+"

    def close(self) -> None:
        """End the child, if there is one."""
        with self._lock:
            self._end()

    def _ask(self, content: bytes | bytearray) -> bytes:
        patience = TIMEOUT_S * (1 + (len(content) >> 20))
        if self._child is None or self._owner != os.getpid():
            self._start()
            patience += START_S
        assert self._child is not None
        source, target = self._child.stdout, self._child.stdin
        assert source is not None
        assert target is not None
        target.write(_SIZE.pack(len(content)))
        target.write(content)
        target.flush()
        ready, _, _ = select.select([source], [], [], patience)
        return os.read(source.fileno(), 1) if ready else b""

    def _start(self) -> None:
        arguments = [
            sys.executable,
            "-P",
            "-c",
            self._code,
            json.dumps(sys.path),
            str(MEMORY_BYTES),
        ]
        self._child = subprocess.Popen(
            arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "RUST_BACKTRACE": "0"},  # printing a backtrace takes half a minute
            start_new_session=True,  # Ctrl-C must not reach the child
        )
        self._owner = os.getpid()

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is None or self._owner != os.getpid():
            return
        child.kill()
        with contextlib.suppress(OSError):
            child.communicate()


TRIAL: Final = Trial()
atexit.register(TRIAL.close)
