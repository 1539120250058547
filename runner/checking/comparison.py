"""Compares encoded values with expected ones, numbers within a tolerance.

Works on data from a program, which may be hostile, without building objects of its classes.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from runner.display import one_line
from runner.encoded.parts import plain

_MAX_SHOWN: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How far a number may be from the expected one: `absolute` + `relative` x its magnitude."""

    absolute: float = 0.0
    relative: float = 0.0

    def holds(self, seen: complex, expected: complex) -> bool:
        """Return True if a number is close enough; NaN is close to NaN, an infinity to itself."""
        if seen == expected or (seen != seen and expected != expected):
            return True
        try:
            return abs(seen - expected) <= self.absolute + self.relative * abs(expected) < math.inf
        except OverflowError:  # integers too large for a float
            return False

    def __str__(self) -> str:
        parts = [f"{self.absolute:g}"] if self.absolute or not self.relative else []
        return " + ".join([*parts, *([f"{self.relative:g} of it"] if self.relative else [])])


def difference(
    name: str, seen: Any, expected: Any, tolerance: Tolerance | None = None
) -> list[str]:
    """Return how encoded data differs from the expected data, as text; empty if it does not.

    Without a tolerance both must be equal.  With one, numbers anywhere may differ by that much, and
    arrays, tuples and NumPy's numbers equal lists and numbers with the same content.
    """
    if tolerance is None:
        return [] if seen == expected else [_unlike(f"{name} is", seen, expected)]
    found = _differences(name, plain(seen), plain(expected), tolerance)
    return list(itertools.islice(found, 1))


def _differences(name: str, seen: Any, expected: Any, tolerance: Tolerance) -> Iterator[str]:
    if isinstance(expected, list) and isinstance(seen, list):
        if len(seen) != len(expected):
            yield f"{name} has {len(seen)} items, expected {len(expected)}"
            return
        for index, pair in enumerate(zip(seen, expected, strict=True)):
            yield from _differences(f"{name}[{index}]", *pair, tolerance)
    elif isinstance(expected, dict) and isinstance(seen, dict):
        if seen.keys() != expected.keys():
            yield _unlike(f"{name} has the keys", sorted(seen), sorted(expected))
            return
        for key, value in expected.items():
            yield from _differences(f"{name}.{one_line(key):.80}", seen[key], value, tolerance)
    elif _is_number(expected) and _is_number(seen):
        if not tolerance.holds(seen, expected):
            yield f"{name} is {seen!r:.80}, expected {expected!r:.80} within {tolerance}"
    elif type(seen) is not type(expected) or seen != expected:
        yield _unlike(f"{name} is", seen, expected)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, complex)) and not isinstance(value, bool)


def _unlike(what: str, seen: Any, expected: Any) -> str:
    shown = [one_line(json.dumps(each, default=str)) for each in (seen, expected)]
    return f"{what} {shown[0]:.{_MAX_SHOWN}}, expected {shown[1]:.{_MAX_SHOWN}}"
