"""The closed table of the codec: which values have which tagged form.

One row for one kind of value; to carry a new kind, add a row.  Standard library only at import:
other libraries are found in `sys.modules` to encode, and imported only by a row that decodes.
"""

from __future__ import annotations

import base64
import io
import math
import sys
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Protocol

SAFE_QPY: Final = 13
"""Before this version, reading a circuit could run code that it contained (CVE-2025-2000)."""

_LARGE_INT_BITS: Final = 14_000
"""Integers from here on are tagged: JSON readers in Python refuse more than 4300 digits."""

_ARRAY_KINDS: Final = frozenset("biufcmMSU")
_SCALAR_KINDS: Final = frozenset("biufcU")
_LARGEST_ITEM: Final = {"f": 8, "c": 16}


class UnavailableError(Exception):
    """The library that a value needs cannot be imported here."""


class Reader(Protocol):
    """What a row may ask of the walk that decodes."""

    trusted: bool
    oldest_qpy: int

    def unpack(self, text: Any) -> bytes: ...
    def check_hashes(self, keys: Iterable[Any]) -> None: ...


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: which values, under which tag, and both directions.

    `to_data` may return anything that can be encoded in turn; `from_data` gets it decoded and may
    raise whatever it likes.  A row that `needs_trust` is not decoded unasked on the host.
    """

    tag: str
    matches: Callable[[Any], bool]
    to_data: Callable[[Any], Any]
    from_data: Callable[[Any, Reader], Any]
    needs_trust: bool = False


def is_plain(value: Any) -> bool:
    """Whether a value of one of JSON's own scalar types can be written as it is."""
    if type(value) is float:
        return math.isfinite(value)
    return type(value) is not int or value.bit_length() < _LARGE_INT_BITS


def float_name(value: float) -> str:
    """Return `nan`, `inf` or `-inf`."""
    return repr(value)


def _exactly(module: str, name: str) -> Callable[[Any], bool]:
    """Return a test for exactly one class, which is looked up only where it is imported."""

    def matches(value: Any) -> bool:
        return type(value) is getattr(sys.modules.get(module), name, None)

    return matches


def _instance_of(module: str, name: str) -> Callable[[Any], bool]:
    """Return a test for a class and those derived from it."""

    def matches(value: Any) -> bool:
        base = getattr(sys.modules.get(module), name, None)
        return isinstance(base, type) and isinstance(value, base)

    return matches


def _pack(content: bytes) -> str:
    # The fastest level: what is packed is mostly noise (amplitudes), which no level makes small.
    return base64.b64encode(zlib.compress(content, 1)).decode("ascii")


def _float_from(data: Any, _: Reader) -> float:
    return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[data]


def _complex_from(data: Any, _: Reader) -> complex:
    real, imaginary = data
    return complex(float(real), float(imaginary))


def _tuple_from(data: Any, _: Reader) -> tuple[Any, ...]:
    return tuple(_a_list(data))


def _set_from(data: Any, reader: Reader) -> set[Any]:
    reader.check_hashes(_a_list(data))
    return set(data)


def _dict_from(data: Any, reader: Reader) -> dict[Any, Any]:
    pairs = [(key, value) for key, value in _a_list(data)]
    reader.check_hashes(key for key, _ in pairs)
    return dict(pairs)


def _bytes_from(data: Any, _: Reader) -> bytes:
    return base64.b64decode(data, validate=True)


def _datetime_from(data: Any, _: Reader) -> Any:
    import datetime

    return datetime.datetime.fromisoformat(data)


def _date_from(data: Any, _: Reader) -> Any:
    import datetime

    return datetime.date.fromisoformat(data)


def _timedelta_from(data: Any, _: Reader) -> Any:
    import datetime

    days, seconds, microseconds = map(_an_int, data)
    return datetime.timedelta(days, seconds, microseconds)


def _decimal_from(data: Any, _: Reader) -> Any:
    import decimal

    return decimal.Decimal(_a_text(data))


def _fraction_from(data: Any, _: Reader) -> Any:
    import fractions

    # Never from text: Fraction("1e999999999") would compute that power of ten.
    numerator, denominator = map(_an_int, data)
    return fractions.Fraction(numerator, denominator)


def _uuid_from(data: Any, _: Reader) -> Any:
    import uuid

    return uuid.UUID(_a_text(data))


def _array_to(value: Any) -> str:
    return _pack(_npy(value))


def _array_from(data: Any, reader: Reader) -> Any:
    numpy = _numpy()
    content = reader.unpack(_a_text(data))
    stream = io.BytesIO(content)
    # The header is read by hand: what it claims is checked before anything is allocated for it.
    version = numpy.lib.format.read_magic(stream)
    read = {
        (1, 0): numpy.lib.format.read_array_header_1_0,
        (2, 0): numpy.lib.format.read_array_header_2_0,
    }[version]
    shape, fortran_order, dtype = read(stream)
    _check_dtype(dtype)
    start = stream.tell()
    if math.prod(shape) * dtype.itemsize != len(content) - start:
        msg = f"an array of {shape!r:.80} that holds {len(content) - start} bytes"
        raise ValueError(msg)
    flat = numpy.frombuffer(content, dtype, offset=start) if start < len(content) else None
    array = numpy.empty(shape, dtype) if flat is None else flat
    return array.reshape(shape, order="F" if fortran_order else "C").copy(order="K")


def _scalar_to(value: Any) -> Any:
    if _is_short_dtype(value.dtype):
        return [value.dtype.str, value.item()]
    return _pack(_npy(_numpy().asarray(value)))


def _scalar_from(data: Any, reader: Reader) -> Any:
    if isinstance(data, str):
        array = _array_from(data, reader)
    else:
        name, item = data
        dtype = _numpy().dtype(_a_text(name))
        if not _is_short_dtype(dtype):
            msg = f"a number of the type {dtype}"
            raise ValueError(msg)
        array = _numpy().array(item, dtype=dtype)
    if array.shape != ():
        msg = "not one number"
        raise ValueError(msg)
    return array[()]


def _npy(array: Any) -> bytes:
    _check_dtype(array.dtype)
    stream = io.BytesIO()
    _numpy().lib.format.write_array(stream, array, allow_pickle=False)
    return stream.getvalue()


def _check_dtype(dtype: Any) -> None:
    """Refuse arrays of Python objects, and whatever else is not plain memory."""
    parts = [dtype.fields[name][0] for name in dtype.names] if dtype.names else [dtype.base]
    for part in parts:
        if part.names or part.subdtype:
            _check_dtype(part.base)
        elif part.kind not in _ARRAY_KINDS:
            msg = f"an array of {part} values has no plain form"
            raise TypeError(msg)


def _is_short_dtype(dtype: Any) -> bool:
    """Whether a scalar of this type is exactly one JSON value."""
    return dtype.kind in _SCALAR_KINDS and dtype.itemsize <= _LARGEST_ITEM.get(dtype.kind, 2**31)


def _numpy() -> Any:
    try:
        import numpy
    except ImportError as error:
        raise UnavailableError from error
    return numpy


def _circuit_to(value: Any) -> str:
    from qiskit import qpy

    stream = io.BytesIO()
    qpy.dump(value, stream)
    return _pack(stream.getvalue())


def _circuit_from(data: Any, reader: Reader) -> Any:
    content = reader.unpack(_a_text(data))
    version = content[6]  # after b"QISKIT"
    if version < reader.oldest_qpy:
        msg = f"a circuit in QPY {version}; reading one before {reader.oldest_qpy} is not safe"
        raise ValueError(msg)
    from qiskit import qpy

    (circuit,) = qpy.load(io.BytesIO(content))
    return circuit


def _result_to(value: Any) -> Any:
    return value.to_dict()


def _result_from(data: Any, _: Reader) -> Any:
    from qiskit.result import Result

    return Result.from_dict(data)


def _to_json_to(value: Any) -> str:
    return _a_text(value.to_json())


def _a_list(data: Any) -> list[Any]:
    if type(data) is not list:
        msg = f"a {type(data).__name__} instead of a list"
        raise TypeError(msg)
    return data


def _a_text(data: Any) -> str:
    if type(data) is not str:
        msg = f"a {type(data).__name__} instead of text"
        raise TypeError(msg)
    return data


def _an_int(data: Any) -> int:
    if type(data) is not int:
        msg = f"a {type(data).__name__} instead of an integer"
        raise TypeError(msg)
    return data


ROWS: Final = (
    Row("float", _exactly("builtins", "float"), float_name, _float_from),
    Row("int", _exactly("builtins", "int"), hex, lambda data, _: int(_a_text(data), 16)),
    Row("complex", _exactly("builtins", "complex"), lambda v: [v.real, v.imag], _complex_from),
    Row("tuple", _exactly("builtins", "tuple"), list, _tuple_from),
    Row("set", _exactly("builtins", "set"), list, _set_from),
    Row(
        "frozenset",
        _exactly("builtins", "frozenset"),
        list,
        lambda data, reader: frozenset(_set_from(data, reader)),
    ),
    Row(
        "dict",
        _exactly("builtins", "dict"),
        lambda value: [[key, item] for key, item in value.items()],
        _dict_from,
    ),
    Row(
        "bytes",
        _exactly("builtins", "bytes"),
        lambda value: base64.b64encode(value).decode("ascii"),
        _bytes_from,
    ),
    Row("datetime", _exactly("datetime", "datetime"), lambda v: v.isoformat(), _datetime_from),
    Row("date", _exactly("datetime", "date"), lambda v: v.isoformat(), _date_from),
    Row(
        "timedelta",
        _exactly("datetime", "timedelta"),
        lambda value: [value.days, value.seconds, value.microseconds],
        _timedelta_from,
    ),
    Row("Decimal", _exactly("decimal", "Decimal"), str, _decimal_from),
    Row(
        "Fraction",
        _exactly("fractions", "Fraction"),
        lambda value: [value.numerator, value.denominator],
        _fraction_from,
    ),
    Row("UUID", _exactly("uuid", "UUID"), str, _uuid_from),
    Row("ndarray", _exactly("numpy", "ndarray"), _array_to, _array_from),
    Row("numpy", _instance_of("numpy", "generic"), _scalar_to, _scalar_from),
    Row(
        "QuantumCircuit",
        _instance_of("qiskit.circuit", "QuantumCircuit"),
        _circuit_to,
        _circuit_from,
        needs_trust=True,
    ),
    Row(
        "Result",
        _exactly("qiskit.result", "Result"),
        _result_to,
        _result_from,
        needs_trust=True,
    ),
)

TO_JSON: Final = Row("to_json", lambda _: False, _to_json_to, lambda data, _: _a_text(data))
"""For objects that know how to write themselves; as in IBM's clients, the text comes back."""

BY_TAG: Final = {row.tag: row for row in (*ROWS, TO_JSON)}

BASES: Final[tuple[tuple[type, Callable[[Any], Any]], ...]] = (
    (dict, lambda value: dict(dict.items(value))),
    (list, lambda value: list(list.__iter__(value))),
    (tuple, lambda value: tuple(tuple.__iter__(value))),
    (str, str.__str__),
    (int, int.__index__),
    (float, float.__float__),
)
"""Classes derived from JSON's own are carried as what they are based on (Qiskit's `Counts`, an
`IntEnum`, a named tuple); none of their overridden methods is called for it."""
