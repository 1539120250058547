"""The placement of objects in memory before a fork, which decides most of its cost.

A fork and its end handle every page of the parent.  Afterwards, each page that either process
writes to is copied first, and even looking at an object writes to it, because its references are
counted.  So objects that stay unchanged should be in huge pages, and objects that a job makes
should be close together.

All of it concerns the allocator of CPython, and only speed: with another allocator, or a kernel
without huge pages (gVisor, Linux before 6.1), the same jobs take more time.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from typing import Final

from sandbox.processes import guard
from sandbox.wire import protocol

_GATHERED_BYTES: Final = 24 * protocol.MIB
"""Approximate memory of the objects of Qiskit, Aer and their imports."""

_LARGEST_BYTES: Final = 512
"""The largest object that the allocator puts into its arenas, in steps of _STEP."""

_STEP_BYTES: Final = 16
_ARENA_BYTES: Final = protocol.MIB

_EMPTY_BYTES: Final = 33
"""The size of an empty `bytes` object."""

_MOST_IN_HOLES: Final = 2 * _GATHERED_BYTES // _LARGEST_BYTES

_HUGE_BYTES: Final = 2 * protocol.MIB
_MADV_COLLAPSE: Final = 25

_filling: Final[list[object]] = []


def regions() -> frozenset[int]:
    """Return the numbers of the huge pages, or parts of such, that are in use for data now."""
    return frozenset(
        number
        for start, end in _areas()
        for number in range(start // _HUGE_BYTES, -(-end // _HUGE_BYTES))
    )


def gather() -> list[bytes | None]:
    """Make the allocator reserve at once the memory for the imports, so that it is contiguous.

    Otherwise its arenas are spread between the libraries that are loaded meanwhile, and each is too
    small for a huge page.  The result holds the memory; drop it when everything is imported.
    """
    count = _GATHERED_BYTES // _LARGEST_BYTES
    # At its final length: a growing list moves, and leaves gaps between the arenas.
    many: list[bytes | None] = [None] * count
    for each in range(count):
        many[each] = bytes(_LARGEST_BYTES - _EMPTY_BYTES)
    return many[:: _ARENA_BYTES // 2 // _LARGEST_BYTES]


def fill() -> frozenset[int]:
    """Keep the present objects for ever, and use all room among them.

    So new ones are in memory of their own, and the present ones are hardly written to.

    Returns the regions in use that have none of the new memory.
    """
    areas, before = _areas(), regions()
    _filling.extend((areas, before))  # for good, or they would leave holes
    # What the interpreter keeps gives room as well: names of attributes, tuples for later use.
    sys._clear_type_cache()
    gc.collect()
    gc.freeze()  # no collection needs to look at these again
    # The largest first: they also take what is left for any size, and the others get new memory.
    # Then again, for what the first time itself has used meanwhile.
    sizes = 2 * [*range(_LARGEST_BYTES, 0, -_STEP_BYTES)]
    new = {_fill_holes(size, areas) // _HUGE_BYTES for size in sizes}
    _filling.append([float(size) for size in sizes])  # where the numbers above have been
    return before - new


def settle(cold: frozenset[int] | None = None) -> None:
    """Keep all present objects unchanged for ever; called before the first fork.

    `cold` are the `regions` for huge pages, by default all: a fork that writes to a huge page has
    the kernel take it apart first.
    """
    fill()
    _join_pages(regions() if cold is None else cold)


def _fill_holes(size: int, areas: list[tuple[int, int]]) -> int:
    """Make objects of one size until one is outside of these areas of memory; return its place."""
    begin = len(_filling)
    for _ in range(_MOST_IN_HOLES):
        _filling.append(_object_of(size))
        place = id(_filling[-1])
        if not any(start <= place < end for start, end in areas):
            return place
    del _filling[begin:]  # another allocator is in use
    return 0


def _object_of(size: int) -> object:
    """Return a new object of this size, which the garbage collector does not know."""
    if size == _STEP_BYTES:
        return object()
    if size == 2 * _STEP_BYTES:
        return float(size)
    return bytes(size - _EMPTY_BYTES)


def _join_pages(cold: frozenset[int]) -> None:
    """Make the kernel use huge pages for the present memory: a fork copies entries, not pages."""
    for start, end in _areas():
        for number in range(-(-start // _HUGE_BYTES), end // _HUGE_BYTES):
            if number in cold:
                place = ctypes.c_void_p(number * _HUGE_BYTES)
                guard.libc.madvise(place, ctypes.c_size_t(_HUGE_BYTES), _MADV_COLLAPSE)


def _areas() -> list[tuple[int, int]]:
    """Return where the memory for data begins and ends, area by area."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
        lines = [line.split(maxsplit=2) for line in file]
    found = []
    for place, rights, _ in lines:
        if rights == "rw-p":
            start, _, end = place.partition("-")
            found.append((int(start, 16), int(end, 16)))
    return found
