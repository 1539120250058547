"""Encoded values as text for people at a terminal, and where it pays to draw their circuits."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

from runner.cli.terminal import columns_of
from runner.encoded.circuits import drawable, drawn
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


def as_text(text: JsonText, *, draw: Draw | None = None, columns: int | None = None) -> str:
    """Return encoded data as escaped text for people."""
    if len(text) <= MAX_RAW and '"__type__"' not in text:
        return strict(text)
    if len(text) > MAX_READ:
        return f"({size(len(text))}: too large to be shown; qrunner result JOB > FILE writes it)"
    data, columns = json.loads(text), columns or columns_of(sys.stdout)
    wanted = drawable(data) if draw else []
    pictures = draw(wanted, columns) if draw and wanted else []
    return readable(data, columns, drawn(wanted, pictures))
