"""Values as strict JSON and back, for both sides: inputs, messages and results.

Plain JSON values are written as they are.  Everything else is `{"__type__": tag, "__value__": …}`
by one closed table, `sandbox.table`; the names and forms that IBM's
runtime clients use are kept.  Nothing is changed on the way (a tuple stays a tuple, NaN stays NaN);
what has no row is refused with the path to it.

Standard library only at import.  A value can only be a NumPy or Qiskit one if that library is
already imported, so encoding looks them up in `sys.modules` and imports nothing.  Decoding what a
program sent (`trusted=False`) builds plain values and arrays only; the rest becomes a `Value`.
"""

from __future__ import annotations

import base64
import json
import sys
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from sandbox import protocol, table

TYPE: Final = "__type__"
VALUE: Final = "__value__"

MAX_UNPACKED_BYTES: Final = 256 * protocol.MIB
"""What the compressed parts of one untrusted payload may unpack to, all together."""

MAX_EQUAL_HASHES: Final = 1000
"""More keys of one hash than this in an untrusted set or dict are an attack on its tables."""

_PATH_STEPS: Final = 16
_EXACT: Final = frozenset({str, int, bool, type(None), float})
_WRITER: Final = json.JSONEncoder(
    ensure_ascii=True, check_circular=False, allow_nan=False, separators=(",", ":")
)


class _PathError(Exception):
    """Collects the steps to the culprit while it passes through the containers around it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.steps: list[str] = []

    def describe(self, name: str) -> str:
        steps = self.steps[::-1]
        if len(steps) > _PATH_STEPS:
            steps[_PATH_STEPS:] = ["…"]
        return f"{name}{''.join(steps)}: {self.reason}"


class EncodingError(TypeError):
    """A value that cannot be carried; the message begins with the path to it."""


class DecodingError(ValueError):
    """Tagged JSON that is malformed; the message begins with the path to it."""


@dataclass(frozen=True, slots=True)
class Value:
    """A value that is not decoded unasked: `raw` is its JSON, `decode` builds it.

    Decoding imports NumPy or Qiskit and lets them read what a program wrote.
    """

    raw: Any

    def decode(self) -> Any:
        """Return the value itself; circuits need QPY 13 or newer."""
        return _decode(self.raw, "value", _Decoder(trusted=True, oldest_qpy=table.SAFE_QPY))


def encode(value: Any, name: str = "value") -> protocol.JsonText:
    """Return the value as one line of strict ASCII JSON; EncodingError says what cannot be.

    `name` is what the path in the error begins with.
    """
    try:
        return write(to_data(value, name, shortcuts=_digits_are_limited()))
    except ValueError:  # a NaN or a huge integer, where only the shortcut's type check looked
        return write(to_data(value, name, shortcuts=False))


def decode(text: str, *, trusted: bool = False) -> Any:
    """Return the value that `encode` wrote; DecodingError for anything else."""
    try:
        data = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        msg = f"not JSON: {error}"
        raise DecodingError(msg) from None
    return from_data(data, trusted=trusted)


def to_data(value: Any, name: str = "value", *, shortcuts: bool = False) -> Any:
    """Return the value as tagged JSON data, which may share parts with it.

    With `shortcuts`, flat containers of plain types are not looked through for NaN and huge
    integers: for a caller who writes the data with a strict writer at once.
    """
    try:
        return _Encoder(shortcuts=shortcuts).data(value)
    except _PathError as error:
        raise EncodingError(error.describe(name)) from error.__cause__


def from_data(data: Any, name: str = "value", *, trusted: bool = False) -> Any:
    """Return the value of tagged JSON data; DecodingError, with the path, if it is malformed."""
    return _decode(data, name, _Decoder(trusted=trusted, oldest_qpy=0))


def write(data: Any) -> protocol.JsonText:
    """Return JSON data as text within the limits of the wire; ValueError for NaN."""
    try:
        text = _WRITER.encode(data)
    except RecursionError:
        msg = f"a value nested deeper than {protocol.MAX_DEPTH}"
        raise EncodingError(msg) from None
    if text.count("[") + text.count("{") + text.count(",") > protocol.MAX_NODES:
        msg = f"a value of more than {protocol.MAX_NODES} parts (commas and brackets count)"
        raise EncodingError(msg)
    return protocol.JsonText(text)


def tag_constant(name: str) -> dict[str, str]:
    """Return the tagged form of the tokens `NaN`, `Infinity` and `-Infinity`."""
    return {TYPE: "float", VALUE: table.float_name(float(name))}


class _Encoder:
    """One walk over a value; knows how deep it is and how many parts it has seen."""

    def __init__(self, *, shortcuts: bool) -> None:
        self._shortcuts = shortcuts
        self._parts = 0
        self._inside: list[int] = []

    def data(self, value: Any) -> Any:
        kind = type(value)
        if kind in _EXACT and table.is_plain(value):
            return value
        if kind is list:
            return self._list(value, value)
        if kind is dict and TYPE not in value and set(map(type, value)) <= {str}:
            return self._dict(value)
        if kind is Value:
            return value.raw
        for row in table.ROWS:
            if row.matches(value):
                return self._tagged(row, value)
        for base, reduce in table.BASES:
            if isinstance(value, base):
                return self.data(reduce(value))
        if callable(getattr(kind, "to_json", None)):
            return self._tagged(table.TO_JSON, value)
        msg = f"cannot carry {_with_article(kind.__name__)}"
        raise _PathError(msg)

    def _list(self, items: list[Any], owner: Any) -> list[Any]:
        self._enter(owner, len(items))
        if self._shortcuts and set(map(type, items)) <= _EXACT:
            self._inside.pop()
            return items
        result = []
        for index, item in enumerate(items):
            try:
                result.append(self.data(item))
            except _PathError as error:
                error.steps.append(f"[{index}]")
                raise
        self._inside.pop()
        return result

    def _dict(self, value: dict[str, Any]) -> dict[str, Any]:
        self._enter(value, len(value))
        if self._shortcuts and set(map(type, value.values())) <= _EXACT:
            self._inside.pop()
            return value
        result = {}
        for key, item in value.items():
            try:
                result[key] = self.data(item)
            except _PathError as error:
                error.steps.append(f"[{key!r:.80}]")
                raise
        self._inside.pop()
        return result

    def _tagged(self, row: table.Row, value: Any) -> dict[str, Any]:
        self._enter(value, 2)
        try:
            content = row.to_data(value)
        except _PathError:
            raise
        except Exception as error:  # to_json is the program's own code, and may raise anything
            msg = f"cannot carry {_with_article(type(value).__name__)}: {_one_line(error)}"
            raise _PathError(msg) from error
        data = self._list(content, content) if type(content) is list else self.data(content)
        self._inside.pop()
        return {TYPE: row.tag, VALUE: data}

    def _enter(self, container: Any, parts: int) -> None:
        self._parts += parts
        if self._parts > protocol.MAX_NODES:
            msg = f"more than {protocol.MAX_NODES} parts"
            raise _PathError(msg)
        if id(container) in self._inside:
            msg = "contains itself"
            raise _PathError(msg)
        if len(self._inside) >= protocol.MAX_DEPTH:
            msg = f"nested deeper than {protocol.MAX_DEPTH} (a tagged value counts as two)"
            raise _PathError(msg)
        self._inside.append(id(container))


class _Decoder:
    """One walk over tagged JSON; holds what is allowed and how much may still be unpacked."""

    def __init__(self, *, trusted: bool, oldest_qpy: int) -> None:
        self.trusted = trusted
        self.oldest_qpy = oldest_qpy
        self._unpacked_bytes = 0

    def value(self, data: Any, depth: int = 0) -> Any:
        if depth > protocol.MAX_DEPTH:
            msg = f"nested deeper than {protocol.MAX_DEPTH}"
            raise _PathError(msg)
        kind = type(data)
        if kind is list:
            return self._list(data, depth + 1)
        if kind is dict:
            return self._tagged(data, depth + 1) if TYPE in data else self._dict(data, depth + 1)
        if kind in _EXACT:
            return data
        msg = f"{_with_article(kind.__name__)} is no JSON data"
        raise _PathError(msg)

    def unpack(self, text: Any) -> bytes:
        """Return what base64 of zlib holds, within what this walk may still unpack."""
        packed = base64.b64decode(text, validate=True)
        unpacker = zlib.decompressobj()
        room = MAX_UNPACKED_BYTES - self._unpacked_bytes if not self.trusted else 0
        content = unpacker.decompress(packed, max(room, 1) if not self.trusted else 0)
        if not unpacker.eof:
            msg = f"is cut short, or unpacks to more than {MAX_UNPACKED_BYTES} bytes"
            raise ValueError(msg)
        self._unpacked_bytes += len(content)
        return content

    def check_hashes(self, keys: Iterable[Any]) -> None:
        """Refuse keys made to collide, which would make a set or dict of them take for ever."""
        if not self.trusted:
            hashes = Counter(map(hash, keys))
            if hashes and max(hashes.values()) > MAX_EQUAL_HASHES:
                msg = "its keys are made to collide"
                raise ValueError(msg)

    def _list(self, items: list[Any], depth: int) -> list[Any]:
        if set(map(type, items)) <= _EXACT:
            return list(items)
        result = []
        for index, item in enumerate(items):
            try:
                result.append(self.value(item, depth))
            except _PathError as error:
                error.steps.append(f"[{index}]")
                raise
        return result

    def _dict(self, items: dict[str, Any], depth: int) -> dict[str, Any]:
        result = {}
        for key, item in items.items():
            try:
                result[key] = self.value(item, depth)
            except _PathError as error:
                error.steps.append(f"[{key!r:.80}]")
                raise
        return result

    def _tagged(self, data: dict[str, Any], depth: int) -> Any:
        row = table.BY_TAG.get(data[TYPE]) if isinstance(data[TYPE], str) else None
        if row is None or (row.needs_trust and not self.trusted):
            return self._unknown(data)
        if set(data) != {TYPE, VALUE}:
            msg = f"a value tagged {row.tag!r} whose keys are not {TYPE} and {VALUE}"
            raise _PathError(msg)
        content = self.value(data[VALUE], depth)
        try:
            return row.from_data(content, self)
        except table.UnavailableError:
            return self._unknown(data)
        except Exception as error:  # noqa: BLE001 (constructors, fed with hostile data)
            msg = f"not of the form of a value tagged {row.tag!r}: {_one_line(error)}"
            raise _PathError(msg) from None

    def _unknown(self, data: dict[str, Any]) -> Value:
        if not self.trusted and isinstance(data[TYPE], str):
            return Value(data)
        msg = f"a value of the unknown type {data[TYPE]!r:.80}"
        raise _PathError(msg)


def _decode(data: Any, name: str, decoder: _Decoder) -> Any:
    try:
        return decoder.value(data)
    except _PathError as error:
        raise DecodingError(error.describe(name)) from None


def _digits_are_limited() -> bool:
    """Whether the writer refuses the integers that the host's reader refuses."""
    return 0 < sys.get_int_max_str_digits() <= sys.int_info.default_max_str_digits


def _refuse_constant(name: str) -> NoReturn:
    msg = f"{name} is not JSON"
    raise ValueError(msg)


def _with_article(noun: str) -> str:
    return f"{'an' if noun[:1].lower() in tuple('aeiou') else 'a'} {noun:.100}"


def _one_line(error: Exception) -> str:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 (the error's class may be the program's own)
        text = "(its text cannot be shown)"
    return f"{type(error).__name__}: {' '.join(text.split()):.300}"
