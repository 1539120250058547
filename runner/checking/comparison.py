"""Encoded values against expected ones: parts of them, numbers within a tolerance, counts.

Works on what a program sent, which may be hostile, without building objects of its classes.
"""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from runner.checking import arrays
from runner.checking.distribution import MAX_COUNT
from runner.display import one_line

_MAX_SHOWN: Final = 300
_MAX_INDEX_DIGITS: Final = 9
_LISTS: Final = frozenset({"tuple", "set", "frozenset"})
_PAIRS: Final = frozenset({"dict", "OrderedDict", "Counter"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How far a number may be from an expected one: `absolute` + `relative` x its magnitude."""

    absolute: float = 0.0
    relative: float = 0.0

    def holds(self, seen: complex, expected: complex) -> bool:
        """Return whether a number is near enough; NaN is near NaN, an infinity near itself."""
        if seen == expected or (seen != seen and expected != expected):
            return True
        try:
            return abs(seen - expected) <= self.absolute + self.relative * abs(expected) < math.inf
        except OverflowError:  # integers that no float can hold
            return False

    def __str__(self) -> str:
        parts = [f"{self.absolute:g}"] if self.absolute or not self.relative else []
        return " + ".join([*parts, *([f"{self.relative:g} of it"] if self.relative else [])])


def difference(
    name: str, seen: Any, expected: Any, tolerance: Tolerance | None = None
) -> list[str]:
    """Return how encoded data differs from what is expected, in words; empty if it does not.

    Without a tolerance the two must be equal.  With one, numbers may be that far apart wherever
    they stand, and arrays, tuples and NumPy's numbers equal lists and numbers of the same content.
    """
    if tolerance is None:
        return [] if seen == expected else [_unlike(f"{name} is", seen, expected)]
    found = _differences(name, plain(seen), plain(expected), tolerance)
    return list(itertools.islice(found, 1))


def lookup(data: Any, pointer: str) -> Any:
    """Return the part of encoded data that a JSON Pointer (RFC 6901) names.

    It steps into tuples, arrays and tagged objects as if they were plain.  Raises LookupError that
    says how far it came.
    """
    came = ""
    for step in pointer.split("/")[1:]:
        key, inside = step.replace("~1", "/").replace("~0", "~"), _inside(data)
        if isinstance(inside, list) and 0 <= (index := _index(key)) < len(inside):
            data = inside[index]
        elif isinstance(inside, dict) and key in inside:
            data = inside[key]
        else:
            msg = f"{came} has no {key!r:.80}"
            raise LookupError(msg)
        came += f"/{step}"
    return data


def _index(key: str) -> int:
    """Return the index that a step of a pointer is, -1 if it is none."""
    return int(key) if key.isdecimal() and len(key) <= _MAX_INDEX_DIGITS else -1


def counts_of(data: Any) -> dict[str, int]:
    """Return the counts in encoded data: an object of whole numbers, or those of a `BitArray`.

    Raises ValueError if it holds none.
    """
    if isinstance(data, dict) and data.get("__type__") == "BitArray":
        return _counts_of_bits(data.get("__value__"))
    found = _inside(data)
    if isinstance(found, dict) and all(_is_count(each) for each in found.values()):
        return found
    msg = f"holds no counts, which are an object of whole numbers to {MAX_COUNT} or a BitArray"
    raise ValueError(msg)


def plain(data: Any, room: arrays.Room | None = None) -> Any:
    """Return encoded data with numbers as numbers, and arrays, tuples and sets as lists.

    What has no such form keeps its tag, and its parts become plain; so do arrays for which there is
    no room any more.
    """
    room = room or arrays.Room()
    if isinstance(data, list):
        return [plain(each, room) for each in data]
    if not isinstance(data, dict):
        return data
    if (found := _untagged(data, room)) is not data:
        return found
    return {key: plain(value, room) for key, value in data.items()}


def _untagged(data: dict[str, Any], room: arrays.Room) -> Any:
    """Return the number or the list that tagged data stands for, else the same data."""
    if set(data) != {"__type__", "__value__"}:
        return data
    match data["__type__"], data["__value__"]:
        case "float", "nan" | "inf" | "-inf" as text:
            return float(text)
        case "complex", [int() | float() as real, int() | float() as imaginary]:
            try:
                return complex(real, imaginary)
            except OverflowError:  # integers that no float can hold
                return data
        case "numpy", [str(), bool() | int() | float() as number]:
            return number
        case "numpy", [str(), dict() as number]:
            return _untagged(number, room)
        case (("ndarray" | "numpy"), str() as packed):
            try:
                return arrays.unpack(packed, room)
            except ValueError:
                return data
        case str() as tag, list() as items if tag in _LISTS:
            return [plain(each, room) for each in items]
    return data


def _inside(data: Any) -> Any:
    """Return the list or the dict that a step of a pointer goes into."""
    while isinstance(data, dict) and "__type__" in data and "__value__" in data:
        if (found := _untagged(data, arrays.Room())) is not data:
            return found
        tag, data = data["__type__"], data["__value__"]
        if isinstance(tag, str) and tag in _PAIRS and isinstance(data, list):
            return {_key(each[0]): each[1] for each in data if isinstance(each, list) and each[1:]}
    return data


def _key(key: Any) -> str:
    return key if isinstance(key, str) else json.dumps(key)


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


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_COUNT


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, complex)) and not isinstance(value, bool)


def _unlike(what: str, seen: Any, expected: Any) -> str:
    shown = [one_line(json.dumps(each, default=str)) for each in (seen, expected)]
    return f"{what} {shown[0]:.{_MAX_SHOWN}}, expected {shown[1]:.{_MAX_SHOWN}}"


def _counts_of_bits(data: Any) -> dict[str, int]:
    """Return how often each bit string stands in the content of a `BitArray`, all axes together."""
    match data:
        case {"num_bits": int(width), "array": {"__type__": "ndarray", "__value__": _} as array}:
            shots = _rows(_untagged(array, arrays.Room()))
        case _:
            width, shots = -1, []
    if not all(_is_shot(each, (width + 7) // 8) for each in shots):
        shots = []
    words = (int.from_bytes(bytes(each), "big") for each in shots)
    return dict(Counter(f"{word:0{width}b}" for word in words))


def _is_shot(row: list[Any], size: int) -> bool:
    return len(row) == size and all(type(each) is int and 0 <= each < 256 for each in row)


def _rows(data: Any) -> list[Any]:
    """Return the innermost lists, which are the bytes of one shot each."""
    while isinstance(data, list) and data and isinstance(data[0], list) and data[0]:
        if not isinstance(data[0][0], list):
            return data
        data = [each for inner in data for each in inner]
    return []
