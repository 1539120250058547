"""Values that people give as JSON text or in files of the libraries that wrote them.

A file is put into the codec's form as it is: the sandbox reads it, so the host needs neither Qiskit
nor NumPy, and lets no library of theirs read a file from elsewhere.
"""

from __future__ import annotations

import io
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from runner.errors import InputsError
from runner.host import files
from runner.programs.values import Value, as_encoded, from_json, tagged
from sandbox.wire.protocol import MAX_INPUTS_BYTES

MAX_BYTES: Final = MAX_INPUTS_BYTES
"""The largest file, and the most that the arrays of one `.npz` may have unpacked."""

_QPY_PROGRAMS: Final = struct.Struct("!6s4xQ")
_NPY_START: Final = 12
_NPY_HEADER: Final = 1 << 16
_UNREADABLE: Final = (
    *(ValueError, RuntimeError, EOFError),
    *(struct.error, zlib.error, zipfile.BadZipFile),
)
"""What the readers raise; zipfile has RuntimeError for what is encrypted or packed unusually."""
_OBJECTS: Final = re.compile(rb"'[<>|=]?O[0-9]*'")


def read_value(path: str | os.PathLike[str]) -> Any:
    """Return what a file holds, as an input of a program or a part of one.

    The name's ending says what it is: `.json` (values in the form of `qrunner result` are decoded),
    `.qpy` and `.qasm` (a circuit; OpenQASM 2 or 3), `.npy` (an array), `.npz` (a dict of arrays),
    `.txt`.  A value that the host does not decode is a `Value`.  Raises InputsError.
    """
    where = Path(path)
    try:
        content = files.read(where, most_bytes=MAX_BYTES, follow=True)
    except OSError as error:
        msg = f"{where}: cannot be read: {error.strerror}"
        raise InputsError(msg) from error
    return value_of(content, where)


def value_of(content: bytes, where: Path) -> Any:
    """Return the value of a file's content; `where` is its name.  Raises InputsError."""
    reader = _READERS.get(where.suffix.lower())
    if reader is None:
        kind = f"of a {where.suffix} file" if where.suffix else "of a name without ending"
        msg = f"{where}: no value can be made {kind}, but of {', '.join(_READERS)}"
        raise InputsError(msg)
    try:
        return reader(content)
    except _UNREADABLE as error:
        msg = f"{where}: not readable as {where.suffix}: {error}"
        raise InputsError(msg) from error


def inputs_from_json(text: str | bytes) -> dict[str, Any]:
    """Return the inputs of a program from JSON text, in which encoded values are decoded.

    Raises TypeError if it is no object, ValueError or RecursionError if it is not JSON.
    """
    value = from_json(text)
    data = value.raw if isinstance(value, Value) else value
    if not isinstance(data, dict):
        msg = f"must be a JSON object of names and values, not {data!r:.80}"
        raise TypeError(msg)
    return {name: as_encoded(each) for name, each in data.items()}


def _circuit(content: bytes) -> Any:
    magic, programs = _QPY_PROGRAMS.unpack_from(content)
    if magic != b"QISKIT":
        msg = "it is not QPY"
        raise ValueError(msg)
    if programs != 1:
        msg = f"it holds {programs} circuits, and a value is one: write a file for each"
        raise ValueError(msg)
    return tagged("QuantumCircuit", content)


def _array(content: bytes) -> Any:
    if not content.startswith(b"\x93NUMPY"):
        msg = "it is not an array in NumPy's format"
        raise ValueError(msg)
    (size,) = struct.unpack_from("<H", content, _NPY_START - 4)
    if _OBJECTS.search(content[: _NPY_START + min(size, _NPY_HEADER)]):
        msg = "its items are pickled Python objects, which are never read: save numbers or texts"
        raise ValueError(msg)
    return tagged("ndarray", content)


def _arrays(content: bytes) -> dict[str, Any]:
    room, arrays = MAX_BYTES, {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for info in archive.infolist():
            with archive.open(info) as stream:
                array = stream.read(room + 1)
            room -= len(array)
            if room < 0:
                msg = f"unpacked it takes more than {MAX_BYTES} bytes"
                raise ValueError(msg)
            arrays[info.filename.removesuffix(".npy")] = _array(array)
    return arrays


_READERS: Final[Mapping[str, Callable[[bytes], Any]]] = {
    ".json": from_json,
    ".qpy": _circuit,
    ".qasm": lambda content: tagged("qasm", content.decode()),
    ".npy": _array,
    ".npz": _arrays,
    ".txt": bytes.decode,
}
