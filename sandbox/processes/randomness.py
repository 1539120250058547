"""Gives each fork its own random numbers: every generator of its parent gets a new state.

A fork copies the generators that modules made at import, so all forks would draw the same numbers.
The generators are found among all objects, not by a list of modules.  Each keeps its identity, so
every reference to it draws new numbers.  Generators in native code are no Python objects:
`reseed_native` handles the only known one.  Sources that ask the kernel each time (`secrets`,
`uuid4`, a generator made without a seed) need nothing.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import itertools
import os
import struct
import sys
from collections.abc import Callable, Iterable
from typing import Any, Final

from sandbox.processes import guard

Renewal = Callable[[], object]
"""A function that gives one generator a new state, from the kernel's entropy."""

_NATIVE_BYTES: Final = 64 * 1024
"""The number of bytes after which a generator of Rust's `rand` reseeds from the kernel."""

_UUID_BYTES: Final = 16
_ENTROPY_BYTES: Final = 16
_TWISTER_BYTES: Final = 624 * 4
_CONGRUENTIAL_BYTES: Final = 16
_SEED: Final = struct.Struct("8I")
"""The form of a seed for NumPy: eight 32-bit words."""


def find() -> list[Renewal]:
    """Return a renewal for each generator, except those that `gc.freeze` hides.

    Generators that are made later need another call.
    """
    renewals = {kind: renew for base, renew in _kinds() for kind in _family(base)}
    objects = gc.get_objects()
    # An object that the collector does not track is a member of one that it tracks.
    found = {
        id(each): each
        for each in itertools.chain(objects, gc.get_referents(*objects))
        if type(each) in renewals
    }
    return [functools.partial(renewals[type(each)], each) for each in found.values()]


def renew(renewals: Iterable[Renewal]) -> None:
    """Give each generator a state that no other process has had."""
    for each in renewals:
        each()


def again(renewals: Iterable[Renewal]) -> list[Renewal]:
    """Return what renews once more, in a process where all have been renewed, and none was used.

    That takes less: what a generator keeps beside its state is gone, and so the state of the common
    ones is overwritten where it is in memory.
    """
    quick: dict[type, Callable[[Any], object]] = {}
    if numpy := sys.modules.get("numpy.random"):
        quick = {numpy.MT19937: _overwrite_twister, numpy.PCG64: _overwrite_congruential}
    found: list[Renewal] = []
    for each in renewals:
        renew = getattr(each, "func", None)
        generator = each.args[0] if isinstance(each, functools.partial) else None
        if overwrite := quick.get(type(generator)):
            found.append(functools.partial(overwrite, generator))
        elif renew not in {_renew_legacy, _renew_nothing}:
            found.append(each)
    return found


def _kinds() -> Iterable[tuple[type, Callable[[Any], object]]]:
    """Yield each imported class of generators and its renewal, special classes last."""
    if random := sys.modules.get("random"):
        yield random._random.Random, random._random.Random.seed
        yield random.Random, random.Random.seed  # also drops the number that `gauss` has kept
        yield random.SystemRandom, _renew_nothing
    if numpy := sys.modules.get("numpy.random"):
        yield numpy.SeedSequence, _renew_sequence
        yield numpy.BitGenerator, _renew_bits
        yield numpy.MT19937, _renew_twister
        yield numpy.RandomState, _renew_legacy


def _family(base: type) -> Iterable[type]:
    """Yield a class and all classes derived from it."""
    derived: list[type] = type.__subclasses__(base)
    yield base
    for each in derived:
        yield from _family(each)


def _renew_nothing(_: Any) -> None:
    """Do nothing: it has no state."""


def _renew_sequence(sequence: Any) -> None:
    # What NumPy draws itself if it gets none, by a longer way.
    entropy = int.from_bytes(os.urandom(_ENTROPY_BYTES), sys.byteorder)
    sequence.__init__(entropy, pool_size=sequence.pool_size)


def _renew_twister(generator: Any) -> None:
    generator._legacy_seeding(_seed())  # ten times faster than setting its state of 624 words


def _renew_bits(generator: Any) -> None:
    generator.state = type(generator)().state


def _overwrite_twister(generator: Any) -> None:
    """Overwrite the words of its state, which are the first there, and any of which are valid."""
    _overwrite(generator.ctypes.state_address, _TWISTER_BYTES)


def _overwrite_congruential(generator: Any) -> None:
    """Go to another place of its sequence of 2**128 numbers; the state has a pointer to it."""
    pointer = ctypes.c_void_p.from_address(generator.ctypes.state_address)
    _overwrite(pointer.value or 0, _CONGRUENTIAL_BYTES)


def _overwrite(address: int, size: int) -> None:
    if guard.libc.getrandom(ctypes.c_void_p(address), ctypes.c_size_t(size), 0) != size:
        msg = "the kernel gave fewer random numbers than were asked for"
        raise OSError(msg)


def _renew_legacy(generator: Any) -> None:
    """Drop a kept normal number; the bit generator is an object of its own, renewed as such."""
    try:
        generator.seed(_seed())  # faster than setting its state, but not for all bit generators
    except TypeError:
        state = generator.get_state(legacy=False)
        generator.set_state({**state, "has_gauss": 0, "gauss": 0.0})


def _seed() -> tuple[int, ...]:
    return _SEED.unpack(os.urandom(_SEED.size))


def reseed_native() -> None:
    """Make each fork of this thread begin by reseeding the generator of Qiskit's UUIDs.

    The generator that Rust's `rand` keeps per thread ignores forks and cannot be set, but reseeds
    after a fixed number of bytes.  This function draws until the next draw reseeds.  Two forks show
    when that is: the draw at which they begin to differ.  Call it once, as the last step: any later
    draw of this process undoes it.
    """
    if circuit := sys.modules.get("qiskit.circuit"):
        one, other = _draw_in_fork(circuit.Parameter), _draw_in_fork(circuit.Parameter)
        for mine, yours in zip(one, other, strict=True):
            if mine != yours:
                return
            circuit.Parameter("")
        msg = f"forks that draw {len(one)} UUIDs of Qiskit's draw the same"
        raise RuntimeError(msg)


def _draw_in_fork(parameter: Any) -> list[bytes]:
    """Return the next UUIDs, more than one seed gives, as drawn in a fork: none is drawn here."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            count = _NATIVE_BYTES // _UUID_BYTES + 1
            drawn = b"".join(parameter("").uuid.bytes for _ in range(count))
            with open(writer, "wb") as file:  # noqa: PTH123
                file.write(drawn)
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:  # noqa: PTH123
        drawn = file.read()
    os.waitpid(child, 0)
    return [drawn[each : each + _UUID_BYTES] for each in range(0, len(drawn), _UUID_BYTES)]
