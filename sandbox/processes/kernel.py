"""The kernel's calls that a zygote and its cells need, and that Python does not offer.

Each raises OSError with the call's name.  None of them is left to a program: `refuse_for_good`
installs a filter that takes away what the zygote's seccomp profile allows beyond that of a
container (`runner.policy.isolation.ZYGOTE_CALLS`).
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import struct
from typing import Final

from sandbox.processes import guard

CLONE_NEWNS: Final = 0x00020000
CLONE_NEWCGROUP: Final = 0x02000000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000
NAMESPACES: Final = (
    CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET
)
"""Those that a cell is cloned into; it makes one for control groups when it is in its own."""

_CLONE_PARENT: Final = 0x00008000

MS_RDONLY: Final = 1
MS_NOSUID: Final = 2
MS_NODEV: Final = 4
MS_NOEXEC: Final = 8
MS_REMOUNT: Final = 32
MS_BIND: Final = 4096
MS_REC: Final = 16384
MS_PRIVATE: Final = 1 << 18

_PR_CAPBSET_DROP: Final = 24
_PR_SET_SECCOMP: Final = 22
_SECCOMP_MODE_FILTER: Final = 2
_CAPABILITY_VERSION_3: Final = 0x20080522
_MAX_CAPABILITIES: Final = 64

_AUDIT_ARCH: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_NUMBERS: Final = {
    "x86_64": {"clone": 56, "mount": 165, "capset": 126, "recvmsg": 47, "unshare": 272},
    "aarch64": {"clone": 220, "mount": 40, "capset": 91, "recvmsg": 212, "unshare": 97},
}

# Classic BPF, as <linux/filter.h> and <linux/seccomp.h> define it.
_LOAD: Final = 0x20
_JUMP_IF_EQUAL: Final = 0x15
_JUMP_IF_ANY: Final = 0x45
_RETURN: Final = 0x06
_AT_NUMBER: Final = 0
_AT_ARCHITECTURE: Final = 4
_AT_FIRST_ARGUMENT: Final = 16
_ALLOW: Final = 0x7FFF0000
_REFUSE: Final = 0x00050001
"""Return EPERM."""

_quick: Final = ctypes.PyDLL(None, use_errno=True)
"""Holds the interpreter's lock during a call, as `os.fork` does."""


def clone(flags: int) -> int:
    """Fork into new namespaces; returns as `os.fork` does.

    The C library does not know of this fork: its handlers do not run, and native threads must not
    be waited for.  Only a process without other threads of Python's may call it.
    """
    number = _NUMBERS[platform.machine()]["clone"]
    child: int = _quick.syscall(
        ctypes.c_long(number),
        ctypes.c_ulong(flags | signal.SIGCHLD),
        ctypes.c_void_p(None),
        ctypes.c_void_p(None),
        ctypes.c_void_p(None),
        ctypes.c_void_p(None),
    )
    return _checked(child, "clone into new namespaces")


def hide_groups() -> None:
    """Make the control group of this process the topmost that it and all below it can see."""
    _checked(guard.libc.unshare(CLONE_NEWCGROUP), "unshare the control groups")


def fork() -> int:
    """Fork as `os.fork` does, but without the hooks of Python's modules.

    The hooks renew locks that a thread might have held which is not there any more, Aer's executor
    and the generator of `random` (`sandbox.processes.randomness` renews all generators).  They are
    a tenth of the cost of a fork that does little else.  Only a process without other threads of
    Python's may call it.
    """
    child: int = _quick.fork()
    return _checked(child, "fork")


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    """Mount a file system, or change a mount."""
    done = guard.libc.mount(
        source.encode(),
        target.encode(),
        kind.encode(),
        ctypes.c_ulong(flags),
        options.encode() or None,
    )
    _checked(done, f"mount {target}")


def drop_capabilities() -> None:
    """Give up all capabilities, and the possibility to get any of them back."""
    for number in range(_MAX_CAPABILITIES):
        if guard.libc.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(number), 0, 0, 0) != 0:
            break  # the kernel has no capability of this number
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    _checked(guard.libc.capset(header, bytes(24)), "capset")


def refuse_for_good() -> None:
    """Refuse, for this process and all below it, what only a zygote may do.

    Filters add up: what one of them refuses stays refused.
    """
    machine = platform.machine()
    program = _filter(_AUDIT_ARCH[machine], _NUMBERS[machine])
    code = ctypes.create_string_buffer(program)
    described = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    done = guard.libc.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_SECCOMP_MODE_FILTER), described, 0, 0)
    _checked(done, "install a seccomp filter")


def _filter(architecture: int, numbers: dict[str, int]) -> bytes:
    """Return the filter: these calls are refused, and `clone` with any flag of a cell's."""
    refused = [number for name, number in numbers.items() if name != "clone"]
    lines = [
        (_LOAD, 0, 0, _AT_ARCHITECTURE),
        (_JUMP_IF_EQUAL, 0, len(refused) + 4, architecture),
        (_LOAD, 0, 0, _AT_NUMBER),
        *(
            (_JUMP_IF_EQUAL, len(refused) - index + 2, 0, number)
            for index, number in enumerate(refused)
        ),
        (_JUMP_IF_EQUAL, 0, 3, numbers["clone"]),
        (_LOAD, 0, 0, _AT_FIRST_ARGUMENT),
        (_JUMP_IF_ANY, 0, 1, NAMESPACES | CLONE_NEWCGROUP | _CLONE_PARENT),
        (_RETURN, 0, 0, _REFUSE),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("HBBI", *line) for line in lines)


def _checked(result: int, what: str) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")
    return result
