"""The codec's rows for NumPy: numbers and arrays.

Nothing is allocated for what content claims to be before the walk has been charged for it, and no
content is unpickled: arrays of Python objects travel as lists.
"""

from __future__ import annotations

import math
import struct
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
_MAGIC: Final = b"\x93NUMPY"
_MAX_HEADER: Final = 1 << 16


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
    text = repr(header)
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
    shape, order, dtype = _header_of(stream)
    _check_dtype(dtype)
    size = math.prod(shape)
    reader.charge(size * max(dtype.itemsize, 1))
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
    return array


def _header_of(stream: Unpacking) -> tuple[tuple[int, ...], str, Any]:
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
    header = a_dict(ast.literal_eval(text.strip()), "descr", "fortran_order", "shape")
    shape = header["shape"]
    if type(shape) is not tuple or any(an_int(each) < 0 for each in shape):
        msg = f"an array of the shape {shape!r:.80}"
        raise ValueError(msg)
    return shape, "F" if header["fortran_order"] is True else "C", _dtype_of(header["descr"])


def _dtype_of(description: Any) -> Any:
    return numpy().lib.format.descr_to_dtype(description)


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
    cells = _cells(a_list(data["items"]))
    if data["dtype"] == "T":
        for item in data["items"]:
            a_text(item)
        cells = cells.astype(numpy().dtypes.StringDType())
    elif data["dtype"] != "O":
        msg = f"an array of the type {data['dtype']!r:.80}"
        raise ValueError(msg)
    return cells.reshape([an_int(each) for each in data["shape"]])


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
    dtype = numpy().dtype(a_text(name))
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
    return an_array(data).view((numpy().record, data.dtype))[()]


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
    if mask is not None and (an_array(mask).shape != array.shape):
        msg = "its mask has another shape"
        raise ValueError(msg)
    ma = numpy().ma
    fill = data["fill_value"]
    return ma.MaskedArray(
        array,
        mask=ma.nomask if mask is None else mask,
        fill_value=None if fill is None else an_array(fill)[()],
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
