"""Arrays that a program sent, as nested lists of numbers: a host need not have NumPy.

Reads NumPy's file format, of plain numbers only, within a bound.  The content may be hostile.
"""

from __future__ import annotations

import ast
import base64
import itertools
import math
import operator
import struct
import zlib
from typing import Any, Final

MAX_BYTES: Final = 16 * 1024 * 1024
"""Larger arrays are not taken apart."""

_MAX_AXES: Final = 32
_MAGIC: Final = b"\x93NUMPY\x01\x00"
_START: Final = len(_MAGIC) + 2  # the header's length stands between
_MAX_HEADER: Final = 1024
_CODES: Final = {
    "b1": "?",
    "i1": "b",
    "i2": "h",
    "i4": "i",
    "i8": "q",
    "u1": "B",
    "u2": "H",
    "u4": "I",
    "u8": "Q",
    "f2": "e",
    "f4": "f",
    "f8": "d",
    "c8": "f",
    "c16": "d",
}


def unpack(packed: str) -> Any:
    """Return an array's numbers in nested lists, or the one number of an array without axes.

    `packed` is base64 of zlib of NumPy's file format, as the codec writes it.  Raises ValueError
    for what is malformed, larger than `MAX_BYTES`, or not of plain numbers.
    """
    try:
        content = zlib.decompressobj().decompress(base64.b64decode(packed), MAX_BYTES)
        return _numbers(content)
    except (zlib.error, struct.error, SyntaxError, RecursionError, MemoryError) as error:
        msg = f"not an array: {error}"
        raise ValueError(msg) from error


def _numbers(content: bytes) -> Any:
    end = _START + int.from_bytes(content[_START - 2 : _START], "little")
    if not content.startswith(_MAGIC) or end > _START + _MAX_HEADER:
        msg = "not an array in NumPy's format"
        raise ValueError(msg)
    kind, is_fortran, shape = _header(content[_START:end].decode("latin-1"))
    # An axis of length zero makes no room for the others.
    if len(shape) > _MAX_AXES or math.prod(each or 1 for each in shape) > MAX_BYTES:
        msg = f"an array of the shape {shape!r:.80}"
        raise ValueError(msg)
    order, parts = kind[0].replace("|", "<"), 2 if kind[1] == "c" else 1
    count = math.prod(shape) * parts
    items: Any = struct.unpack(f"{order}{count}{_CODES[kind[1:]]}", content[end:])
    if parts == 2:
        items = [complex(*pair) for pair in zip(items[::2], items[1::2], strict=True)]
    lengths = shape if is_fortran else shape[::-1]
    steps = list(itertools.accumulate([1, *lengths][:-1], operator.mul))
    return _nested(items, shape, steps if is_fortran else steps[::-1], 0)


def _header(text: str) -> tuple[str, bool, list[int]]:
    """Return type, order and shape; ValueError for a type that is not of plain numbers."""
    match ast.literal_eval(text.strip()):
        case {"descr": str(kind), "fortran_order": bool(is_fortran), "shape": tuple(shape)}:
            if kind[:1] in {"<", ">", "|"} and kind[1:] in _CODES:
                return kind, is_fortran, [_length(each) for each in shape]
        case _:
            pass
    msg = "not an array of plain numbers"
    raise ValueError(msg)


def _length(value: object) -> int:
    if type(value) is not int or value < 0:
        msg = f"an axis of the length {value!r:.80}"
        raise ValueError(msg)
    return value


def _nested(items: Any, shape: list[int], steps: list[int], start: int) -> Any:
    """Return the items as lists in lists; `steps` is how far apart the items of each axis are."""
    if not shape:
        return items[start]
    return [
        _nested(items, shape[1:], steps[1:], start + index * steps[0]) for index in range(shape[0])
    ]
