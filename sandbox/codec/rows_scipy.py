"""The codec's rows for SciPy: sparse arrays, and what its optimisers return.

SciPy's C code believes the indices of a sparse array, so they are checked before it sees them.
"""

from __future__ import annotations

import io
import math
import struct
from typing import Any, Final

from sandbox.codec.rows import (
    Reader,
    Row,
    UnavailableError,
    a_dict,
    a_list,
    a_record,
    a_text,
    an_int,
    base64_of,
    bytes_of,
    check_cost,
)
from sandbox.codec.rows_numpy import an_array, array_of, numpy

_ROW_BYTES: Final = 64
_ENTRY_BYTES: Final = 600
"""A row of a list of lists; an entry of that, or of a dict of keys, NumPy's numbers included."""

_MAX_SIDES: Final = 1 << 25
"""Rows and columns together: whatever is done with few numbers among them may take memory for each
row or column."""

_MAX_RESULT: Final = 1000
_MAX_NAME: Final = 100
"""Entries of an optimiser's result, and characters of a name: all get as wide as the longest."""

_PARTS: Final = {
    "csr": ("data", "indices", "indptr"),
    "csc": ("data", "indices", "indptr"),
    "bsr": ("data", "indices", "indptr"),
    "dia": ("data", "offsets"),
    "coo": ("data", "coords"),
}
_VIA_COO: Final = frozenset({"lil", "dok"})
_COMPRESSED: Final = frozenset({"csr", "csc", "bsr"})
_MATRIX: Final = 2
"""Dimensions; SciPy has arrays of one, and some of more."""

_ZIP_END: Final = struct.Struct("<4s4H2LH")
_MAX_ZIP_DIRECTORY: Final = 4096


def _scipy(name: str) -> Any:
    try:
        import scipy.optimize
        import scipy.sparse
    except ImportError as error:
        raise UnavailableError from error
    return getattr(scipy, name)


def _sparse_to(value: Any) -> dict[str, Any]:
    stored = value.tocoo() if value.format in _VIA_COO else _pruned(value)
    parts = {name: getattr(stored, name) for name in _PARTS[stored.format]}
    _check(stored.format, stored.shape, parts)
    return {"class": type(value).__name__, "shape": list(value.shape), **parts}


def _sparse_from(data: Any, reader: Reader) -> Any:
    _scipy("sparse")
    form, _, flavour = a_text(data["class"]).partition("_")
    stored = "coo" if form in _VIA_COO else form
    a_dict(data, "class", "shape", *_PARTS[stored])
    parts = {name: data[name] for name in _PARTS[stored]}
    shape = tuple(an_int(each) for each in a_list(data["shape"]))
    if form not in _VIA_COO:
        return _sparse(form, flavour, shape, parts, reader)
    count = len(an_array(parts["data"]))
    reader.charge(_ROW_BYTES * (shape[0] if form == "lil" else 0) + _ENTRY_BYTES * count)
    value = _sparse(stored, flavour, shape, parts, reader)
    if form == "dok":  # whose keys can be made to collide
        for _ in reader.members(list(zip(*(each.tolist() for each in value.coords), strict=True))):
            pass
    return value.asformat(form)


def _sparse(
    form: str, flavour: str, shape: tuple[int, ...], parts: dict[str, Any], reader: Reader
) -> Any:
    """Build a sparse array of parts that are checked first, as SciPy's C code does not."""
    if flavour not in {"array", "matrix"}:
        msg = f"a {form}_{flavour:.20}"
        raise ValueError(msg)
    _check(form, shape, parts)
    check_cost(reader, sum(shape), _MAX_SIDES, "rows and columns")
    if form == "dia":  # to transpose it, each diagonal gets as long as a side
        reader.check_extent(len(parts["offsets"]) * max(shape) * parts["data"].itemsize)
    kind = getattr(_scipy("sparse"), f"{form}_{flavour}")
    value = kind(_as_arguments(form, parts), shape=shape)
    for name, part in parts.items():  # as they were: SciPy has made the indices' type smaller
        setattr(value, name, tuple(part) if name == "coords" else part)
    return value


def _as_arguments(form: str, parts: dict[str, Any]) -> tuple[Any, ...]:
    if form == "coo":
        return parts["data"], tuple(parts["coords"])
    return tuple(parts[name] for name in _PARTS[form])


def _check(form: str, shape: tuple[int, ...], parts: dict[str, Any]) -> None:
    """Raise ValueError unless all the parts are of the right kinds and lengths and in range.

    SciPy's own check leaves much to its C code, which reads and writes where indices tell it to.
    """
    data = an_array(parts["data"])
    indices = list(parts["coords"]) if form == "coo" else [parts[name] for name in _PARTS[form][1:]]
    most = max(shape, default=-1)
    if not 0 <= min(shape, default=-1) <= most < 1 << 62 or (
        len(shape) > _MATRIX and math.prod(shape) >= 1 << 62
    ):
        msg = f"the shape {shape!r:.80}"
        raise ValueError(msg)
    if data.dtype.kind not in "biufc" or data.ndim != {"dia": 2, "bsr": 3}.get(form, 1):
        msg = f"{data.ndim}-dimensional data of the type {data.dtype!s:.80}"
        raise ValueError(msg)
    types = {an_array(each).dtype for each in indices}
    if (
        len(types) != 1
        or not types <= {numpy().dtype("i4"), numpy().dtype("i8")}
        or any(each.ndim != 1 for each in indices)
    ):
        msg = f"indices of the types {', '.join(map(str, types))!s:.80}"
        raise ValueError(msg)
    fit = {"coo": _coordinates_fit, "dia": _diagonals_fit}.get(form, _compressed_fit)
    if not fit(form, shape, data, *indices):
        msg = "its parts do not fit each other"
        raise ValueError(msg)


def _coordinates_fit(_: str, shape: tuple[int, ...], data: Any, *coords: Any) -> bool:
    return len(coords) == len(shape) and all(
        len(each) == len(data) and _are_below(each, size)
        for each, size in zip(coords, shape, strict=True)
    )


def _diagonals_fit(_: str, shape: tuple[int, ...], data: Any, offsets: Any) -> bool:
    """Whether no diagonal is far outside, among others.

    One that is just outside is none, and some of SciPy's functions return such.  Others add the
    offset to a number of rows or columns, and take as much memory as that is.
    """
    far = sum(shape) + data.shape[1]
    largest = numpy().iinfo(offsets.dtype).max - far
    return (
        len(shape) == _MATRIX
        and 0 <= far <= largest
        and len(offsets) == len(data) == len(numpy().unique(offsets))
        and _are_below(offsets, far + 1, -far)
    )


def _compressed_fit(
    form: str, shape: tuple[int, ...], data: Any, indices: Any, starts: Any
) -> bool:
    height, width = data.shape[1:] if form == "bsr" else (1, 1)
    if len(shape) > _MATRIX or not height or not width or (len(shape) == 1 and form != "csr"):
        return False
    rows, columns = shape if len(shape) == _MATRIX else (1, *shape)
    if rows % height or columns % width:
        return False
    lines, places = rows // height, columns // width
    if form == "csc":
        lines, places = places, lines
    return (
        len(starts) == lines + 1
        and starts[0] == 0
        and starts[-1] == len(indices) == len(data)
        and bool((starts[1:] >= starts[:-1]).all())
        and _are_below(indices, places)
    )


def _are_below(numbers: Any, end: int, start: int = 0) -> bool:
    return not len(numbers) or bool(start <= numbers.min() and numbers.max() < end)


def _pruned(value: Any) -> Any:
    """Return the array without room for more numbers than it holds; equal, and most have none."""
    if value.format in _COMPRESSED and len(value.indices) != value.indptr[-1]:
        value = value.copy()
        value.prune()
    return value


def _spmatrix_to(value: Any) -> str:
    value = _pruned(value)
    _check(value.format, value.shape, {name: getattr(value, name) for name in _PARTS[value.format]})
    stream = io.BytesIO()
    _scipy("sparse").save_npz(stream, value, compressed=False)
    return base64_of(stream.getvalue())


def _spmatrix_from(data: Any, reader: Reader) -> Any:
    _scipy("sparse")
    parts = _arrays_of(bytes_of(data), reader)
    form = parts.pop("format").item().decode("ascii")
    shape = tuple(map(an_int, parts.pop("shape").tolist()))
    flavour = "array" if parts.pop("_is_array", False) else "matrix"
    if form == "coo" and "coords" not in parts:
        parts["coords"] = [parts.pop("row"), parts.pop("col")]
    a_dict(parts, *_PARTS[form])
    return _sparse(form, flavour, shape, parts, reader)


def _arrays_of(content: bytes, reader: Reader) -> dict[str, Any]:
    """Read the few arrays of an `.npz`, each within what may be unpacked."""
    import zipfile

    signature, *_, size, _, comment = _ZIP_END.unpack(content[-_ZIP_END.size :])
    is_wide = content[-_ZIP_END.size - 20 :].startswith(b"PK\x06\x07")
    if signature != b"PK\x05\x06" or size > _MAX_ZIP_DIRECTORY or comment or is_wide:
        msg = "not an .npz file"
        raise ValueError(msg)
    arrays = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for info in archive.infolist():
            if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                msg = "an .npz file compressed in an unusual way"
                raise ValueError(msg)
            with archive.open(info) as stream:
                arrays[info.filename.removesuffix(".npy")] = array_of(stream, reader)
    return arrays


def _optimum_from(data: Any, reader: Reader) -> Any:
    _check_entries(a_record(data), reader)
    return _scipy("optimize").OptimizeResult(data)


def _check_entries(data: dict[str, Any], reader: Reader) -> None:
    """Bound what it takes to show a result: dicts inside of it are padded and indented like it."""
    level, count = [data], 0
    while level:
        count += sum(map(len, level))
        check_cost(reader, count, _MAX_RESULT, "entries")
        for name in (name for each in level for name in each):
            check_cost(reader, len(a_text(name)), _MAX_NAME, "characters")
        level = [item for each in level for item in each.values() if isinstance(item, dict)]
    order = data.get("_order_keys", [])
    check_cost(reader, len(a_list(order)), _MAX_NAME, "names of entries")


def _inverse_hessian_from(data: Any, _: Reader) -> Any:
    steps, gradients = map(an_array, data)
    if steps.dtype.kind != "f" or gradients.dtype.kind != "f":
        msg = (
            f"steps of the type {steps.dtype!s:.80}, gradients of the type {gradients.dtype!s:.80}"
        )
        raise ValueError(msg)
    return _scipy("optimize").LbfgsInvHessProduct(steps, gradients)


ROWS: Final = (
    *(
        Row("spmatrix", f"scipy.sparse:{form}_matrix", _spmatrix_to, _spmatrix_from)
        for form in _PARTS
    ),
    *(
        Row("sparse", f"scipy.sparse:{name}", _sparse_to, _sparse_from)
        for name in (
            *(f"{form}_array" for form in (*_PARTS, *_VIA_COO)),
            "lil_matrix",
            "dok_matrix",
        )
    ),
    Row(
        "OptimizeResult",
        "scipy.optimize:OptimizeResult",
        lambda value: dict(dict.items(value)),
        _optimum_from,
    ),
    Row(
        "LbfgsInvHessProduct",
        "scipy.optimize:LbfgsInvHessProduct",
        lambda value: [value.sk, value.yk],
        _inverse_hessian_from,
    ),
)
