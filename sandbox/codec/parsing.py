"""JSON data out of text; a long text is read in pieces, between which other threads run.

Parsing is one call that holds the interpreter's lock: seconds for a long text, in which no other
job's deadline could be kept.  Standard library only.
"""

from __future__ import annotations

import json
import os
from typing import Any, Final, NoReturn

from sandbox.wire import protocol, strict

_MAX_WHOLE: Final = 1 << 20
"""Shorter texts are parsed at once, which takes some 20 ms at most."""

_CONTINUED: Final = os.urandom(16).hex()
_END: Final = os.urandom(16).hex()
"""Mark what goes on from the piece before, and where a piece ends; no text can know them."""


def load(text: str) -> Any:
    """Return what `json.loads` does; ValueError for NaN and infinities, too.

    Of a long text, also for more than `MAX_DEPTH` and `MAX_NODES`, and for a key that is in one
    object twice, where that can be in doubt.
    """
    if len(text) <= _MAX_WHOLE:
        return _decode(text)
    root: Any = None
    open_ones: list[Any] = []
    for piece in strict.pieces(text, protocol.MAX_DEPTH, protocol.MAX_NODES):
        value = _decode(_marked(piece, text[piece.start : piece.end]))
        if not piece.was_open:
            root = value
        open_ones = _joined(open_ones, value, piece)
    return root


def _marked(piece: strict.Piece, content: str) -> str:
    """Return the piece as JSON by itself, with marks where it is open before and behind.

    `content` is the piece with its long strings.
    """
    opening = piece.was_open[:-1].replace("{", f'{{"{_CONTINUED}":') + piece.was_open[-1:]
    end = {"": "", "[": f',"{_END}"', "{": f',"{_END}":0'}[piece.is_open[-1:]]
    return f"{opening}{content}{end}{strict.closing(piece.is_open)}"


def _joined(open_ones: list[Any], value: Any, piece: strict.Piece) -> list[Any]:
    """Put what a piece holds into the containers that were open, and return those now open."""
    now_open = _path(value, len(piece.is_open), last=True)
    continued = _path(value, len(piece.was_open), last=False)
    if now_open:
        _take_end(now_open[-1])
    for number, (target, part) in enumerate(zip(open_ones, continued, strict=True)):
        if type(target) is list:
            target.extend(part[number + 1 < len(continued) :])
        else:
            part.pop(_CONTINUED, None)
            target.update(part)
        if number < len(now_open) and now_open[number] is part:
            now_open[number] = target
    return now_open


def _path(value: Any, length: int, *, last: bool) -> list[Any]:
    """Return so many containers, each the first or the last part of the one before."""
    path = []
    for _ in range(length):
        path.append(value)
        if type(value) is dict:
            value = next(reversed(value.values()) if last else iter(value.values()), None)
        elif type(value) is list and value:
            value = value[-1 if last else 0]
        else:
            value = None
    return path


def _take_end(container: Any) -> None:
    """Remove the mark from the end of the innermost open container, which must have it."""
    if type(container) is dict and _END in container:
        del container[_END]
    elif type(container) is list and container[-1:] == [_END]:
        container.pop()
    else:
        msg = "not clear: a key that is in one object twice"
        raise ValueError(msg)


def _refuse(name: str) -> NoReturn:
    msg = f"{name} is not JSON"
    raise ValueError(msg)


_decode: Final = json.JSONDecoder(parse_constant=_refuse).decode
