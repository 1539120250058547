"""The form of a row of the codec's table, and functions that rows of several libraries share.

The module imports only the standard library.  To encode, classes of other libraries are looked up
in `sys.modules`; only a row that decodes imports them.
"""

from __future__ import annotations

import base64
import math
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

SAFE_QPY: Final = 13
"""Before this version, reading a circuit could run code that it contained (CVE-2025-2000)."""

MAX_QUBITS: Final = 1_000_000
"""The most qubits, bits or parameters: more of them, in a few bytes, are an attack on memory."""

_BASE64_CHARS: Final = 1 << 18
"""The number of base64 characters decoded at a time; a multiple of four."""


class UnavailableError(Exception):
    """The library that a value needs cannot be imported."""


class CostlyError(Exception):
    """The value is well-formed, but building or using it could cost far more than its text."""


class LossError(Exception):
    """The value is valid, but its encoded form would not restore it exactly."""


class Unpacking(Protocol):
    """Compressed content, unpacked while it is read, within the bound of a walk."""

    def read(self, size: int, /) -> bytes: ...


class Reader(Protocol):
    """The part of a decoding walk that rows may use."""

    oldest_qpy: int
    tries_out: bool
    is_bounded: bool

    def unpack(self, text: Any) -> Unpacking: ...
    def charge(self, size: int) -> None: ...
    def check_extent(self, size: int) -> None: ...
    def members(self, items: list[Any]) -> Iterator[Any]: ...
    def pairs(self, items: list[Any]) -> Iterator[Any]: ...


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table: a class, its tag, and the functions for both directions.

    `of` is the class as `module:Class`, or a test of a class; `derived` rows also take classes
    derived from it.  `to_data` returns anything that can be encoded in turn; `from_data` gets it
    decoded, and may raise any exception.  Reading data from a program, and using the value, must
    cost time and memory in proportion to the text.  A row that `needs_trust` is decoded on the host
    only on request.  `carrier` has the values of `__module__` and `__class__` in IBM's form.
    """

    tag: str
    of: str | Callable[[type], bool]
    to_data: Callable[[Any], Any]
    from_data: Callable[[Any, Reader], Any]
    derived: bool = False
    needs_trust: bool = False
    carrier: tuple[str, str] | None = None

    @property
    def key(self) -> str:
        """The key of the row: its tag, with the class that its carrier names."""
        return f"{self.tag}:{self.carrier[1]}" if self.carrier else self.tag

    def is_for(self, kind: type) -> bool:
        """Return whether this type is exactly the class of this row."""
        return isinstance(self.of, str) and kind is find(self.of)

    def takes(self, kind: type) -> bool:
        """Return whether this row takes values of this type as those of a derived class."""
        if not isinstance(self.of, str):
            return self.of(kind)
        base = find(self.of) if self.derived else None
        return base is not None and issubclass(kind, base)


def find(path: str) -> type | None:
    """Return the class at `module:Class`, None if its library is not imported."""
    module, _, name = path.partition(":")
    found = getattr(sys.modules.get(module), name, None)
    return found if isinstance(found, type) else None


def attributes(*names: str) -> Callable[[Any], dict[str, Any]]:
    """Return a function that makes a dict of some attributes of a value."""
    return lambda value: {name: getattr(value, name) for name in names}


def pack(content: bytes) -> str:
    """Return base64 of zlib, as IBM's clients write arrays and circuits."""
    # The fastest level: the content is mostly noise (amplitudes), which no level compresses well.
    return base64.b64encode(zlib.compress(content, 1)).decode("ascii")


def base64_of(content: bytes) -> str:
    """Return base64 of uncompressed bytes."""
    return base64.b64encode(content).decode("ascii")


def bytes_of(data: Any) -> bytes:
    """Return the bytes that `base64_of` encoded."""
    return b"".join(base64_pieces(a_text(data)))


def base64_pieces(text: str) -> Iterator[bytes]:
    """Yield the bytes in base64, piece by piece: decoding a long text at once stops all threads.

    Raises ValueError at the first piece that is not base64.
    """
    if "=" in text[:-2]:
        msg = "base64 that goes on after its end"
        raise ValueError(msg)
    for start in range(0, len(text), _BASE64_CHARS):
        yield base64.b64decode(text[start : start + _BASE64_CHARS], validate=True)


def a_list(data: Any) -> list[Any]:
    """Return the data if it is a list.  Raises ValueError otherwise, like the functions below."""
    return _a(list, data)  # type: ignore[no-any-return]


def a_dict(data: Any, *keys: str) -> dict[str, Any]:
    """Return the dict, which must have exactly these keys."""
    if set(_a(dict, data)) != set(keys):
        msg = f"its keys are not {', '.join(keys)}"
        raise ValueError(msg)
    return data  # type: ignore[no-any-return]


def a_text(data: Any) -> str:
    """Return the data if it is text."""
    return _a(str, data)  # type: ignore[no-any-return]


def an_int(data: Any) -> int:
    """Return the data if it is an integer and not a bool."""
    return _a(int, data)  # type: ignore[no-any-return]


def a_size(data: Any) -> int:
    """Return a number of qubits, bits or parameters, each of which costs more than its text."""
    if not 0 <= an_int(data) <= MAX_QUBITS:
        msg = f"{data} of something, and not more than {MAX_QUBITS} can be right"
        raise ValueError(msg)
    return data  # type: ignore[no-any-return]


def a_record(data: Any) -> dict[str, Any]:
    """Return the dict, whose keys may become attributes.

    Raises ValueError for names of protocols (`__array_interface__`, `_as_parameter_`): a library
    that finds one believes its content, such as an address.
    """
    for key in _a(dict, data):
        if a_text(key)[:1] == "_" == key[-1:] and len(key) > len("__"):
            msg = f"an attribute called {key!r:.80}, as only protocols are"
            raise ValueError(msg)
    return data  # type: ignore[no-any-return]


def check_cost(reader: Reader, size: int, most: int, what: str) -> None:
    """Raise CostlyError for a number above what a value from a program may have."""
    if reader.is_bounded and size > most:
        msg = f"more than {most} {what}"
        raise CostlyError(msg)


def is_json(value: Any) -> bool:
    """Return whether a value is plain JSON data, which the standard library writes unchanged."""
    if type(value) is list:
        return all(map(is_json, value))
    if type(value) is dict:
        return all(type(key) is str and is_json(item) for key, item in value.items())
    if type(value) is float:
        return math.isfinite(value)
    return value is None or type(value) in (str, int, bool)


def _a(kind: type, data: Any) -> Any:
    if type(data) is not kind:
        msg = f"a {type(data).__name__} instead of a {kind.__name__}"
        raise TypeError(msg)
    return data
