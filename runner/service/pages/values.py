"""Inputs and results as text of bounded size, with their circuits drawn where that was done."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from runner.display import shortened
from runner.encoded.circuits import drawable, drawn
from runner.encoded.readable import readable
from sandbox.wire.protocol import JsonText

MAX_READ: Final = 1 << 20
"""A longer value is not laid out on a page, but can be downloaded."""

COLUMNS: Final = 100
_MAX_SHOWN: Final = 20_000
_MAX_UNREAD: Final = 500


def laid_out(text: JsonText | None, pictures: Sequence[str] = ()) -> str:
    """Return a value as text, "" for none; its circuits as these pictures."""
    if text is None:
        return ""
    if len(text) > MAX_READ:
        return f"{len(text)} characters: too long for this page, so download it"
    try:
        data = json.loads(text)
    except ValueError:  # a number with thousands of digits
        return shortened(text, _MAX_UNREAD)
    shown = readable(data, COLUMNS, drawn(drawable(data), pictures) if pictures else None)
    cut = len(shown) - _MAX_SHOWN
    return f"{shown[:_MAX_SHOWN]}\n… ({cut} more characters)" if cut > 0 else shown


def circuits_of(text: JsonText | None) -> list[dict[str, Any]]:
    """Return the circuits in a value that can be drawn, in the order of their pictures."""
    if text is None or len(text) > MAX_READ or '"QuantumCircuit"' not in text:
        return []
    try:
        return drawable(json.loads(text))
    except ValueError:
        return []
