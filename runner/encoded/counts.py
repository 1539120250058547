"""How often each outcome was measured, as programs send it: objects of counts, and bits.

Works on encoded data, which may be hostile, without building objects of its classes.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from runner.encoded.arrays import Room
from runner.encoded.parts import PAIRS, inside, untagged

MAX_COUNT: Final = 1 << 53
"""The largest number of one outcome; up to here every whole number is a float."""

MAX_SEARCHED: Final = 100_000
"""In how many parts of a value counts are searched for."""

MAX_TEXT: Final = 1 << 20
"""Characters of a value that is looked at in passing, while something else is shown."""

_MAX_NAME: Final = 200
"""Characters of the words that say where counts stand: there may be as many as is searched."""

_BIT_STRING: Final = re.compile(r"0x[0-9a-fA-F]+|[01][01 ]*")
_MEANINGLESS: Final = frozenset({"counts", "pub_results", "data", "fields"})
"""Keys that say nothing of the counts below them."""


@dataclass(frozen=True, slots=True)
class Largest:
    """The outcomes that came most, and what there is beside them; `total` is of all."""

    rows: list[tuple[str, int]]
    others: int
    rest: int
    total: int


def largest(counts: Mapping[str, int], most: int) -> Largest:
    """Return the `most` outcomes that came most, and how many others came how often."""
    # Sorted by name first, so that equal counts stand in a stable order.
    ordered = sorted(sorted(counts.items()), key=lambda pair: -pair[1])
    others = [count for _, count in ordered[most:]]
    return Largest(ordered[:most], len(others), sum(others), sum(counts.values()))


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


def counts_in(data: Any, most: int) -> list[tuple[str, dict[str, int]]]:
    """Return the first `most` counts by bit string that stand anywhere in encoded data.

    Each with the keys and indices that lead to it in words, empty if none do.
    """
    found, room = [], Room()
    for name, part in _places(data):
        counts = _counts_of_bits(part["__value__"], room) if _are_bits(part) else part
        if counts:
            found.append((name, counts))
            if len(found) == most:
                break
    return found


def counts_in_text(text: str | None, most: int) -> list[tuple[str, dict[str, int]]]:
    """Return the same of encoded data as text; none of no text, or of more than `MAX_TEXT`."""
    if text is None or len(text) > MAX_TEXT:
        return []
    try:
        return counts_in(json.loads(text), most)
    except ValueError:  # a number of thousands of digits
        return []


def has_counts(data: Any) -> bool:
    """Whether encoded data seems to hold counts by bit string; nothing is unpacked for that."""
    return next(_places(data), None) is not None


def _places(data: Any) -> Iterator[tuple[str, Any]]:
    """Yield what holds counts, in the order in which it stands there."""
    searched, stack = 0, [("", data)]
    while stack and searched < MAX_SEARCHED:
        searched += 1
        name, part = stack.pop()
        if _are_bits(part) or _are_counts(part):
            yield name, part
        else:
            room = max(MAX_SEARCHED - searched - len(stack), 0)
            parts = list(islice(_parts(part), room))
            stack += [(f"{name} {key}".strip()[:_MAX_NAME], each) for key, each in parts[::-1]]


def _parts(data: Any) -> Iterator[tuple[str, Any]]:
    """Yield the lists and objects in encoded data, each with what its key says."""
    if not isinstance(data, dict | list):
        return
    if isinstance(data, dict) and isinstance(data.get("__type__"), str) and "__value__" in data:
        # No room for arrays: there are no counts in them, and a few bytes can stand for many.
        is_paired = data["__type__"] in PAIRS
        yield "", inside(data, Room(0)) if is_paired else data["__value__"]
        return
    for key, value in data.items() if isinstance(data, dict) else enumerate(data):
        if isinstance(value, dict | list):
            yield "" if key in _MEANINGLESS else f"{key!s:.40}", value


def _are_bits(data: Any) -> bool:
    return isinstance(data, dict) and data.get("__type__") == "BitArray" and "__value__" in data


def _are_counts(data: Any) -> bool:
    return (
        isinstance(data, dict)
        and all(_BIT_STRING.fullmatch(key) and _is_count(n) for key, n in data.items())
        and any(data.values())
    )


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_COUNT


def _counts_of_bits(data: Any, room: Room) -> dict[str, int]:
    """Return how often each bit string stands in the content of a `BitArray`, all axes together."""
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
    """Return the innermost lists, which are the bytes of one shot each."""
    while isinstance(data, list) and data and isinstance(data[0], list) and data[0]:
        if not isinstance(data[0][0], list):
            return data
        data = [each for inner in data for each in inner]
    return []
