"""The codec's rows for SciPy: sparse arrays, and what its optimisers return.

SciPy's C code believes the indices of a sparse array, so they are checked before it sees them.
"""

from __future__ import annotations

import io
import struct
from typing import Any, Final

from sandbox.codec.rows import (
    Reader,
    Row,
    UnavailableError,
    a_dict,
    a_list,
    a_text,
    an_int,
    base64_of,
    bytes_of,
)
from sandbox.codec.rows_numpy import an_array, array_of

_ROW_BYTES: Final = 64
"""A row of a list of lists; an item of a dict takes twice as much."""

_PARTS: Final = {
    "csr": ("data", "indices", "indptr"),
    "csc": ("data", "indices", "indptr"),
    "bsr": ("data", "indices", "indptr"),
    "dia": ("data", "offsets"),
    "coo": ("data", "coords"),
}
_VIA_COO: Final = frozenset({"lil", "dok"})
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
    form = value.format
    stored = value.tocoo() if form in _VIA_COO else value
    parts = {name: getattr(stored, name) for name in _PARTS[stored.format]}
    return {"class": type(value).__name__, "shape": list(value.shape), **parts}


def _sparse_from(data: Any, reader: Reader) -> Any:
    _scipy("sparse")
    form, _, flavour = a_text(data["class"]).partition("_")
    stored = "coo" if form in _VIA_COO else form
    a_dict(data, "class", "shape", *_PARTS[stored])
    parts = {name: data[name] for name in _PARTS[stored]}
    shape = tuple(an_int(each) for each in a_list(data["shape"]))
    if form in _VIA_COO:
        reader.charge(_ROW_BYTES * (shape[0] + 2 * len(an_array(parts["data"]))))
    value = _sparse(stored, flavour, shape, parts)
    return value.asformat(form) if form in _VIA_COO else value


def _sparse(form: str, flavour: str, shape: tuple[int, ...], parts: dict[str, Any]) -> Any:
    """Build a sparse array; its indices are checked, as its C code does not."""
    sparse = _scipy("sparse")
    if flavour not in {"array", "matrix"} or any(not 0 <= each < 1 << 62 for each in shape):
        msg = f"a {form}_{flavour:.20} of the shape {shape!r:.80}"
        raise ValueError(msg)
    for each in parts["coords"] if "coords" in parts else parts.values():
        an_array(each)
    kind = getattr(sparse, f"{form}_{flavour}")
    if form == "coo":
        value = kind((an_array(parts["data"]), tuple(parts["coords"])), shape=shape)
    else:
        value = kind(tuple(parts[name] for name in _PARTS[form]), shape=shape)
    if form not in {"coo", "dia"}:
        value.check_format(full_check=True)
    for name, part in parts.items():  # as they were: SciPy has made the indices' type smaller
        setattr(value, name, tuple(part) if name == "coords" else part)
    return value


def _spmatrix_to(value: Any) -> str:
    stream = io.BytesIO()
    _scipy("sparse").save_npz(stream, value, compressed=False)
    return base64_of(stream.getvalue())


def _spmatrix_from(data: Any, reader: Reader) -> Any:
    _scipy("sparse")
    parts = _arrays_of(bytes_of(data), reader)
    form, shape = parts.pop("format").item().decode("ascii"), tuple(parts.pop("shape").tolist())
    flavour = "array" if parts.pop("_is_array", False) else "matrix"
    if form == "coo" and "coords" not in parts:
        parts["coords"] = [parts.pop("row"), parts.pop("col")]
    a_dict(parts, *_PARTS[form])
    return _sparse(form, flavour, shape, parts)


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


def _optimum_from(data: Any, _: Reader) -> Any:
    return _scipy("optimize").OptimizeResult(data)


def _inverse_hessian_from(data: Any, _: Reader) -> Any:
    steps, gradients = data
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
