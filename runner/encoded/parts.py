"""Parts of encoded values, and the numbers and lists that tagged data represents.

Works on data from a program, which may be hostile, without building objects of its classes.
"""

from __future__ import annotations

import json
from typing import Any, Final

from runner.encoded import arrays

_MAX_INDEX_DIGITS: Final = 9
MALFORMED: Final = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)
"""What is raised where a value is not of the form that its tag says."""

LISTS: Final = frozenset({"tuple", "set", "frozenset"})
"""Tags of values that are encoded as a list of their items."""

PAIRS: Final = frozenset({"dict", "OrderedDict", "Counter"})
"""Tags of mappings that are encoded as pairs of key and value."""


def lookup(data: Any, pointer: str, room: arrays.Room | None = None) -> Any:
    """Return the part of encoded data that a JSON Pointer (RFC 6901) names.

    Steps into tuples, arrays and tagged objects as if they were plain, into arrays only while there
    is room for their numbers (default: enough for each).  Raises LookupError that says how far it
    got.
    """
    came = ""
    for step in pointer.split("/")[1:]:
        key, found = step.replace("~1", "/").replace("~0", "~"), inside(data, room)
        if isinstance(found, list) and 0 <= (index := _index(key)) < len(found):
            data = found[index]
        elif isinstance(found, dict) and key in found:
            data = found[key]
        else:
            msg = f"{came} has no {key!r:.80}"
            raise LookupError(msg)
        came += f"/{step}"
    return data


def select(data: Any, pointer: str) -> Any:
    """Return the part of encoded data that a JSON Pointer names, in encoded form.

    Unlike `lookup` it enters no array.  Raises LookupError that says how far it got.
    """
    came = ""
    for step in pointer.split("/")[1:]:
        key, found = step.replace("~1", "/").replace("~0", "~"), data
        while isinstance(found, dict) and set(found) == {"__type__", "__value__"}:
            found = found["__value__"]
        if isinstance(found, list) and 0 <= (index := _index(key)) < len(found):
            data = found[index]
        elif isinstance(found, dict) and key in found:
            data = found[key]
        else:
            known = f", but {', '.join(found)[:200]}" if isinstance(found, dict) else ""
            msg = f"{came or 'it'} has no {key!r:.80}{known}"
            raise LookupError(msg)
        came += f"/{step}"
    return data


def plain(data: Any, room: arrays.Room | None = None) -> Any:
    """Return encoded data with numbers as numbers, and arrays, tuples and sets as lists.

    A value that has no such form keeps its tag, and its parts become plain.  Arrays for which there
    is no room keep their tag too.
    """
    room = room or arrays.Room()
    if isinstance(data, list):
        return [plain(each, room) for each in data]
    if not isinstance(data, dict):
        return data
    if (found := untagged(data, room)) is not data:
        return found
    return {key: plain(value, room) for key, value in data.items()}


def untagged(data: dict[str, Any], room: arrays.Room) -> Any:
    """Return the number or list that tagged data represents, or else the same data."""
    if set(data) != {"__type__", "__value__"}:
        return data
    match data["__type__"], data["__value__"]:
        case "float", "nan" | "inf" | "-inf" as text:
            return float(text)
        case "complex", [int() | float() as real, int() | float() as imaginary]:
            try:
                return complex(real, imaginary)
            except OverflowError:  # integers too large for a float
                return data
        case "numpy", [str(), bool() | int() | float() as number]:
            return number
        case "numpy", [str(), dict() as number]:
            return untagged(number, room)
        case (("ndarray" | "numpy"), str() as packed):
            try:
                return arrays.unpack(packed, room)
            except ValueError:
                return data
        case str() as tag, list() as items if tag in LISTS:
            return [plain(each, room) for each in items]
    return data


def inside(data: Any, room: arrays.Room | None = None) -> Any:
    """Return the list or dict that a step of a pointer enters."""
    while isinstance(data, dict) and "__type__" in data and "__value__" in data:
        if (found := untagged(data, room or arrays.Room())) is not data:
            return found
        tag, data = data["__type__"], data["__value__"]
        if isinstance(tag, str) and tag in PAIRS and isinstance(data, list):
            return {_key(each[0]): each[1] for each in data if isinstance(each, list) and each[1:]}
    return data


def _index(key: str) -> int:
    """Return the index in a step of a pointer, -1 if it is not an index."""
    return int(key) if key.isdecimal() and len(key) <= _MAX_INDEX_DIGITS else -1


def _key(key: Any) -> str:
    return key if isinstance(key, str) else json.dumps(key)
