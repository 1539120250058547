"""Numbers in messages as series: the values of one field, message by message.

Works on data from a program, which may be hostile: it bounds the number of fields that are stored
    and the
amount that is unpacked from arrays.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from runner.encoded.arrays import Room
from runner.encoded.counts import MAX_COUNT
from runner.encoded.parts import inside, lookup, untagged

MAX_FIELDS: Final = 32
"""How many fields are stored besides those that were asked for."""

MAX_KEYS: Final = 256
"""How many keys of one message are read."""

MAX_ITEMS: Final = 8
"""How many items of a message that is a list are fields; more of them are an array."""

MAX_MAGNITUDE: Final = 1e150
"""Larger values are left out like infinities, so that no computation with them overflows."""

WHOLE: Final = ""
"""The field name for a message that is itself a number."""

_PROGRESS: Final = "progress"  # moves the bar of `qrunner run`
_NUMBERS: Final = ("float", "numpy", "ndarray")
_MAX_PACKED: Final = 256  # one number takes about 110 characters


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The values of the field `name` by those of the field `by`; None means the message numbers.

    `left_out` counts further values that are not finite, or too large to draw; `messages` are the
    numbers of the messages that hold those drawn.
    """

    name: str
    by: str | None
    xs: list[float]
    ys: list[float]
    left_out: int
    messages: list[float] = field(default_factory=list)
    unit: str = "message"


@dataclass(slots=True)
class _Field:
    """The values of one field so far; `counts` is True while they are increasing whole numbers."""

    messages: array[int] = field(default_factory=lambda: array("q"))
    values: array[float] = field(default_factory=lambda: array("d"))
    counts: bool = True

    def add(self, message: int, number: float) -> None:
        try:
            value = float(number)
        except OverflowError:  # an integer too large for a float
            value = math.inf
        is_next = not self.values or value > self.values[-1]
        self.counts &= is_next and type(number) is int and abs(number) <= MAX_COUNT
        self.messages.append(message)
        self.values.append(value)

    def drawable(self) -> int:
        """Return how many of the values can be drawn."""
        return sum(map(_is_drawable, self.values))


class Numbers:
    """The numbers in the messages of one job, added in the order of messages.

    `asked` are fields that are always stored: keys, or JSON Pointers such as `/point/0`.
    """

    def __init__(self, asked: tuple[str, ...] = ()) -> None:
        self._asked = {name: _pointer(name) for name in asked}
        self._fields: dict[str, _Field] = {}
        self._room = Room()

    def add(self, message: int, data: Any) -> None:
        """Add the numbers of a message in encoded form."""
        for name, value in self._named(data):
            number = _number(value, self._room)
            if number is None:
                continue
            has_room = name in self._asked or len(self._fields) < MAX_FIELDS
            if name in self._fields or has_room:
                self._fields.setdefault(name, _Field()).add(message, number)

    def _named(self, data: Any) -> Iterator[tuple[str, Any]]:
        is_whole = not isinstance(data, dict) or "__type__" in data
        pairs: Iterable[tuple[str, Any]]
        if isinstance(data, list) and len(data) <= MAX_ITEMS:  # `publish([step, energy])`
            pairs = ((f"/{number}", each) for number, each in enumerate(data))
        else:
            pairs = [(WHOLE, data)] if is_whole else islice(data.items(), MAX_KEYS)
        yield from (each for each in pairs if each[0] not in self._asked and each[0] != _PROGRESS)
        for name, pointer in self._asked.items():
            try:
                yield name, lookup(data, pointer, self._room)
            except LookupError:
                continue

    def found(self) -> dict[str, int]:
        """Return the fields that have numbers and how many, in order of first appearance."""
        return {name: len(each.values) for name, each in self._fields.items()}

    def caption(self, message: int) -> str:
        """Return the caption of a message: its first field that counts, else its number."""
        for name, each in self._fields.items():
            if name and each.counts and message in each.messages:
                return f"{name} {each.values[each.messages.index(message)]:.0f}"
        return f"message {message}"

    def series(self, name: str, by: str | None = None) -> Series:
        """Return the series of a field, by another field or by one that counts the messages."""
        chosen = self._fields.get(name, _Field())
        by = by or self._counter(name)
        known = dict(zip(*self._pairs(by), strict=True)) if by else None
        xs, ys, messages, left_out = [], [], [], 0
        for message, value in zip(chosen.messages, chosen.values, strict=True):
            x = message if known is None else known.get(message, math.nan)
            if _is_drawable(value) and _is_drawable(x):
                xs.append(float(x))
                ys.append(value)
                messages.append(float(message))
            else:
                left_out += 1
        return Series(name=name, by=by, xs=xs, ys=ys, left_out=left_out, messages=messages)

    def obvious(self) -> list[str]:
        """Return the fields worth drawing: those that do not merely count messages."""
        several = [name for name, each in self._fields.items() if each.drawable() > 1]
        return [name for name in several if not self._fields[name].counts]

    def counters(self) -> list[str]:
        """Return the fields of increasing whole numbers, except for the first such field."""
        several = [n for n, each in self._fields.items() if each.counts and each.drawable() > 1]
        return several[1:] or several

    def _pairs(self, name: str) -> tuple[array[int], array[float]]:
        one = self._fields.get(name, _Field())
        return one.messages, one.values

    def _counter(self, name: str) -> str | None:
        """Return the first other field that counts and is in every message of this field."""
        chosen = self._fields.get(name, _Field())
        for other, each in self._fields.items():
            if other in (name, WHOLE) or not each.counts or len(each.values) < 2:
                continue
            if set(chosen.messages) <= set(each.messages):
                return other
        return None


def series_of_lists(data: Any, most: int) -> list[Series]:
    """Return the first lists of numbers in encoded data, or in an object, as series of their own.

    Each is drawn by the number of its item.
    """
    pairs = data.items() if isinstance(data, dict) and "__type__" not in data else [(WHOLE, data)]
    found, room = [], Room()
    for name, value in islice(pairs, MAX_KEYS):
        items = inside(value, room)
        numbers = [_number(each, room) for each in items] if isinstance(items, list) else []
        if len(numbers) > 1 and None not in numbers:
            kept = [(x, y) for x, y in enumerate(numbers) if y is not None and _is_drawable(y)]
            xs, ys = [float(x) for x, _ in kept], [float(y) for _, y in kept]
            left_out = len(numbers) - len(kept)
            found.append(Series(name=name, by=None, xs=xs, ys=ys, left_out=left_out, unit="item"))
    return [each for each in found if each.ys][:most]


def _pointer(field: str) -> str:
    """Return the JSON Pointer of a field, which is a pointer already or a key of the message."""
    if field == WHOLE or field.startswith("/"):
        return field
    return "/" + field.replace("~", "~0").replace("/", "~1")


def _number(value: Any, room: Room) -> int | float | None:
    """Return encoded data as a number; None if it is none, or is too large to unpack."""
    if isinstance(value, dict) and value.get("__type__", "") in _NUMBERS:
        packed = value.get("__value__")
        if isinstance(packed, str) and len(packed) > _MAX_PACKED:
            return None
        value = untagged(value, room)
    return value if type(value) in (int, float) else None


def _is_drawable(value: float) -> bool:
    return abs(value) <= MAX_MAGNITUDE  # False for NaN
