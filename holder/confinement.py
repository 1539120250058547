"""Takes from a process everything but computing: no file, no network, no other process.

A filter of system calls (seccomp) lets through what reading, writing and memory need, and refuses
the rest with EPERM.  It cannot be taken off again.  Linux on x86-64 and arm64 only.
"""

from __future__ import annotations

import ctypes
import platform
import resource
import struct
import sys
from typing import Final

_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_SET_DUMPABLE: Final = 4
_PR_SET_SECCOMP: Final = 22
_SECCOMP_MODE_FILTER: Final = 2
_ALLOW: Final = 0x7FFF0000
_REFUSE: Final = 0x00050000 | 1  # EPERM
_KILL: Final = 0x80000000

_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
"""Instructions of the filter: load a word, jump if equal, jump if at least, return."""

_NUMBER_AT, _ARCHITECTURE_AT = 0, 4
_X32_FROM: Final = 0x40000000

# read write recvfrom sendto close fstat lseek mmap mprotect munmap brk rt_sigaction rt_sigprocmask
# rt_sigreturn sched_yield mremap madvise setitimer getpid exit sigaltstack gettid futex
# clock_gettime exit_group getrandom poll or ppoll, nanosleep or clock_nanosleep
_X86_64: Final = (
    *(
        0,
        1,
        3,
        5,
        7,
        8,
        9,
        10,
        11,
        12,
        13,
        14,
        15,
        24,
        25,
        28,
        35,
        38,
        39,
        44,
        45,
        60,
        131,
        186,
        202,
    ),
    *(228, 230, 231, 271, 318),
)
_ARM64: Final = (
    *(
        57,
        62,
        63,
        64,
        73,
        80,
        93,
        94,
        98,
        101,
        103,
        113,
        115,
        124,
        132,
        134,
        135,
        139,
        172,
        178,
        206,
        207,
    ),
    *(214, 215, 216, 222, 226, 233, 278),
)
_ARCHITECTURES: Final = {"x86_64": (0xC000003E, _X86_64), "aarch64": (0xC00000B7, _ARM64)}


def is_possible() -> bool:
    """Whether this machine can confine a process."""
    return sys.platform == "linux" and platform.machine() in _ARCHITECTURES


def confine(memory_bytes: int) -> None:
    """Confine this process, which must have a single thread, for good.  Raises OSError.

    `memory_bytes` is what it may take beyond what it has.
    """
    with open("/proc/self/statm") as statm:  # noqa: PTH123
        size = int(statm.read().split()[0]) * resource.getpagesize() + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    for limit in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC):
        resource.setrlimit(limit, (0, 0))
    architecture, allowed = _ARCHITECTURES[platform.machine()]
    program = _program(architecture, allowed)
    buffer = ctypes.create_string_buffer(program, len(program))
    head = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    _prctl(_PR_SET_DUMPABLE, 0, 0)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1, 0)
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.c_char_p(head))


def _program(architecture: int, allowed: tuple[int, ...]) -> bytes:
    """Return the filter: kill another architecture, allow the numbers, refuse the rest."""
    count = len(allowed)
    steps = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
        (_AT_LEAST, count, 0, _X32_FROM),
        *((_EQUAL, count - index, 0, number) for index, number in enumerate(allowed)),
        (_RETURN, 0, 0, _REFUSE),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("HBBI", *step) for step in steps)


def _prctl(option: int, value: int, more: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), more, 0, 0) != 0:
        error = ctypes.get_errno()
        msg = f"prctl({option}, {value}) was refused: this machine cannot confine a process"
        raise OSError(error, msg)
