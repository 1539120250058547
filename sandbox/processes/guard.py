"""What keeps a process of the guest out of the program's reach, and what takes that off again.

PID 1 is protected so, and in a session the process that forks the jobs: neither `ptrace` nor
`/proc/<pid>/mem` opens it for a process of the same user, and signals that can be ignored are.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import ctypes
import os
import signal
from typing import Final

_PR_SET_DUMPABLE: Final = 4
_PR_SET_CHILD_SUBREAPER: Final = 36

# SIGPIPE and SIGXFSZ are ignored by Python already.  The faults (SIGSEGV and the like) would kill
# all the same when they are real; ignoring them takes away the ones that a program sends.
_UNTOUCHED: Final = {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ}
_IGNORED: Final = tuple(map(int, signal.valid_signals() - _UNTOUCHED - {signal.SIGCHLD}))

libc: Final = ctypes.CDLL(None, use_errno=True)


def protect() -> None:
    """Close this process to others of the same user, as far as the kernel offers."""
    _prctl(_PR_SET_DUMPABLE, 0)
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)


def become_ordinary() -> None:
    """In a fork of a protected process: undo what the program would inherit."""
    signal.set_wakeup_fd(-1)
    # The functions below `signal`: its words for numbers would cost half a millisecond.
    for number in (*_IGNORED, int(signal.SIGCHLD)):
        _signal.signal(number, _signal.SIG_DFL)
    _signal.signal(_signal.SIGINT, _signal.default_int_handler)
    os.setsid()
    # Dumpable again, or /proc/self would belong to root and its files be closed to the program.
    _prctl(_PR_SET_DUMPABLE, 1)


def open_wakeup() -> tuple[int, int]:
    """Return a pipe, reader and writer, that becomes readable when a child has ended."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    return reader, writer


def adopt_orphans() -> None:
    """Become the parent of all descendants whose own parent has ended, as PID 1 is by nature."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        error = ctypes.get_errno()
        msg = f"prctl({option}, {value}): {os.strerror(error)}"
        raise OSError(error, msg)
