"""Arrays from a program as nested lists of numbers, without NumPy, which a host need not have.

Reads NumPy's file format, plain numbers only, within a bound.  The content may be hostile: a few
bytes can stand for millions of numbers, and lists without any numbers take memory too.
"""

from __future__ import annotations

import ast
import base64
import itertools
import math
import operator
import struct
import zlib
from dataclasses import dataclass
from typing import Any, Final

MAX_ITEMS: Final = 1 << 20
"""The most numbers and lists unpacked from the arrays of one value: about 100 MiB of memory."""
_MAX_AXES: Final = 32
_MAGIC: Final = b"\x93NUMPY\x01\x00"
_START: Final = len(_MAGIC) + 2  # followed by the length of the header
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


_SIZED: Final = frozenset({"int", "uint", "float", "complex"})
_NAMES: Final = {
    "b": "bool",
    "i": "int",
    "u": "uint",
    "f": "float",
    "c": "complex",
    "U": "text",
    "S": "bytes",
    "M": "datetime64",
    "m": "timedelta64",
    "V": "raw",
}


@dataclass(slots=True)
class Room:
    """How many more numbers and lists may be unpacked; the arrays of one value share it."""

    left: int = MAX_ITEMS

    def take(self, count: int) -> None:
        """Use `count` of the room.  Raises ValueError if less is left."""
        if count > self.left:
            msg = f"an array of {count!r:.80} numbers and lists, more than {self.left}"
            raise ValueError(msg)
        self.left -= count


def unpack(packed: str, room: Room | None = None) -> Any:
    """Return an array's numbers in nested lists, or the only number of an array without axes.

    `packed` is base64 of zlib of NumPy's file format, as the codec writes it.  Raises ValueError if
    it is malformed, does not fit into the room (default: a room of its own), or has other items
    than plain numbers.
    """
    try:
        return _numbers(base64.b64decode(packed), room or Room())
    except (zlib.error, struct.error, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        msg = f"not an array: {error}"
        raise ValueError(msg) from error


def described(packed: str) -> tuple[str, tuple[int, ...]]:
    """Return the type of an array's items, as NumPy calls it, and its shape.  Raises ValueError."""
    try:
        content = zlib.decompressobj().decompress(base64.b64decode(packed), _START + _MAX_HEADER)
        end = _START + int.from_bytes(content[_START - 2 : _START], "little")
        header = ast.literal_eval(content[_START:end].decode("latin-1").strip())
        kind, shape = header["descr"], tuple(map(_length, header["shape"]))
    except (zlib.error, SyntaxError, TypeError, KeyError, RecursionError, MemoryError) as error:
        msg = f"not an array: {error}"
        raise ValueError(msg) from error
    if not isinstance(kind, str):
        return "structured", shape
    name, size = _NAMES.get(kind[1:2], kind), kind[2:]
    return f"{name}{8 * int(size)}" if name in _SIZED and size.isdecimal() else name, shape


def _numbers(compressed: bytes, room: Room) -> Any:
    # Read the header first, so that a few bytes cannot expand beyond the room.
    unpacker = zlib.decompressobj()
    content = unpacker.decompress(compressed, _START + _MAX_HEADER)
    end = _START + int.from_bytes(content[_START - 2 : _START], "little")
    if not content.startswith(_MAGIC) or end > _START + _MAX_HEADER:
        msg = "not an array in NumPy's format"
        raise ValueError(msg)
    kind, is_fortran, shape = _header(content[_START:end].decode("latin-1"))
    if len(shape) > _MAX_AXES:
        msg = f"an array of {len(shape)} axes"
        raise ValueError(msg)
    # Each axis has a list per index of the axes before it, even if its own length is zero.
    room.take(math.prod(shape) + sum(itertools.accumulate([1, *shape][:-1], operator.mul)))
    order, parts = kind[0].replace("|", "<"), 2 if kind[1] == "c" else 1
    form = f"{order}{math.prod(shape) * parts}{_CODES[kind[1:]]}"
    size = end + struct.calcsize(form)
    content += unpacker.decompress(unpacker.unconsumed_tail, max(1, size - len(content)))
    items: Any = struct.unpack(form, content[end:])
    if parts == 2:
        items = [complex(*pair) for pair in zip(items[::2], items[1::2], strict=True)]
    lengths = shape if is_fortran else shape[::-1]
    steps = list(itertools.accumulate([1, *lengths][:-1], operator.mul))
    return _nested(items, shape, steps if is_fortran else steps[::-1], 0)


def _header(text: str) -> tuple[str, bool, list[int]]:
    """Return type, order and shape.  Raises ValueError for items other than plain numbers."""
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
    """Return the items as nested lists; `steps` is the distance between items along each axis."""
    if not shape:
        return items[start]
    return [
        _nested(items, shape[1:], steps[1:], start + index * steps[0]) for index in range(shape[0])
    ]
