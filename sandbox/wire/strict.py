"""Checks that a text is strict JSON, without building its value.

`json.loads` of hostile text can take many times its size (`[[],[],…]`: twenty times).  Here a long
text is cut at commas into pieces.  Each piece, completed with the brackets that are open around it,
is parsed by `json.loads` and dropped.  So the check costs little more time than parsing, and memory
for one piece only. Texts of at most a few megabytes with little nesting are parsed as a whole,
which is faster.  Standard library only.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator
from itertools import accumulate
from json.decoder import scanstring  # type: ignore[attr-defined]  # C, for a string alone
from typing import Any, Final, NamedTuple, NoReturn

PIECE_CHARS: Final = 1 << 16
"""Longer texts are checked in pieces of about this length."""

MAX_DIGITS: Final = 4300
"""Numbers with more digits are refused, because Python refuses to convert such integers."""

_MAX_TOKENS: Final = 2000
"""Limit without a comma: brackets at the deepest nesting, with keys and colons, are far fewer."""

_MAX_WHOLE: Final = 1 << 21
"""Flat texts up to this length are parsed as a whole, which is fastest."""

_FIRST_CHARS: Final = 1 << 10
_MORE_CHARS: Final = 1 << 18
"""How much of a string is read first, as most are short, and then at a time."""

_ESCAPE_CHARS: Final = len(r"\u0000")

_FLAT: Final = range(24, 4096)
"""Average characters between commas in a text that is parsed as a whole: its values are mostly
strings, and few enough to take little more memory than the text itself."""

_SAMPLE_CHARS: Final = 1 << 12
_STRIDE_CHARS: Final = 1 << 15
_SHIFT_CHARS: Final = _STRIDE_CHARS >> 8
"""A sample's offset in its stride is this times a random byte; it may reach into the next one."""

_CLOSER: Final = {"[": "]", "{": "}"}
_SPACE: Final = " \t\n\r"
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_DIGITS: Final = bytes.maketrans(b"123456789", b"000000000")
_MANY_DIGITS: Final = b"0" * 200
_LARGE_EXPONENT: Final = re.compile(rb"[eE]\+?[0-9]{3}")
_TOKEN: Final = re.compile(r'[ \t\n\r]++|[^ \t\n\r",]{1,500}')


def check(text: str, max_depth: int, max_nodes: int) -> None:
    """Return if the text is strict JSON within these bounds on nodes and nesting; else raise.

    A node is a container or a comma.  Raises ValueError for anything else: syntax errors, NaN and
    infinities (also `1e999`), numbers of more than `MAX_DIGITS` digits.
    """
    if len(text) <= PIECE_CHARS:
        value = _load(text, text.encode("ascii", "replace"))
        if text.count("[") + text.count("{") > max_depth:
            _check_depth(value, max_depth)
        return
    if len(text) <= _MAX_WHOLE and _is_flat(text, max_depth):
        _DECODE_CAREFULLY(text)
        return
    for piece in pieces(text, max_depth, max_nodes):
        _load(piece.completed(), piece.outside)


class Piece(NamedTuple):
    """A part of a text between commas, with the brackets open before it and after it.

    Long strings may be left out of `content`; the text has them from `start` to `end`.  `outside`
    holds the characters outside strings.
    """

    was_open: str
    content: str
    outside: bytes
    is_open: str
    start: int
    end: int

    def completed(self) -> str:
        """Return it as JSON by itself: with the brackets open before it, and all closed."""
        opening = self.was_open[:-1].replace("{", '{"":') + self.was_open[-1:]
        return opening + self.content + closing(self.is_open)


def closing(is_open: str) -> str:
    """Return the closing counterparts of these brackets."""
    return "".join(_CLOSER[each] for each in reversed(is_open))


def pieces(text: str, max_depth: int, max_nodes: int) -> Iterator[Piece]:
    """Cut a text at commas into pieces that are JSON by themselves exactly if the text is.

    Raises ValueError for more than `max_nodes` nodes, for nesting deeper than `max_depth`, and for
    commas or brackets where none may be.
    """
    position, was_open, end = -1, "", -1
    while end < len(text):
        content, outside, end = _next_piece(text, position + 1)
        brackets = outside.translate(None, _NOT_BRACKETS)
        max_nodes -= outside.count(b",") + brackets.count(b"[") + brackets.count(b"{") + 1
        if max_nodes < 0:
            msg = "too many values"
            raise ValueError(msg)
        is_open = _open_after(was_open, brackets, max_depth)
        if position >= 0 and content.lstrip(_SPACE)[:1] in {"", "]", "}"}:
            msg = f"nothing after the comma at character {position}"
            raise ValueError(msg)
        if end < len(text):
            if not is_open or content.rstrip(_SPACE)[-1:] in {"", "[", "{"}:
                msg = f"a comma that separates nothing at character {end}"
                raise ValueError(msg)
        elif is_open:
            msg = f"the end, where {closing(is_open)!r} is missing"
            raise ValueError(msg)
        yield Piece(was_open, content, outside, is_open, position + 1, end)
        position, was_open = end, is_open


def _is_flat(text: str, max_depth: int) -> bool:
    """Return True if the text has so few brackets that nothing in it can be nested too deep."""
    return (
        PIECE_CHARS // (text.count(",", 0, PIECE_CHARS) + 1) in _FLAT
        and not any(_has_more(text, bracket, max_depth // 2) for bracket in "[{")
        and len(text) // (_commas(text) + 1) in _FLAT
    )


def _commas(text: str) -> int:
    """Return the approximate number of commas: counting all takes a sixth of the time of parsing.

    Takes one sample at a random place in each stride, so that no text can hide its commas.
    """
    strides = range(0, len(text), _STRIDE_CHARS)
    places = (
        at + shift * _SHIFT_CHARS
        for at, shift in zip(strides, os.urandom(len(strides)), strict=True)
    )
    found = sum(text.count(",", place, place + _SAMPLE_CHARS) for place in places)
    return found * (_STRIDE_CHARS // _SAMPLE_CHARS)


def _has_more(text: str, character: str, number: int) -> bool:
    """Return True if a character occurs more than `number` times; faster than counting all."""
    position = -1
    for _ in range(number + 1):
        position = text.find(character, position + 1)
        if position < 0:
            return False
    return True


def _next_piece(text: str, position: int) -> tuple[str, bytes, int]:
    """Return a piece, its characters outside strings, and where the comma or end after it is.

    The piece is short, and equivalent to the text there: a long string in it may have been checked
        and left
    out.
    """
    last = position + PIECE_CHARS
    if last < len(text) and text.find(",", position, last) < 0:
        return _skim(text, position)
    piece = text[position:last]
    parts = _masked(piece).split('"')  # parts with even numbers are outside strings
    if last >= len(text):
        return piece, _ascii(parts[::2]), len(text)
    end = len(piece)
    for number in reversed(range(len(parts))):
        start = end - len(parts[number])
        comma = -1 if number % 2 else parts[number].rfind(",")
        if comma >= 0:
            outside = _ascii([*parts[0:number:2], parts[number][:comma]])
            return piece[: start + comma], outside, position + start + comma
        end = start - 1
    return _skim(text, position)


def _ascii(parts: list[str]) -> bytes:
    return "".join(parts).encode("ascii", "replace")


def _masked(piece: str) -> str:
    """Return the piece with escapes replaced, so that every quote left begins or ends a string."""
    if "\\" not in piece:
        return piece
    return piece.replace("\\\\", "__").replace('\\"', "__")


def _skim(text: str, position: int) -> tuple[str, bytes, int]:
    """Return the next piece if the next comma is far, without its strings and spaces."""
    tokens: list[str] = []
    while position < len(text) and text[position] != ",":
        first = text[position]
        if first == '"':
            end = _end_of_string(text, position)
        else:
            end = match.end() if (match := _TOKEN.match(text, position)) else 0
        if not end or len(tokens) > _MAX_TOKENS:
            msg = f"no value that could be read, from character {position}"
            raise ValueError(msg)
        tokens.append('""' if first == '"' else " " if first in _SPACE else text[position:end])
        position = end
    piece = "".join(tokens)
    return piece, _ascii([piece.replace('""', "")]), position


def _end_of_string(text: str, start: int) -> int:
    """Return the end of a string, building at most a piece of it at a time.

    Memory for a piece is present already, while memory for a long string would have to be mapped.
    """
    position, size = start + 1, _FIRST_CHARS
    while position + size < len(text):
        cut = _before_escape(text, position, position + size)
        piece = text[position:cut]
        piece += '"'  # in place
        end = position + int(scanstring(piece, 0)[1])
        if end <= cut:
            return end
        position, size = cut, _MORE_CHARS
    return position + int(scanstring(text[position:], 0)[1])


def _before_escape(text: str, start: int, end: int) -> int:
    """Return a position at or near `end` where a string can be cut without splitting an escape."""
    last = text.rfind("\\", end - _ESCAPE_CHARS, end)
    if last < 0:
        return end
    # In a row of backslashes, every second one begins an escape.
    row = text[start : last + 1] if text[last - 1] == "\\" else "\\"
    return last if (len(row) - len(row.rstrip("\\"))) % 2 else end


def _open_after(is_open: str, brackets: bytes, max_depth: int) -> str:
    """Return the brackets open after a piece, from those open before it and its own."""
    if len(is_open) + brackets.count(b"[") + brackets.count(b"{") > max_depth:
        steps = memoryview(brackets.translate(_STEPS)).cast("b")
        if max(accumulate(steps, initial=len(is_open))) > max_depth:
            msg = f"nested deeper than {max_depth}"
            raise ValueError(msg)
    size = -1
    while size != len(brackets):
        size = len(brackets)
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    for bracket in brackets.decode():
        if bracket in _CLOSER:
            is_open += bracket
        elif is_open and _CLOSER[is_open[-1]] == bracket:
            is_open = is_open[:-1]
        else:
            msg = f"{bracket!r} closes nothing"
            raise ValueError(msg)
    return is_open


def _refuse(name: str) -> NoReturn:
    raise ValueError(name)


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number) or len(digits) > MAX_DIGITS:
        msg = f"a number beyond the range of a float: {digits:.40}"
        raise ValueError(msg)
    return number


# Made once: `json.loads` makes a decoder for each call with special arguments.
_DECODE: Final = json.JSONDecoder(parse_constant=_refuse).decode
_DECODE_CAREFULLY: Final = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite).decode


def _load(text: str, outside: bytes) -> Any:
    # Examining each float would be slow, so this is done only where one could be too large or too
    # long.
    if _MANY_DIGITS in outside.translate(_DIGITS) or (
        (b"e" in outside or b"E" in outside) and _LARGE_EXPONENT.search(outside)
    ):
        return _DECODE_CAREFULLY(text)
    return _DECODE(text)


def _check_depth(value: Any, max_depth: int) -> None:
    level = [value]
    for _ in range(max_depth):
        level = [
            child
            for parent in level
            for child in (parent.values() if type(parent) is dict else parent)
            if type(child) is dict or type(child) is list
        ]
        if not level:
            return
    msg = f"nested deeper than {max_depth}"
    raise ValueError(msg)
