"""Circuits in encoded values: where they are, and what the head of their QPY says of them.

Nothing behind the head is read: that takes Qiskit, and a sandbox.
"""

from __future__ import annotations

import base64
import binascii
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, Final

MAX_SEARCHED: Final = 100_000
_HEAD: Final = struct.Struct("!6sBBBBQcc")
_OFFSETS_SINCE: Final = 16
_CIRCUIT: Final = struct.Struct("!HcHIIQIQ")
_VARIABLES: Final = 4
"""Bytes of the number of variables between the circuit's head and its name, since QPY 12."""
MAX_DRAWN: Final = 4
"""How many circuits of a value are drawn, and how large each and its picture may be."""

_MAX_QUBITS: Final = 40
_MAX_INSTRUCTIONS: Final = 300
_MAX_LINES: Final = 120
_MAX_HEAD: Final = 4096
_MAX_NAME: Final = 80


def packed_qpy(content: Any) -> str:
    """Return base64 of zlib of the QPY from the content of a `QuantumCircuit`.

    Raises ValueError if it is not of that form.
    """
    found = content.get("qpy") if isinstance(content, dict) else content
    if not isinstance(found, str):
        msg = "not a circuit"
        raise ValueError(msg)
    return found


def head(content: Any) -> tuple[str, int, int, int]:
    """Return name, qubits, bits and instructions of a circuit.  Raises ValueError."""
    try:
        packed = base64.b64decode(packed_qpy(content)[: 2 * _MAX_HEAD])
        data = zlib.decompressobj().decompress(packed, _MAX_HEAD)
        magic, version, *_ = _HEAD.unpack_from(data)
        start = _HEAD.size
        if version >= _OFFSETS_SINCE:
            (start,) = struct.unpack_from("!Q", data, start)
        size, _, _, qubits, bits, _, _, count = _CIRCUIT.unpack_from(data, start)
    except (struct.error, zlib.error, binascii.Error, OverflowError) as error:
        msg = f"not a circuit: {error}"
        raise ValueError(msg) from error
    if magic != b"QISKIT":
        msg = "not a circuit in QPY"
        raise ValueError(msg)
    start += _CIRCUIT.size + _VARIABLES
    name = data[start : start + min(size, _MAX_NAME)].decode(errors="replace")
    return name, qubits, bits, count


def summary(content: Any) -> str:
    """Return a line about a circuit, to be escaped.  Raises ValueError."""
    name, qubits, bits, count = head(content)
    return f"QuantumCircuit {name!r}: {qubits} qubits, {bits} bits, {count} instructions"


def circuits_in(data: Any) -> Iterator[dict[str, Any]]:
    """Yield the tagged circuits anywhere in encoded data, in their order."""
    searched, stack = 0, [data]
    while stack and searched < MAX_SEARCHED:
        searched += 1
        part = stack.pop()
        if isinstance(part, dict):
            if part.get("__type__") == "QuantumCircuit" and "__value__" in part:
                yield part
            else:
                stack += reversed(part.values())
        elif isinstance(part, list):
            stack += reversed(part[:MAX_SEARCHED])


def drawable(data: Any) -> list[dict[str, Any]]:
    """Return the first tagged circuits in encoded data that are small enough to be drawn."""
    found: list[dict[str, Any]] = []
    for each in circuits_in(data):
        try:
            _, qubits, _, instructions = head(each["__value__"])
        except ValueError:
            continue
        if qubits <= _MAX_QUBITS and instructions <= _MAX_INSTRUCTIONS:
            found.append(each)
        if len(found) == MAX_DRAWN:
            break
    return found


def drawn(circuits: Sequence[Any], pictures: Sequence[str]) -> dict[int, str]:
    """Return the picture of each circuit by the `id` of its part, none unless each has one."""
    if len(pictures) != len(circuits):
        return {}
    return {id(each): _cut(text) for each, text in zip(circuits, pictures, strict=True)}


def _cut(picture: str) -> str:
    lines = picture.split("\n")
    more = len(lines) - _MAX_LINES
    return "\n".join([*lines[:_MAX_LINES], *([f"… ({more} more lines)"] if more > 0 else [])])
