"""Encoded values as text for people at a terminal, and where it pays to draw their circuits."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

from runner.cli.terminal import columns_of
from runner.encoded.circuits import circuits_in, head
from runner.encoded.readable import readable
from runner.job.form import strict
from runner.policy import size
from sandbox.wire.protocol import JsonText

Draw = Callable[[Sequence[Any], int], Sequence[str]]
"""Draws tagged circuits as text of so many columns; returns none where it cannot."""

MAX_READ: Final = 8 << 20
"""A longer result is not made into text for people, in characters."""

MAX_RAW: Final = 400
"""JSON without encoded values is shown as it is up to this length, in characters."""

MAX_DRAWN: Final = 4
_MAX_QUBITS: Final = 40
_MAX_INSTRUCTIONS: Final = 300
_MAX_LINES: Final = 120


def as_text(text: JsonText, *, draw: Draw | None = None, columns: int | None = None) -> str:
    """Return encoded data as escaped text for people."""
    if len(text) <= MAX_RAW and '"__type__"' not in text:
        return strict(text)
    if len(text) > MAX_READ:
        return f"({size(len(text))}: too large to be shown; qrunner result JOB > FILE writes it)"
    data, columns = json.loads(text), columns or columns_of(sys.stdout)
    return readable(data, columns, _drawn(data, draw, columns) if draw else None)


def _drawn(data: Any, draw: Draw, columns: int) -> dict[int, str]:
    """Return pictures of the first circuits that are small enough, by the `id` of their part."""
    wanted = []
    for each in circuits_in(data):
        try:
            _, qubits, _, instructions = head(each["__value__"])
        except ValueError:
            continue
        if qubits <= _MAX_QUBITS and instructions <= _MAX_INSTRUCTIONS:
            wanted.append(each)
        if len(wanted) == MAX_DRAWN:
            break
    pictures = draw(wanted, columns) if wanted else []
    if len(pictures) != len(wanted):
        return {}
    return {id(each): _cut(text) for each, text in zip(wanted, pictures, strict=True)}


def _cut(picture: str) -> str:
    lines = picture.split("\n")
    more = len(lines) - _MAX_LINES
    return "\n".join([*lines[:_MAX_LINES], *([f"… ({more} more lines)"] if more > 0 else [])])
