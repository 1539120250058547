"""Encoded values as files of other libraries: NumPy's arrays, Qiskit's circuits.

Their content is unpacked as it is, within a bound, and read by nobody here: neither library is
needed, and none sees what a program wrote.
"""

from __future__ import annotations

import base64
import binascii
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any, Final

from runner.encoded.circuits import circuits_in, packed_qpy

MAX_BYTES: Final = 1 << 30
"""The most that a circuit, or all arrays together, may have unpacked."""

MAX_ARRAYS: Final = 10_000
_MAX_NAME: Final = 1000
_IN_PATHS: Final = re.compile(r"[/\\\x00]|^\.\.?$")
"""What would lead elsewhere where an archive is unpacked into files."""

_INT64: Final = 1 << 63
_NPY: Final = b"\x93NUMPY\x01\x00"


def npy(data: Any, most_bytes: int = MAX_BYTES) -> bytes:
    """Return an array, a number, or nested lists of numbers as a `.npy` file.

    Raises ValueError that says why there is none, or if it takes more than `most_bytes`.
    """
    found = _array(data, most_bytes)
    if found is None:
        msg = f"is {_kind(data)}, and no array or list of numbers; select one as JOB/KEY"
        raise ValueError(msg)
    return found


def npz(data: Any, most_bytes: int = MAX_BYTES) -> bytes:
    """Return all arrays and lists of numbers in a value as an `.npz` file.

    Each is called as its path, with `/` between the keys; the value itself `result`.  Raises
    ValueError if there is none, or if they take more than `most_bytes` together.
    """
    stream, count, room = io.BytesIO(), 0, most_bytes
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in _arrays(data, "", most_bytes):
            count, room = count + 1, room - len(content)
            if count > MAX_ARRAYS or room < 0:
                msg = f"has more than {MAX_ARRAYS} arrays or {most_bytes} bytes of them"
                raise ValueError(msg)
            if len(name) > _MAX_NAME:
                msg = f"has an array whose path is longer than {_MAX_NAME} characters"
                raise ValueError(msg)
            plain = name.encode(errors="replace").decode()
            archive.writestr(f"{plain or 'result'}.npy", content)
    if not count:
        msg = f"is {_kind(data)}, without any array or list of numbers"
        raise ValueError(msg)
    return stream.getvalue()


def qpy(data: Any) -> tuple[bytes, list[str]]:
    """Return the only circuit in a value as QPY, and what of it QPY does not hold.

    Raises ValueError if there is none, or more than one.
    """
    found = list(circuits_in(data))
    if len(found) != 1:
        msg = f"has {len(found) or 'no'} circuits{'; select one as JOB/KEY' if found else ''}"
        raise ValueError(msg)
    content = found[0]["__value__"]
    dropped = [key for key in content if key != "qpy"] if isinstance(content, dict) else []
    return _unpacked(packed_qpy(content)), dropped


def _arrays(data: Any, path: str, most: int) -> Iterator[tuple[str, bytes]]:
    found = _array(data, most) if isinstance(data, list | dict) else None
    if found is not None:
        yield path, found
        return
    while isinstance(data, dict) and "__type__" in data and "__value__" in data:
        data = data["__value__"]
    if isinstance(data, dict | list):
        for key, each in data.items() if isinstance(data, dict) else enumerate(data):
            step = _IN_PATHS.sub("_", str(key))
            yield from _arrays(each, f"{path}/{step}" if path else step, most)


def _array(data: Any, most: int) -> bytes | None:
    """Return the file of an array or of numbers, None if the data is neither."""
    if isinstance(data, dict):
        kind, inner = data.get("__type__"), data.get("__value__")
        if kind in ("ndarray", "matrix") and isinstance(inner, str):
            return _unpacked(inner, most)
        return _array(inner, most) if kind in ("matrix", "tuple") else None
    shape = _shape(data)
    if shape is None:
        return None
    numbers = list(_flat(data))
    if all(type(each) is int for each in numbers):
        if any(not -_INT64 <= each < _INT64 for each in numbers):
            return None
        kind, content = "<i8", struct.pack(f"<{len(numbers)}q", *numbers)
    else:
        try:
            kind, content = "<f8", struct.pack(f"<{len(numbers)}d", *map(float, numbers))
        except OverflowError:  # a whole number among them that no float is near
            return None
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape!r}, }}"
    header += " " * (-(len(_NPY) + 3 + len(header)) % 64) + "\n"
    return _NPY + struct.pack("<H", len(header)) + header.encode() + content


def _shape(data: Any) -> tuple[int, ...] | None:
    """Return the shape of numbers in lists of equal length, None for anything else."""
    if type(data) in {int, float} or _is_tagged_float(data):
        return ()
    if not isinstance(data, list) or not data:
        return None
    shapes = {_shape(each) for each in data}
    inner = shapes.pop()
    return None if shapes or inner is None else (len(data), *inner)


def _is_tagged_float(data: Any) -> bool:
    if not isinstance(data, dict) or data.get("__type__") != "float":
        return False
    return data.get("__value__") in ("nan", "inf", "-inf")


def _flat(data: Any) -> Iterator[Any]:
    if isinstance(data, list):
        for each in data:
            yield from _flat(each)
    else:
        yield float(data["__value__"]) if isinstance(data, dict) else data


def _unpacked(packed: str, most: int = MAX_BYTES) -> bytes:
    try:
        unpacker = zlib.decompressobj()
        content = unpacker.decompress(base64.b64decode(packed), most)
    except (zlib.error, binascii.Error) as error:
        msg = f"is malformed: {error}"
        raise ValueError(msg) from error
    if unpacker.unconsumed_tail:
        msg = f"has an array or circuit of more than {most} bytes"
        raise ValueError(msg)
    return content


def _kind(data: Any) -> str:
    if isinstance(data, dict):
        return f"a {data['__type__']!s:.80}" if "__type__" in data else "an object"
    kinds = {list: "a list", str: "a text", type(None): "null", bool: "true or false"}
    return kinds.get(type(data), "a number")
