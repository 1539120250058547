"""Protects a process of the guest from the program, and removes that protection in forks.

PID 1 is protected, and in a session also the process that forks the jobs: `ptrace` and
`/proc/<pid>/mem` do not open them for a process of the same user, and they ignore all signals that
can be ignored.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import ctypes
import os
import signal
from typing import Final

PR_SET_DUMPABLE: Final = 4
_PR_SET_CHILD_SUBREAPER: Final = 36

# Python already ignores SIGPIPE and SIGXFSZ.  Real faults (SIGSEGV and the like) kill even when
# ignored; ignoring them disables those that a program sends.
_UNTOUCHED: Final = {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ}
_IGNORED: Final = tuple(map(int, signal.valid_signals() - _UNTOUCHED - {signal.SIGCHLD}))

libc: Final = ctypes.CDLL(None, use_errno=True)


def protect() -> None:
    """Close this process to others of the same user, as far as the kernel allows."""
    be_closed()
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)


def be_closed() -> None:
    """Let no other process look into this one or trace it."""
    _prctl(PR_SET_DUMPABLE, 0)


def be_open() -> None:
    """Let this process own its entries below `/proc/self`; else they belong to root."""
    _prctl(PR_SET_DUMPABLE, 1)


def become_ordinary() -> None:
    """In a fork of a protected process, undo what the program would inherit."""
    signal.set_wakeup_fd(-1)
    # The functions underlying `signal`: its enums would cost half a millisecond.
    for number in (*_IGNORED, int(signal.SIGCHLD)):
        _signal.signal(number, _signal.SIG_DFL)
    _signal.signal(_signal.SIGINT, _signal.default_int_handler)
    os.setsid()
    be_open()


def open_wakeup() -> tuple[int, int]:
    """Return a pipe (reader, writer) that becomes readable when a child has ended."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    _signal.signal(int(signal.SIGCHLD), _wake_up)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    return reader, writer


def _wake_up(*_: object) -> None:
    """Do nothing: the byte in the pipe is all."""


def adopt_orphans() -> None:
    """Become the parent of all descendants whose own parent has ended, as PID 1 always is."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        error = ctypes.get_errno()
        msg = f"prctl({option}, {value}): {os.strerror(error)}"
        raise OSError(error, msg)
