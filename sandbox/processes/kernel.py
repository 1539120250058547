"""The kernel's calls with which a zygote makes a cell.

`clone` and `fork` are functions.  All others are prepared as values, each a `Call`, and made by
`perform`: a process that has just been cloned copies a page of memory for nearly every line of
Python that it runs, and so it runs one line for all of them.

None of them is left to a program: `refuse_for_good` installs a filter that takes away what the
zygote's seccomp profile allows beyond that of a container
(`runner.policy.isolation.ZYGOTE_CALLS`).
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import os
import platform
import signal
import socket
import struct
from collections.abc import Iterable
from typing import Any, ClassVar, Final, TypeAlias

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

_PR_CAPBSET_READ: Final = 23
_PR_CAPBSET_DROP: Final = 24
_PR_SET_SECCOMP: Final = 22
_SECCOMP_MODE_FILTER: Final = 2
_CAPABILITY_VERSION_3: Final = 0x20080522

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
    child: int = _quick.syscall(*_cloning(flags))
    return _checked(child, "clone into new namespaces")


@functools.cache
def _cloning(flags: int) -> tuple[Any, ...]:
    number = _NUMBERS[platform.machine()]["clone"]
    return ctypes.c_long(number), ctypes.c_ulong(flags | signal.SIGCHLD), None, None, None, None


def fork() -> int:
    """Fork as `os.fork` does, but without the hooks of Python's modules.

    The hooks renew locks that a thread might have held which is not there any more, Aer's executor
    and the generator of `random` (`sandbox.processes.randomness` renews all generators).  They are
    a tenth of the cost of a fork that does little else.  Only a process without other threads of
    Python's may call it.
    """
    child: int = _quick.fork()
    return _checked(child, "fork")


Call: TypeAlias = tuple[str, Any, tuple[Any, ...]]
"""A call to be made: what it is for, the function of the C library, and the arguments."""


def perform(calls: Iterable[Call]) -> None:
    """Make these calls in their order.  Raises OSError at the first that fails."""
    for what, function, arguments in calls:
        if function(*arguments) < 0:
            _checked(-1, what)


def call(what: str, name: str, *arguments: Any) -> Call:
    """Return a call of a function that answers with a negative number if it fails.

    An argument that is wider than an `int` of C must be a value of `ctypes`.
    """
    return what, getattr(_quick, name), arguments


def write_file(path: str, content: str) -> list[Call]:
    """Return the calls that write a short text; 3 must be the lowest descriptor that is free."""
    data = content.encode()
    return [
        call(f"open {path}", "open", path.encode(), os.O_WRONLY | os.O_CLOEXEC),
        call(f"write to {path}", "write", 3, data, ctypes.c_size_t(len(data))),
        call(f"close {path}", "close", 3),
    ]


def connect(path: str, descriptor: int) -> list[Call]:
    """Return the calls that connect `descriptor` to a socket; 3 must be free, as for a file."""
    address = struct.pack("H108s", socket.AF_UNIX, path.encode())
    return [
        call("make a socket", "socket", int(socket.AF_UNIX), int(socket.SOCK_STREAM), 0),
        call(f"connect to {path}", "connect", 3, address, len(address)),
        call("move the connection up", "dup3", 3, descriptor, os.O_CLOEXEC),
        call("close the socket", "close", 3),
    ]


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> Call:
    """Return the call that mounts a file system, or changes a mount."""
    return call(
        f"mount {target}",
        "mount",
        source.encode(),
        target.encode(),
        kind.encode(),
        ctypes.c_ulong(flags),
        options.encode() or None,
    )


def limit(number: int, value: int) -> Call:
    """Return the call that sets a resource limit of this process, for good."""
    both = struct.pack("QQ", value, value)
    return call(f"set resource limit {number}", "setrlimit", number, both)


def let_others_look(*, allowed: bool) -> Call:
    """Return the call that opens this process to others of its user, or closes it."""
    return _prctl("set whether this process is dumpable", guard.PR_SET_DUMPABLE, int(allowed))


def hide_groups() -> Call:
    """Return the call that makes the control group of this process the topmost that it can see."""
    return call("unshare the control groups", "unshare", CLONE_NEWCGROUP)


def drop_capabilities() -> list[Call]:
    """Return the calls that give up all capabilities, and the possibility to get any back."""
    known = itertools.takewhile(
        lambda number: _quick.prctl(_PR_CAPBSET_READ, ctypes.c_ulong(number), 0, 0, 0) >= 0,
        itertools.count(),
    )
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    return [
        *(_prctl(f"give up capability {number}", _PR_CAPBSET_DROP, number) for number in known),
        call("capset", "capset", header, bytes(24)),
    ]


def refuse_for_good() -> Call:
    """Return the call that refuses, to a process and all below it, what only a zygote may do.

    Filters add up: what one of them refuses stays refused.
    """
    machine = platform.machine()
    lines = _filter(_AUDIT_ARCH[machine], _NUMBERS[machine])
    program = ctypes.byref(_Program(len(lines) // 8, lines))
    what = "install a seccomp filter"
    return call(what, "prctl", _PR_SET_SECCOMP, ctypes.c_ulong(_SECCOMP_MODE_FILTER), program, 0, 0)


class _Program(ctypes.Structure):
    _fields_: ClassVar[Any] = [("length", ctypes.c_ushort), ("lines", ctypes.c_char_p)]


def _prctl(what: str, option: int, value: int) -> Call:
    return call(what, "prctl", option, ctypes.c_ulong(value), 0, 0, 0)


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
