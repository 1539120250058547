"""Where the objects of a session's parent lie: nothing else decides so much what a fork costs.

A fork and its end handle every page of the parent.  Afterwards each page that one of the two
writes to is copied first, and to look at an object is to write to it: its references are counted.
So what stays as it is should lie in huge pages, and what a job makes should lie together.

All of it is about the allocator of CPython, and is only a matter of speed: another one, or a kernel
without huge pages (gVisor, Linux before 6.1), does the same jobs in more time.
"""

from __future__ import annotations

import ctypes
import gc
from typing import Final

from sandbox.processes import guard
from sandbox.wire import protocol

_GATHERED_BYTES: Final = 32 * protocol.MIB
"""What the objects of Qiskit, Aer and what they import take, roughly."""

_LARGEST_BYTES: Final = 512
"""The largest object that the allocator has in its arenas; their sizes are multiples of _STEP."""

_STEP_BYTES: Final = 16
_ARENA_BYTES: Final = protocol.MIB

_EMPTY_BYTES: Final = 33
"""What `bytes` takes besides its content."""

_ROW: Final = 16
"""So many new objects one behind the other are taken for the beginning of a new pool."""

_MOST_IN_HOLES: Final = 4096

_HUGE_BYTES: Final = 2 * protocol.MIB
_MADV_COLLAPSE: Final = 25

_filling: Final[list[bytes]] = []


def gather() -> list[bytes | None]:
    """Let the allocator take at once what the imports will need, so that it lies together.

    Else its arenas come one by one, between the libraries that are loaded meanwhile, and are too
    small for a huge page.  The answer holds them: to be dropped when all is imported.
    """
    count = _GATHERED_BYTES // _LARGEST_BYTES
    # As long as it will be: a list that grows moves, and leaves gaps between the arenas.
    many: list[bytes | None] = [None] * count
    for each in range(count):
        many[each] = bytes(_LARGEST_BYTES - _EMPTY_BYTES)
    return many[:: _ARENA_BYTES // 2 // _LARGEST_BYTES]


def settle() -> None:
    """Leave all that is here now as it is, for ever; before the first fork."""
    gc.collect()
    gc.freeze()  # no job's collector need touch it
    for size in range(3 * _STEP_BYTES, _LARGEST_BYTES + 1, _STEP_BYTES):
        _fill_holes(size)
    _join_pages()


def _fill_holes(size: int) -> None:
    """Take the free places of one size among the objects, so that new ones share new pages."""
    row, before, begin = 0, 0, len(_filling)
    for _ in range(_MOST_IN_HOLES):
        _filling.append(bytes(size - _EMPTY_BYTES))
        place = id(_filling[-1])
        row = row + 1 if place - before == size else 0
        before = place
        if row == _ROW:
            return
    del _filling[begin:]  # it is another allocator


def _join_pages() -> None:
    """Let the kernel make huge pages of what is there: a fork copies entries, not pages."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
        areas = [line.split() for line in file]
    for place, rights, *_ in areas:
        if rights == "rw-p":
            start, end = (int(each, 16) for each in place.split("-"))
            start, end = -(-start // _HUGE_BYTES) * _HUGE_BYTES, end // _HUGE_BYTES * _HUGE_BYTES
            if start < end:
                size = ctypes.c_size_t(end - start)
                guard.libc.madvise(ctypes.c_void_p(start), size, _MADV_COLLAPSE)
