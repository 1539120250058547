"""The codec's rows for NumPy: numbers and arrays.

Nothing is allocated for what content claims to be before the walk has been charged for it, and no
content is unpickled: arrays of Python objects travel as lists.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Sequence
from typing import Any, Final

from sandbox.codec.rows import (
    Reader,
    Row,
    UnavailableError,
    Unpacking,
    a_dict,
    a_list,
    a_text,
    an_int,
    pack,
)

_KINDS: Final = frozenset("biufcmMSUV")
_SHORT_KINDS: Final = frozenset("biufc")
_LARGEST_ITEM: Final = {"f": 8, "c": 16}
_TYPE: Final = re.compile(r"[<>=|]?[biufcmMSUV][0-9]{0,10}(?:\[[0-9]{0,10}[A-Za-z]{1,2}\])?")
"""Names of types.  NumPy takes others, of any length, and makes much of little."""

_MAGIC: Final = b"\x93NUMPY"
_MAX_HEADER: Final = 1 << 16
_SUM_BYTES: Final = 16
"""What an item of a sum can take, whatever was added up."""

_HEADER_COST: Final = 100
"""What a byte of a header that is read as Python's expression takes."""

_PLAIN_HEADER: Final = re.compile(
    r"\{'descr': '([^']{1,30})', 'fortran_order': (True|False), 'shape': \(([0-9, ]*)\),? ?\}"
)


def numpy() -> Any:
    """Return the module; UnavailableError if it is not there."""
    try:
        import numpy as module
    except ImportError as error:
        raise UnavailableError from error
    return module


def npy_of(array: Any) -> bytes:
    """Return an array in NumPy's own file format; TypeError if that cannot hold it exactly."""
    _check_dtype(array.dtype)
    header = numpy().lib.format.header_data_from_array_1_0(array)
    if _dtype_of(header["descr"]) != array.dtype or array.dtype.type is numpy().record:
        msg = f"the type {array.dtype} has no plain form"
        raise TypeError(msg)
    order = "F" if header["fortran_order"] else "C"
    # Written by hand: NumPy warns about names of fields that are not Latin.
    text = repr(dict(sorted(header.items())))
    if text.isascii() and len(text) < 1 << 15:
        text += " " * (-(len(text) + 11) % 64) + "\n"
        start = _MAGIC + b"\x01\x00" + struct.pack("<H", len(text)) + text.encode()
    else:
        content = text.encode()
        content += b" " * (-(len(content) + 13) % 64) + b"\n"
        start = _MAGIC + b"\x03\x00" + struct.pack("<I", len(content)) + content
    return start + bytes(array.tobytes(order))


def array_of(stream: Unpacking, reader: Reader) -> Any:
    """Read an array in NumPy's own file format; raises for what is not plain memory."""
    shape, order, dtype = _header_of(stream, reader)
    _check_dtype(dtype)
    size = math.prod(shape)
    reader.charge(size * max(dtype.itemsize, 1))
    _check_extent(shape, dtype, reader)
    array = numpy().ndarray(shape, dtype, order=order)
    if size and dtype.itemsize:
        target = memoryview(array.reshape(-1, order="A").view("u1"))
        while target:
            content = stream.read(min(len(target), 1 << 20))
            if not content:
                msg = f"an array of {shape!r:.80} that lacks {len(target)} bytes"
                raise ValueError(msg)
            target[: len(content)] = content
            target = target[len(content) :]
    if stream.read(1):
        msg = f"an array of {shape!r:.80} that holds more bytes"
        raise ValueError(msg)
    _mend_bools(array)
    return array


def _check_extent(shape: Sequence[int], dtype: Any, reader: Reader) -> None:
    """Refuse an array of no items that has large dimensions: a sum over the empty one has them."""
    if 0 in shape:
        extent = math.prod(max(each, 1) for each in shape)
        reader.check_extent(extent * max(dtype.itemsize, _SUM_BYTES))


def _mend_bools(array: Any) -> None:
    """Make bools, also those in structures, 0 or 1 in memory, as NumPy's code takes for granted."""
    for name in array.dtype.names or ():
        _mend_bools(array[name])
    if array.dtype.kind == "b" and array.size:
        array[...] = array.view("u1") != 0


def _header_of(stream: Unpacking, reader: Reader) -> tuple[tuple[int, ...], str, Any]:
    """Read shape, order and type by hand: nothing is allocated for what they claim."""
    import ast

    start = stream.read(8)
    wide = start[6:7] != b"\x01"
    if start[:6] != _MAGIC or start[6:8] not in {b"\x01\x00", b"\x02\x00", b"\x03\x00"}:
        msg = "not an array in NumPy's format"
        raise ValueError(msg)
    (size,) = struct.unpack("<I" if wide else "<H", stream.read(4 if wide else 2))
    if size > _MAX_HEADER:
        msg = f"a header of {size} bytes"
        raise ValueError(msg)
    text = stream.read(size).decode("utf-8" if start[6:7] == b"\x03" else "latin-1")
    if plain := _PLAIN_HEADER.fullmatch(text.strip()):
        descr, order, numbers = plain.groups()
        sizes = [each for each in numbers.split(",") if each.strip()]
        header = {"descr": descr, "fortran_order": order == "True", "shape": tuple(map(int, sizes))}
    else:
        reader.charge(_HEADER_COST * size)
        header = a_dict(ast.literal_eval(text.strip()), "descr", "fortran_order", "shape")
    shape = header["shape"]
    if type(shape) is not tuple or any(an_int(each) < 0 for each in shape):
        msg = f"an array of the shape {shape!r:.80}"
        raise ValueError(msg)
    return shape, "F" if header["fortran_order"] is True else "C", _dtype_of(header["descr"])


def _dtype_of(description: Any) -> Any:
    _check_description(description)
    return numpy().lib.format.descr_to_dtype(description)


def _check_description(description: Any) -> None:
    """Refuse all but names of types, types with a shape, and lists of fields of such."""
    kind = type(description)
    if kind is str and _TYPE.fullmatch(description):
        return None
    if kind is tuple and type(description[-1]) is tuple:
        inner, shape = description
        if all(an_int(each) > 0 for each in shape):
            return _check_description(inner)
    if kind is list:
        for name, *inner in description:
            first, second = name if type(name) is tuple else (name, name)
            a_text(first), a_text(second)
            _check_description(inner[0] if len(inner) == 1 else tuple(inner))
        return None
    msg = f"the type {description!r:.80}"
    raise ValueError(msg)


def _check_dtype(dtype: Any) -> None:
    """Refuse arrays of Python objects, and whatever else is not plain memory."""
    if dtype.subdtype and not dtype.names:
        return _check_dtype(dtype.base)
    if not dtype.names and (dtype.kind not in _KINDS or dtype.metadata):
        msg = f"an array of {dtype} values has no plain form"
        raise TypeError(msg)
    for name in dtype.names or ():
        _check_dtype(dtype.fields[name][0])
    return None


def _array_to(value: Any) -> Any:
    if value.dtype.kind in "OT":
        return {"dtype": value.dtype.kind, "shape": list(value.shape), "items": _items_of(value)}
    return pack(npy_of(value))


def _items_of(value: Any) -> list[Any]:
    if value.dtype.kind == "T" and value.dtype != numpy().dtypes.StringDType():
        msg = f"an array of {value.dtype!r:.80} values has no plain form"
        raise TypeError(msg)
    return value.reshape(-1).tolist()  # type: ignore[no-any-return]


def _array_from(data: Any, reader: Reader) -> Any:
    numpy()
    if isinstance(data, str):
        return array_of(reader.unpack(data), reader)
    if not isinstance(data, dict):  # how IBM's clients write arrays of objects
        return _nested(data) if isinstance(data, list) else _cells([data]).reshape(())
    a_dict(data, "dtype", "shape", "items")
    shape = [an_int(each) for each in data["shape"]]
    if any(each < 0 for each in shape):  # NumPy takes one for "as many as there are"
        msg = f"an array of the shape {shape!r:.80}"
        raise ValueError(msg)
    cells = _cells(a_list(data["items"]))
    if data["dtype"] == "T":
        for item in data["items"]:
            a_text(item)
        cells = cells.astype(numpy().dtypes.StringDType())
    elif data["dtype"] != "O":
        msg = f"an array of the type {data['dtype']!r:.80}"
        raise ValueError(msg)
    _check_extent(shape, cells.dtype, reader)
    return cells.reshape(shape)


def _nested(data: list[Any]) -> Any:
    """Return an array of the objects in lists of lists, as deep as these are of equal lengths."""
    cells, shape = data, [len(data)]
    while cells and all(type(each) is list for each in cells) and len(set(map(len, cells))) == 1:
        shape.append(len(cells[0]))
        cells = [each for inner in cells for each in inner]
    return _cells(cells).reshape(shape)


def _cells(items: list[Any]) -> Any:
    """Return a one-dimensional array of these very objects, whatever lengths they have."""
    cells = numpy().empty(len(items), object)
    for index, item in enumerate(items):
        cells[index] = item
    return cells


def _scalar_to(value: Any) -> Any:
    for name, (kind, plain) in _text_kinds().items():
        if type(value) is kind:
            return [name, plain().join([value])]  # str() of these cuts NULs off
    if _is_short(value.dtype) and value == value:  # a NaN may hold more than that
        return [value.dtype.str, value.item()]
    return pack(npy_of(numpy().asarray(value)))


def _scalar_from(data: Any, reader: Reader) -> Any:
    if isinstance(data, str):
        array = array_of(reader.unpack(data), reader)
        if array.shape != ():
            msg = "not one number"
            raise ValueError(msg)
        return array[()]
    name, item = data
    if name in _text_kinds():
        kind, plain = _text_kinds()[name]
        if type(item) is not plain:
            msg = f"a {name} of {type(item).__name__}"
            raise TypeError(msg)
        return kind(item)
    dtype = _dtype_of(a_text(name))
    if not _is_short(dtype) or type(item) not in (bool, int, float, complex):
        msg = f"a number of the type {dtype}"
        raise ValueError(msg)
    return numpy().array(item, dtype=dtype)[()]


def _text_kinds() -> dict[str, Any]:
    """Return the scalars that an array would take the NULs at the end from."""
    return {"str": (numpy().str_, str), "bytes": (numpy().bytes_, bytes)}


def _is_short(dtype: Any) -> bool:
    """Whether a scalar of this type is exactly one JSON value."""
    return dtype.kind in _SHORT_KINDS and dtype.itemsize <= _LARGEST_ITEM.get(dtype.kind, 8)


def _plain_of(value: Any) -> Any:
    """Return an array of records as one of plain structures."""
    array = numpy().asarray(value).view(numpy().ndarray)
    return array.view(_dtype_of(numpy().lib.format.dtype_to_descr(array.dtype)))


def _record_from(data: Any, _: Reader) -> Any:
    if an_array(data).shape or not data.dtype.names:
        msg = "not one record"
        raise ValueError(msg)
    return data.view((numpy().record, data.dtype))[()]


def _masked_to(value: Any) -> dict[str, Any]:
    fill = value._fill_value  # None where it is the type's own
    return {
        "data": value.data,
        "mask": None if value.mask is numpy().ma.nomask else numpy().asarray(value.mask),
        "fill_value": None if fill is None else numpy().asarray(fill),
        "hard": bool(value._hardmask),
    }


def _masked_from(data: Any, _: Reader) -> Any:
    a_dict(data, "data", "mask", "fill_value", "hard")
    array, mask = an_array(data["data"]), data["mask"]
    ma, fill = numpy().ma, data["fill_value"]
    for part, shape in ((mask, array.shape), (fill, ())):
        if part is not None and an_array(part).shape != shape:
            msg = "its mask or fill value has another shape"
            raise ValueError(msg)
    if mask is not None and mask.dtype != ma.make_mask_descr(array.dtype):
        msg = f"a mask of the type {mask.dtype!s:.80}"
        raise ValueError(msg)
    return ma.MaskedArray(
        array,
        mask=ma.nomask if mask is None else mask,
        fill_value=None if fill is None else fill[()],
        hard_mask=data["hard"] is True,
    )


def an_array(data: Any) -> Any:
    """Return the data if it is an array; so that a library that is missing is named first."""
    if type(data) is not numpy().ndarray:
        msg = f"a {type(data).__name__} instead of an array"
        raise TypeError(msg)
    return data


ROWS: Final = (
    Row("ndarray", "numpy:ndarray", _array_to, _array_from),
    Row("record", "numpy:record", _plain_of, _record_from),
    Row("numpy", "numpy:generic", _scalar_to, _scalar_from, derived=True),
    Row(
        "matrix",
        "numpy:matrix",
        lambda v: numpy().asarray(v),
        lambda d, _: an_array(d).view(numpy().matrix),
    ),
    Row("recarray", "numpy:recarray", _plain_of, lambda d, _: an_array(d).view(numpy().recarray)),
    Row("masked_array", "numpy.ma:MaskedArray", _masked_to, _masked_from),
    Row("masked", "numpy.ma.core:MaskedConstant", lambda _: None, lambda *_: numpy().ma.masked),
)
