"""NumPy's and SciPy's values as tagged JSON: type, shape, order and content come back."""

import base64
import io
import json
import sys
import warnings
import zlib

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as of

from sandbox import codec
from sandbox.codec import DecodingError, EncodingError, Value, decoding


def tagged(tag, value):
    return {"__type__": tag, "__value__": value}


def back(value):
    text = codec.encode({"x": value})
    result = codec.decode(text)["x"]
    assert codec.encode({"x": result}) == text
    return result


def assert_same(found, array):
    assert type(found) is type(array)
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    assert found.tobytes("A") == array.tobytes("A")
    for flag in ("f_contiguous", "c_contiguous"):
        if array.flags.forc:  # what is in no order at all gets one
            assert getattr(found.flags, flag) == getattr(array.flags, flag)
    assert found.flags.writeable


DTYPES = st.one_of(
    of.scalar_dtypes(),
    of.byte_string_dtypes(),
    of.unicode_string_dtypes(),
    of.array_dtypes(),
    of.nested_dtypes(max_itemsize=200),
)


@settings(max_examples=80)
@given(of.arrays(DTYPES, of.array_shapes(min_dims=0, min_side=0, max_side=4)), st.booleans())
def test_every_plain_array_comes_back(array, transposed):
    array = array.T if transposed else array
    assert_same(back(array), array)
    assert codec.encode(array) == codec.encode(array.copy(order="K"))


@pytest.mark.parametrize(
    "make",
    [
        "arange(6).reshape(2, 3).T",
        "arange(10)[::3]",
        "asfortranarray(np.ones((3, 2)))",
        "array(5.5)",
        "zeros((0, 3))",
        "array([1 + 2j, np.nan], dtype='complex64')",
        "array(['2021-05-01', 'NaT'], dtype='datetime64[D]')",
        "array([1, 2], dtype='>i2')",
        "array([(1, 2.0)], dtype=[('a', '>i4'), ('ü', 'f8')])",
        "array([(1, 'NaT')], dtype=[('日', 'i4'), ('b', 'M8[us]')])",
        "zeros(2, dtype=np.dtype([('a', 'i1'), ('b', 'f8')], align=True))",
        "zeros(2, dtype=[('a', [('c', 'i4')]), ('b', 'f8', (2,))])",
        "array([b'ab', b'c'])",
        "longdouble([1.5, 'nan'])",
        "array([b'abc'], dtype='V3')",
        "ndarray((3,), 'U0')",
    ],
)
def test_unusual_arrays_come_back(make):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        array = eval(f"np.{make}", {"np": np})
        assert_same(back(array), array)


@settings(max_examples=50)
@given(of.arrays(of.scalar_dtypes() | of.unicode_string_dtypes(), ()))
def test_every_scalar_comes_back(array):
    value = array[()]
    found = back(value)
    assert type(found) is type(value)
    assert found.dtype == value.dtype
    assert found.tobytes() == value.tobytes()


def test_texts_keep_the_nuls_that_arrays_cut_off():
    for value in (np.str_("a\0"), np.bytes_(b"a\0"), np.bytes_(b"")):
        found = back(value)
        assert type(found) is type(value)
        assert list(found) == list(value)  # np.str_ cuts them off to compare, too


def test_small_scalars_are_readable():
    assert json.loads(codec.encode(np.float64(0.5))) == tagged("numpy", ["<f8", 0.5])


def test_arrays_of_objects_travel_as_lists():
    inner = np.array([1.5])
    array = np.empty((2, 2), object)
    array[:] = [[1, "a"], [None, (1j,)]]
    found = back(array)
    assert found.dtype == object
    assert found.shape == (2, 2)
    assert found.tolist() == array.tolist()
    ragged = np.empty(2, object)
    ragged[:] = [[1, 2], inner]
    found = back(ragged)
    assert found[0] == [1, 2]
    assert found[1].tobytes() == inner.tobytes()
    with pytest.raises(EncodingError, match=r"^value\['x'\]\['items'\]\[1\]: cannot carry an obj"):
        codec.encode({"x": np.array([1, object()], object)})


def test_arrays_of_strings_of_any_length_come_back():
    array = np.array([["a", "b" * 100]], dtype=np.dtypes.StringDType())
    found = back(array)
    assert found.dtype == array.dtype
    assert found.tolist() == array.tolist()


@pytest.mark.parametrize(
    "make",
    [
        "ma.array([1, 2, 3], mask=[True, False, True])",
        "ma.array([[1.5, 2], [3, 4]], mask=np.ma.nomask)",
        "ma.array([1, 2], mask=[0, 1], fill_value=-7)",
        "ma.array([1, 2], mask=[0, 1], hard_mask=True)",
        "ma.array([(1, 2.0)], mask=[(True, False)], dtype=[('a', 'i4'), ('b', 'f8')])",
        "ma.array(['a', 'b'], mask=[0, 1], fill_value='?')",
    ],
)
def test_masked_arrays_keep_mask_and_fill_value(make):
    array = eval(f"np.{make}", {"np": np})
    found = back(array)
    assert type(found) is type(array)
    assert_same(found.data, array.data)
    assert (found.mask is np.ma.nomask) == (array.mask is np.ma.nomask)
    assert np.asarray(found.mask).tolist() == np.asarray(array.mask).tolist()
    assert found.fill_value == array.fill_value
    assert found.hardmask == array.hardmask


def test_matrices_records_and_the_masked_constant_come_back():
    matrix = back(np.array([[1, 2]]).view(np.matrix))
    assert type(matrix) is np.matrix
    assert matrix.tolist() == [[1, 2]]
    records = np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")])
    assert back(records).b.tolist() == [2.0]
    assert back(records).dtype == records.dtype
    assert type(back(records[0])) is np.record
    assert back(records[0]).a == 1
    assert back(np.ma.masked) is np.ma.masked


@pytest.mark.parametrize(
    "value",
    [
        np.array([(1, None)], dtype=[("a", "i4"), ("b", "O")]),
        np.zeros(1, np.dtype({"names": ["a", "b"], "formats": ["i4", "i4"], "offsets": [4, 0]})),
        np.zeros(1, np.dtype("i4", metadata={"unit": "s"})),
        np.dtype("f8"),
        np.float64,
        np.random.default_rng(),
        np.array([None], np.dtypes.StringDType(na_object=None)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_numpy_itself_could_only_pickle_is_refused(value):
    with pytest.raises(EncodingError, match=r"^value\['x'\]: cannot carry a"):
        codec.encode({"x": value})


FORMS = ["csr", "csc", "coo", "bsr", "dia", "lil", "dok"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("flavour", ["array", "matrix"])
@pytest.mark.parametrize("dtype", ["f8", "c16", "i4"])
def test_sparse_arrays_and_matrices_come_back(form, flavour, dtype):
    dense = np.diag(np.arange(4)).astype(dtype)
    value = getattr(scipy.sparse, f"{form}_{flavour}")(dense)
    found = back(value)
    assert type(found) is type(value)
    assert found.dtype == value.dtype
    assert found.shape == value.shape
    assert np.array_equal(found.toarray(), dense)


def test_sparse_arrays_keep_what_they_store():
    value = scipy.sparse.csr_array(([1.0, 0.0], np.array([2, 0], "i8"), [0, 2, 2]), shape=(2, 3))
    value.indices, value.indptr = value.indices.astype("i8"), value.indptr.astype("i8")
    found = back(value)
    for part in ("data", "indices", "indptr"):
        assert_same(getattr(found, part), getattr(value, part))
    twice = scipy.sparse.coo_array(([1, 2], ([0, 0], [1, 1])), shape=(2, 2))
    assert back(twice).data.tolist() == [1, 2]
    assert back(scipy.sparse.coo_array(np.array([0, 5]))).shape == (2,)


def test_the_result_of_an_optimisation_comes_back_whole():
    value = scipy.optimize.minimize(lambda x: (x**2).sum(), [1.0, 2.0], method="L-BFGS-B")
    found = back(value)
    assert type(found) is scipy.optimize.OptimizeResult
    assert found.keys() == value.keys()
    assert found.x.tobytes() == value.x.tobytes()
    assert np.array_equal(found.hess_inv.todense(), value.hess_inv.todense())


# --- hostile --------------------------------------------------------------------------------------


def npy(header, content=b"", version=b"\x01\x00"):
    text = (header + " " * (117 - len(header)) + "\n").encode()
    size = len(text).to_bytes(2 if version == b"\x01\x00" else 4, "little")
    packed = zlib.compress(b"\x93NUMPY" + version + size + text + content)
    return tagged("ndarray", base64.b64encode(packed).decode())


def header(descr, shape, order=False):
    return f"{{'descr': {descr!r}, 'fortran_order': {order}, 'shape': {shape}}}"


@pytest.mark.parametrize(
    "text",
    [
        header("<f8", (100_000_000_000,)),
        header("<f8", (-1,)),
        header("<f8", (2**62, 2**62)),
        header("|O", (1,)),
        header([("a", "|O")], (1,)),
        header("|V0", (10**12,)),
        header("<U0", (10**12,)),
        header("<U1000000000", (1,)),
        header(5, (1,)),
        header("<f8", "(1, 2.0)"),
        header("<f8", (7,)),
        header("<f8", ()) + " " * 200_000,
        "__import__('os')",
        "[" * 100,
        "'a' * 10**10",
    ],
)
def test_hostile_headers(text):
    for version in (b"\x01\x00", b"\x03\x00", b"\x09\x00"):
        with pytest.raises((DecodingError, OverflowError)):
            codec.from_data(npy(text, b"12345678", version))


@pytest.mark.parametrize(
    "data",
    [
        tagged("numpy", ["<U1000000000", "x"]),
        tagged("numpy", ["|V1000000000", 1]),
        tagged("numpy", ["<f8", "1"]),
        tagged("numpy", ["O", 1]),
        tagged("numpy", ["str", 5]),
        tagged("ndarray", {"dtype": "O", "shape": [10**12], "items": [1]}),
        tagged("ndarray", {"dtype": "O", "shape": [2, -1], "items": [1, 2]}),
        tagged("ndarray", {"dtype": "f8", "shape": [1], "items": [1]}),
        tagged("ndarray", {"dtype": "T", "shape": [1], "items": [1]}),
        tagged("matrix", [1]),
        tagged("recarray", 5),
        tagged("masked_array", {"data": 1, "mask": None, "fill_value": None, "hard": False}),
        tagged("spmatrix", base64.b64encode(b"PK\x05\x06" + b"\xff" * 18).decode()),
        tagged("spmatrix", "AAAA"),
    ],
    ids=lambda data: json.dumps(data)[:70],
)
def test_hostile_arrays(data):
    with pytest.raises(DecodingError):
        codec.from_data(data)


def sparse_data(value, **changes):
    data = codec.to_data(value)
    data["__value__"].update({name: codec.to_data(part) for name, part in changes.items()})
    return data


I4 = np.dtype("i4")
MISFITS = {
    "csr csc bsr": [
        {"indices": [2, 0]},
        {"indices": [-1, 0]},
        {"indices": [0]},
        {"indptr": [0, 1, 3]},
        {"indptr": [0, 1, 1]},
        {"indptr": [0, 3, 2]},
        {"indptr": [1, 1, 2]},
        {"indptr": [0, 2]},
        {"indptr": [0, 1, 2, 2]},
        {"indptr": []},
        {"shape": [3, 3]},
        {"shape": [1, 1]},
        {"shape": [2, 1], "indices": [0, 1]},
        {"indices": np.array([0, 1], "u4")},
        {"indices": np.array([0.0, 1.0])},
        {"indices": np.array([False, True])},
        {"indices": np.array([0, 1], ">i4")},
        {"indices": np.array([0, 1], "i8")},
        {"indptr": np.array([0, 1, 2], "i2"), "indices": np.array([0, 1], "i2")},
        {"indices": np.array([[0], [1]], I4)},
        {"indices": np.array([0, 1], object)},
    ],
    "coo lil dok": [
        {"coords": [[0, 2], [0, 1]]},
        {"coords": [[0, 1], [0, -1]]},
        {"coords": [[0, 1]]},
        {"coords": [[0, 1], [0, 1], [0, 1]]},
        {"coords": [[0, 1], [0]]},
        {"coords": [np.array([0, 1], "u4"), np.array([0, 1], "u4")]},
        {"coords": [np.array([0.0, 1.0]), np.array([0.0, 1.0])]},
        {"coords": [np.array([0, 1], I4), np.array([0, 1], "i8")]},
        {"coords": []},
        {"shape": [1, 2]},
    ],
    "dia": [
        {"offsets": [0, 1]},
        {"offsets": []},
        {"offsets": [2**31 - 1]},
        {"offsets": [-(2**31)]},
        {"offsets": np.array([0.0])},
        {"offsets": np.array([0], "u4")},
        {"offsets": [0, 0], "data": np.ones((2, 2))},
        {"data": np.ones(2)},
        {"shape": [2]},
    ],
}
ALWAYS = [
    {"data": [1, 2]},
    {"data": np.array(["a", "b"])},
    {"data": np.array([None, None])},
    {"data": np.ones((1, 1, 1, 1))},
    {"shape": [-1, 2]},
    {"shape": [2**63, 2]},
    {"shape": []},
    {"class": "os_array"},
    {"class": "csr_popen"},
]


def misfits():
    for forms, all_changes in MISFITS.items():
        for form in forms.split():
            for changes in [*all_changes, *ALWAYS]:
                for flavour in ("array", "matrix"):
                    yield pytest.param(
                        form, flavour, changes, id=f"{form}_{flavour} {changes!s:.60}"
                    )


def as_part(name, value):
    """Return lists of indices as arrays, and everything else as it is."""
    if name == "coords":
        return [as_part("indices", each) for each in value]
    is_index = name in {"indices", "indptr", "offsets"} and type(value) is list
    return np.array(value, I4) if is_index else value


@pytest.mark.parametrize(("form", "flavour", "changes"), list(misfits()))
def test_sparse_arrays_whose_parts_do_not_fit_are_refused(form, flavour, changes):
    """By our own check: SciPy's constructors take many of these, and its C code believes them."""
    array = getattr(scipy.sparse, f"{form}_array")(np.diag([1.0, 2.0]))
    if form == "bsr":
        array = scipy.sparse.bsr_array(array, blocksize=(1, 1))
    data = codec.to_data(array)
    data["__value__"]["class"] = f"{form}_{flavour}"
    assert codec.from_data(data).format == form
    data["__value__"].update(
        {name: codec.to_data(as_part(name, part)) for name, part in changes.items()}
    )
    for trusted in (False, True):
        with pytest.raises(DecodingError):
            codec.from_data(data, trusted=trusted)


def test_blocks_that_do_not_fit_are_refused():
    value = scipy.sparse.bsr_array(np.ones((4, 4)), blocksize=(2, 2))
    for blocks in (np.ones((4, 3, 2)), np.ones((4, 2, 3)), np.ones((4, 0, 2)), np.ones((4, 4, 4))):
        with pytest.raises(DecodingError, match="do not fit"):
            codec.from_data(sparse_data(value, data=blocks))


def test_files_of_sparse_matrices_are_checked_alike():
    value = scipy.sparse.csr_matrix(np.diag([1.0, 2.0]))
    value.indices = np.array([0, 2], "i4")
    stream = io.BytesIO()
    scipy.sparse.save_npz(stream, value)
    with pytest.raises(DecodingError, match="do not fit"):
        codec.from_data(tagged("spmatrix", base64.b64encode(stream.getvalue()).decode()))


def test_a_sparse_array_that_does_not_fit_is_no_value_to_send():
    value = scipy.sparse.csr_array(np.diag([1.0, 2.0]))
    value.indices[1] = 2
    with pytest.raises(EncodingError, match="do not fit"):
        codec.encode(value)


def test_room_in_a_sparse_array_for_more_than_it_holds_is_left_out():
    for kind in (scipy.sparse.csr_array, scipy.sparse.csr_matrix):
        value = kind(np.eye(2))
        value.indices, value.data = np.array([0, 1, 1], I4), np.ones(3)
        found = back(value)
        assert len(found.indices) == 2
        assert np.array_equal(found.toarray(), np.eye(2))


def test_a_sparse_array_with_too_many_sides_stays_as_it_came():
    """Its parts fit; but one step from it, memory would be taken for each row or column."""
    for value in (
        scipy.sparse.coo_array(([1.0], ([0], [0])), shape=(1, 2**25)),
        scipy.sparse.dok_array((2**25, 1)),
        scipy.sparse.dia_array((np.ones((5, 1)), range(5)), shape=(2**23, 2**23)),
    ):
        data = codec.to_data([value, 1])
        assert codec.from_data(data) == [Value(data[0]), 1]
        assert codec.from_data(data, trusted=True)[0].shape == value.shape


@pytest.mark.parametrize("shape", [(0, 2**24 + 1), (2**24 + 1, 0), (2**13, 0, 2**13), (0, 2**62)])
def test_empty_arrays_of_large_dimensions_stay_as_they_came(shape):
    for data in (
        npy(header("|b1", shape)),
        tagged("ndarray", {"dtype": "O", "shape": list(shape), "items": []}),
    ):
        assert codec.from_data([data, 1]) == [Value(data), 1]
    assert codec.from_data(npy(header("|b1", (0, 2**24)))).shape == (0, 2**24)


@pytest.mark.parametrize(
    "descr",
    [
        "f8,f8,f8",
        "(2,)f8",
        "float64",
        "<U00000000001",
        "<M8[25s/1000000]",
        ("<f8", (0,)),
        ("<f8", 3),
        ("<i8", [("a", "<i4")]),
        {"names": ["a"], "formats": ["<i4"]},
        [("a", "f8,f8")],
        [("a", "<f8", (0, 2))],
        [(1, "<f8")],
        None,
    ],
    ids=str,
)
def test_types_have_short_names_or_fields_of_such(descr):
    with pytest.raises(DecodingError):
        codec.from_data(npy(header(descr, (0,))))
    with pytest.raises(DecodingError):
        codec.from_data(tagged("numpy", [descr, 1]))


def test_headers_that_are_expressions_are_charged_for(monkeypatch):
    fields = [(f"f{n}", "<f8") for n in range(50)]
    one = codec.to_data(np.zeros(1, fields))
    assert len(codec.from_data([one] * 3)) == 3
    monkeypatch.setattr(decoding, "MAX_UNPACKED_BYTES", 200_000)
    with pytest.raises(DecodingError, match="takes more than 200000 bytes"):
        codec.from_data([one] * 3)


def test_bools_are_zero_or_one_in_memory():
    array = codec.from_data(npy(header("|b1", (3,)), b"\x00\x01\x02"))
    assert array.tobytes() == b"\x00\x01\x01"
    fields = [("a", "|b1"), ("b", [("c", "|b1", (2,))])]
    array = codec.from_data(npy(header(fields, (1,)), b"\x03\x00\xff"))
    assert array.tobytes() == b"\x01\x00\x01"


def test_the_result_of_an_optimisation_is_as_large_as_one():
    for data in (
        {str(n): 0 for n in range(1001)},
        {"a": {"b": {str(n): 0 for n in range(1000)}}},
        {"a" * 101: 0},
        {"_order_keys": ["x"] * 101},
    ):
        raw = tagged("OptimizeResult", data)
        assert codec.from_data([raw]) == [Value(raw)]
    for data in ({"__array_interface__": {}}, [["x", 1]], {"_order_keys": "x"}):
        with pytest.raises(DecodingError):
            codec.from_data(tagged("OptimizeResult", data))


def test_a_sparse_list_of_lists_with_a_row_for_everybody_is_refused():
    data = sparse_data(scipy.sparse.lil_array(np.diag([1.0, 2.0])), shape=[10**9, 2])
    with pytest.raises(DecodingError, match="takes more than"):
        codec.from_data(data)


def test_bombs_are_measured_all_together(monkeypatch):
    monkeypatch.setattr(decoding, "MAX_UNPACKED_BYTES", 20_000)
    one = codec.to_data(np.zeros(1000))
    assert len(codec.from_data([one, one])) == 2
    with pytest.raises(DecodingError, match="takes more than 20000 bytes"):
        codec.from_data([one, one, one])
    assert len(codec.from_data([one, one, one], trusted=True)) == 3
    matrix = codec.to_data(scipy.sparse.csr_matrix(np.eye(2000)))
    with pytest.raises(DecodingError, match="takes more than 20000 bytes"):
        codec.from_data(matrix)


def test_arrays_are_opaque_without_numpy(monkeypatch):
    raw = [tagged("ndarray", "AAAA"), codec.to_data(scipy.sparse.lil_array(np.eye(2)))]
    monkeypatch.setitem(sys.modules, "numpy", None)
    assert codec.from_data(raw) == [Value(each) for each in raw]
