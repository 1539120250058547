"""Measured counts per outcome, as programs send them: objects of counts, and bits.

Works on encoded data, which may be hostile, without building objects of its classes.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from runner.encoded.arrays import Room
from runner.encoded.parts import PAIRS, inside, untagged

MAX_COUNT: Final = 1 << 53
"""The largest count of one outcome; up to here a float can represent every whole number."""

MAX_SEARCHED: Final = 100_000
"""How many parts of a value are searched for counts."""

MAX_TEXT: Final = 1 << 20
"""The longest text that is searched for counts while something else is shown, in characters."""

_MAX_NAME: Final = 200
"""The longest description of where counts are, in characters: there may be very many of them."""

_WHOLE: Final = re.compile(r"[0-9]{1,19}")
_ROUNDED: Final = 1e-3
"""How much the sum of probabilities may differ from 1: each may be rounded."""

_BIT_STRING: Final = re.compile(r"0x[0-9a-fA-F]+|[01][01 ]*")
_MEANINGLESS: Final = frozenset({"counts", "pub_results", "data", "fields"})
"""Keys that do not describe the counts below them."""


@dataclass(frozen=True, slots=True)
class Largest:
    """The most frequent outcomes, and a summary of the others; `total` is the sum of all counts."""

    rows: list[tuple[str, float]]
    others: int
    rest: float
    total: float


def largest(counts: Mapping[str, float], most: int) -> Largest:
    """Return the `most` most frequent outcomes, with number and sum of the others."""
    # Sorted by name first, so that equal counts have a stable order.
    ordered = sorted(sorted(counts.items()), key=lambda pair: -pair[1])
    others = [count for _, count in ordered[most:]]
    return Largest(ordered[:most], len(others), sum(others), sum(counts.values()))


def amount(number: float) -> str:
    """Return a count, or a probability, as text."""
    return str(number) if type(number) is int else f"{number:.4f}"


def counts_of(data: Any) -> dict[str, int]:
    """Return the counts in encoded data: an object of whole numbers, or those of a `BitArray`.

    Raises ValueError if it holds none.
    """
    if _are_bits(data):
        return _counts_of_bits(data["__value__"], Room())
    found = inside(data)
    if isinstance(found, dict) and all(_is_count(each) for each in found.values()):
        return found
    msg = f"holds no counts, which are an object of whole numbers to {MAX_COUNT} or a BitArray"
    raise ValueError(msg)


def counts_in(
    data: Any, most: int, *, whole_keys: bool = False
) -> list[tuple[str, dict[str, float]]]:
    """Return the first `most` counts or probabilities by bit string anywhere in encoded data.

    Each comes with the keys and indices that lead to it, as text, empty if there are none.  With
    `whole_keys`, outcomes may be whole numbers as well.
    """
    found: list[tuple[str, dict[str, float]]] = []
    room = Room()
    for name, part in _places(data, whole_keys=whole_keys):
        counts = _counts_of_bits(part["__value__"], room) if _are_bits(part) else part
        if counts:
            found.append((name, dict(counts)))
            if len(found) == most:
                break
    return found


def counts_in_text(text: str | None, most: int) -> list[tuple[str, dict[str, float]]]:
    """Return the same for encoded data as text; none for None, or for more than `MAX_TEXT`."""
    if text is None or len(text) > MAX_TEXT:
        return []
    try:
        return counts_in(json.loads(text), most)
    except ValueError:  # a number with thousands of digits
        return []


def has_counts(data: Any) -> bool:
    """Return True if encoded data seems to hold counts by bit string; unpacks nothing."""
    return next(_places(data), None) is not None


def _places(data: Any, *, whole_keys: bool = False) -> Iterator[tuple[str, Any]]:
    """Yield the parts that hold counts or probabilities, in their order in the data."""
    searched, stack = 0, [("", data)]
    while stack and searched < MAX_SEARCHED:
        searched += 1
        name, part = stack.pop()
        if _are_bits(part) or are_counts(part, whole_keys=whole_keys) or _are_shares(part):
            yield name, part
        else:
            room = max(MAX_SEARCHED - searched - len(stack), 0)
            parts = list(islice(_parts(part), room))
            stack += [(f"{name} {key}".strip()[:_MAX_NAME], each) for key, each in parts[::-1]]


def _parts(data: Any) -> Iterator[tuple[str, Any]]:
    """Yield the lists and objects in encoded data, each with a name made from its key."""
    if not isinstance(data, dict | list):
        return
    if isinstance(data, dict) and isinstance(data.get("__type__"), str) and "__value__" in data:
        # No room for arrays: they hold no counts, and a few bytes can stand for many numbers.
        is_paired = data["__type__"] in PAIRS
        yield "", inside(data, Room(0)) if is_paired else data["__value__"]
        return
    for key, value in data.items() if isinstance(data, dict) else enumerate(data):
        if isinstance(value, dict | list):
            yield "" if key in _MEANINGLESS else f"{key!s:.40}", value


def _are_bits(data: Any) -> bool:
    return isinstance(data, dict) and data.get("__type__") == "BitArray" and "__value__" in data


def are_counts(data: Any, *, whole_keys: bool = False) -> bool:
    """Return True if encoded data is an object of whole numbers by bit string, or by number."""
    if not isinstance(data, dict) or not all(map(_is_count, data.values())):
        return False
    names = [_BIT_STRING, _WHOLE] if whole_keys else [_BIT_STRING]
    return any(data.values()) and any(all(map(name.fullmatch, data)) for name in names)


def _are_shares(data: Any) -> bool:
    """Return True for probabilities by bit string, which add up to 1."""
    return (
        isinstance(data, dict)
        and all(_BIT_STRING.fullmatch(key) for key in data)
        and all(type(each) in (int, float) and 0 <= each <= 1 for each in data.values())
        and abs(math.fsum(data.values()) - 1) <= _ROUNDED
    )


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_COUNT


def _counts_of_bits(data: Any, room: Room) -> dict[str, int]:
    """Return the counts of each bit string in a `BitArray`, over all axes."""
    match data:
        case {
            "num_bits": int(width),
            "array": {"__type__": "ndarray", "__value__": _} as array,
        } if width is not True:
            shots = _rows(untagged(array, room))
        case _:
            width, shots = -1, []
    if not all(_is_shot(each, (width + 7) // 8) for each in shots):
        shots = []
    words = (int.from_bytes(bytes(each), "big") for each in shots)
    return dict(Counter(f"{word:0{width}b}" for word in words))


def _is_shot(row: list[Any], size: int) -> bool:
    return len(row) == size and all(type(each) is int and 0 <= each < 256 for each in row)


def _rows(data: Any) -> list[Any]:
    """Return the innermost lists, each of which holds the bytes of one shot."""
    while isinstance(data, list) and data and isinstance(data[0], list) and data[0]:
        if not isinstance(data[0][0], list):
            return data
        data = [each for inner in data for each in inner]
    return []
