"""Random numbers of a fork's own: every generator that its parent had is given a new state.

A generator that some module makes when it is imported is copied by a fork, and would give each fork
the same numbers.  Which there are is found by looking at all objects, not by a list of modules.
Each keeps its identity, so whoever refers to it draws new numbers.  Those of native code are no
objects: `reseed_native` is for the one that is known.  Nothing is done for what asks the kernel
each time (`secrets`, `uuid4`, a generator that is made without a seed).
"""

from __future__ import annotations

import functools
import gc
import itertools
import os
import struct
import sys
from collections.abc import Callable, Iterable
from typing import Any, Final

Renewal = Callable[[], object]
"""Gives one generator a new state, from the kernel's entropy."""

_NATIVE_BYTES: Final = 64 * 1024
"""After so many bytes a generator of Rust's `rand` takes a new seed from the kernel."""

_UUID_BYTES: Final = 16
_SEED: Final = struct.Struct("8I")
"""The words of a seed, as NumPy takes them."""


def find() -> list[Renewal]:
    """Return what renews each generator that there is, but for those under `gc.freeze`.

    A generator that a module makes later is found by another call.
    """
    renewals = {kind: renew for base, renew in _kinds() for kind in _family(base)}
    objects = gc.get_objects()
    # What the collector does not track is at least a member of something that it does.
    found = {
        id(each): each
        for each in itertools.chain(objects, gc.get_referents(*objects))
        if type(each) in renewals
    }
    return [functools.partial(renewals[type(each)], each) for each in found.values()]


def renew(renewals: Iterable[Renewal]) -> None:
    """Give all of them a state that no other process has had."""
    for each in renewals:
        each()


def _kinds() -> Iterable[tuple[type, Callable[[Any], object]]]:
    """Yield the kinds of generators that are imported, special ones last, and what renews one."""
    if random := sys.modules.get("random"):
        yield random._random.Random, random._random.Random.seed
        yield random.Random, random.Random.seed  # what `gauss` has kept as well
        yield random.SystemRandom, lambda _: None  # has no state
    if numpy := sys.modules.get("numpy.random"):
        yield numpy.SeedSequence, _renew_sequence
        yield numpy.BitGenerator, _renew_bits
        yield numpy.MT19937, _renew_twister
        yield numpy.RandomState, _renew_legacy


def _family(base: type) -> Iterable[type]:
    """Yield a class and all that are derived from it."""
    derived: list[type] = type.__subclasses__(base)
    yield base
    for each in derived:
        yield from _family(each)


def _renew_sequence(sequence: Any) -> None:
    sequence.__init__(pool_size=sequence.pool_size)


def _renew_twister(generator: Any) -> None:
    generator._legacy_seeding(_seed())  # its state has 624 words: ten times quicker so


def _renew_bits(generator: Any) -> None:
    generator.state = type(generator)().state


def _renew_legacy(generator: Any) -> None:
    """Drop the second of two normal numbers; the bits are another object, renewed as such."""
    try:
        generator.seed(_seed())  # quicker than the way by its state, but not for all kinds of bits
    except TypeError:
        state = generator.get_state(legacy=False)
        generator.set_state({**state, "has_gauss": 0, "gauss": 0.0})


def _seed() -> tuple[int, ...]:
    return _SEED.unpack(os.urandom(_SEED.size))


def reseed_native() -> None:
    """Let each fork of this thread begin by seeding the generator from which Qiskit takes UUIDs.

    The generator that Rust's `rand` keeps for a thread knows nothing of forks, and nobody can set
    it, but its next seed comes after a fixed number of bytes.  So it is drawn from until the next
    draw is the one that seeds.  When that is, two forks tell: it is where they begin to differ.
    To be called last of all, and once: whatever this process draws later undoes it.
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
    """Return UUIDs of the next parameters, more than come from one seed; none is drawn here."""
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
