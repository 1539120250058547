"""Values as strict JSON and back, for both sides: inputs, messages and results.

Plain JSON values are written as they are.  Everything else is `{"__type__": tag, "__value__": …}`
by one closed table, `sandbox.codec.table`; the names and forms that IBM's runtime clients use are
kept.  Nothing is changed on the way (a tuple stays a tuple, NaN stays NaN); what has no row is
refused with the path to it.

Standard library only at import.  A value can only be a NumPy or Qiskit one if that library is
already imported, so encoding looks them up in `sys.modules` and imports nothing.  Decoding what a
program sent (`trusted=False`) builds plain values and arrays only, within a bound of memory; the
rest becomes a `Value`.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Final

from sandbox.codec import parsing, rows, rows_circuits
from sandbox.codec.decoding import Decoder, DecodingError, Value, objects_bytes
from sandbox.codec.encoding import Encoder
from sandbox.codec.paths import TYPE, VALUE, PathError
from sandbox.wire import protocol

__all__ = [
    "DecodingError",
    "EncodingError",
    "Value",
    "circuits_to_data",
    "decode",
    "encode",
    "from_data",
    "tag_constant",
    "tagged",
    "to_data",
    "write",
]

_WRITER: Final = json.JSONEncoder(
    ensure_ascii=True, check_circular=False, allow_nan=False, separators=(",", ":")
)


class EncodingError(TypeError):
    """A value that cannot be carried; the message begins with the path to it."""


def encode(value: Any, name: str = "value") -> protocol.JsonText:
    """Return the value as one line of strict ASCII JSON; EncodingError says what cannot be.

    `name` is what the path in the error begins with.
    """
    try:
        return write(to_data(value, name, shortcuts=_digits_are_limited()))
    except ValueError:  # a NaN or a huge integer, where only the shortcut's type check looked
        return write(to_data(value, name, shortcuts=False))


def decode(text: str, *, trusted: bool = False) -> Any:
    """Return the value that `encode` wrote; DecodingError for anything else.

    Unless `trusted`, one that would take more than 256 MiB of memory is refused, too.
    """
    decoder = Decoder.for_caller(trusted=trusted, owns_data=True)
    try:
        decoder.charge(objects_bytes(text))
        data = parsing.load(text)
    except (ValueError, RecursionError) as error:
        msg = f"not JSON that can be read: {error}"
        raise DecodingError(msg) from None
    return decoder.whole(data, "value")


def to_data(value: Any, name: str = "value", *, shortcuts: bool = False) -> Any:
    """Return the value as tagged JSON data, which may share parts with it.

    With `shortcuts`, flat containers of plain types are not looked through for NaN and huge
    integers: for a caller who writes the data with a strict writer at once.
    """
    try:
        return Encoder(shortcuts=shortcuts).data(value)
    except PathError as error:
        raise EncodingError(error.describe(name)) from error.__cause__


def from_data(data: Any, name: str = "value", *, trusted: bool = False) -> Any:
    """Return the value of tagged JSON data; DecodingError, with the path, if it is malformed."""
    return Decoder.for_caller(trusted=trusted).whole(data, name)


def circuits_to_data(
    circuits: list[Any], name: str, newest_qpy: int, *, tags: list[Any] | None = None
) -> list[Any]:
    """Return circuits as `to_data` does, for a reader of which the newest QPY is known.

    In that, writing many circuits takes a fifth of the time.  `tags` are those that the circuits
    were read from, if they were: what QPY has given needs no second look.
    """
    found = []
    for index, each in enumerate(circuits):
        is_plain = tags is not None and isinstance(tags[index][VALUE], str)
        quick = rows_circuits.quickly(each, newest_qpy, is_plain=is_plain)
        where = f"{name}[{index}]"
        tag = {TYPE: "QuantumCircuit", VALUE: quick}
        found.append(to_data(each, where) if quick is None else tag)
    return found


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


def tag_constant(name: str) -> dict[str, Any]:
    """Return the tagged form of the tokens `NaN`, `Infinity` and `-Infinity`."""
    return tagged("float", repr(float(name)))


def tagged(tag: str, content: Any) -> dict[str, Any]:
    """Return the form of a value from its content as its row writes it; bytes are packed."""
    return {TYPE: tag, VALUE: rows.pack(content) if isinstance(content, bytes) else content}


def _digits_are_limited() -> bool:
    """Whether the writer refuses the integers that the host's reader refuses."""
    return 0 < sys.get_int_max_str_digits() <= sys.int_info.default_max_str_digits
