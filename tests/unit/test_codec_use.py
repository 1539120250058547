"""What a program may make of each row of the table hurts nobody who decodes and uses it.

Each example is decoded as the host does, unasked, and used in a process with limits
(tests/using.py): one that crashes, hangs or takes all its memory fails the test.
"""

import base64
import io
import json
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox import codec
from sandbox.codec import table
from tests.using import User

LARGE = [2**31 - 1, 2**31, 2**32, 2**62, 2**63, 2**64, 10**30, 10**4000]
INTS = st.integers(-3, 9) | st.sampled_from([*LARGE, *(-each for each in LARGE)])
NAMES = st.sampled_from(
    [
        *("a", "", "x", "nan", "é" * 300, "_order_keys", "__array_interface__", "__array_struct__"),
        *("__array__", "__deepcopy__", "__class__", "__len__", "__index__", "_as_parameter_"),
    ]
)
TEXTS = NAMES | st.text(max_size=3)
COLLIDING = [(2**61 - 1) * n for n in range(20)]


def tagged(tag, value):
    return {"__type__": tag, "__value__": value}


def npy(descr, shape, content, order):
    head = f"{{'descr': {descr!r}, 'fortran_order': {order}, 'shape': {tuple(shape)}, }}".encode()
    content = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + content
    return tagged("ndarray", base64.b64encode(zlib.compress(content)).decode())


DESCRIPTIONS = st.sampled_from(
    [
        *("|b1", "<i4", ">i8", "<u8", "<f2", "<f8", "<f16", "<c8", "<c32", "<m8[s]", "<M8[25s]"),
        *("<M8", "|S3", "<U2", "|V5", "<U0", "|S0", "|V0", "<M8[Y]", "|V99999999", "f8,f8"),
        *([("a", "|b1"), ("b", ">f8")], [("a", "<U2", (2,)), ("b", [("c", "<f16")])]),
        *([("__array_interface__", "<i8")], [(("t", "a"), "|b1", (2, 3))], "O", ("<f8", (2,))),
    ]
)


SHAPES = (
    st.lists(st.integers(0, 3), max_size=3)
    | st.lists(INTS, max_size=3)
    | st.sampled_from([[0, 10**8], [10**8, 0], [0, 2**40]])
)


def size_of(descr, shape):
    try:
        return np.lib.format.descr_to_dtype(descr).itemsize * int(np.prod(shape))
    except (TypeError, ValueError):
        return 8


@st.composite
def raw_arrays(draw, descriptions=DESCRIPTIONS, shapes=SHAPES):
    """Arrays of any bytes, mostly of as many as they must have."""
    descr = draw(descriptions)
    shape = draw(shapes)
    size = size_of(descr, shape)
    size = size if 0 <= size < 5000 else 8
    content = draw(st.binary(min_size=size, max_size=size) | st.just(b"\xff" * size))
    return npy(descr, shape, content, draw(st.booleans()))


LENGTHS = st.lists(st.integers(0, 4), min_size=1, max_size=1)


def arrays(*types, shape=LENGTHS):
    def make(of, sizes, numbers):
        count = int(np.prod(sizes))
        with np.errstate(all="ignore"):
            items = np.array((numbers * count)[:count] or [], "i8").astype(of)
        return codec.to_data(items.reshape(sizes))

    numbers = st.lists(st.integers(-1, 5) | st.just(2**31 - 1), min_size=1, max_size=9)
    return st.builds(make, st.sampled_from(types), shape, numbers)


ANY_ARRAY = raw_arrays() | arrays("f8", "c16", "i1")
SCALARS = (
    st.none() | st.booleans() | INTS | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
)
KEYS = (
    SCALARS
    | st.sampled_from(COLLIDING)
    | st.lists(SCALARS, max_size=3).map(lambda items: tagged("tuple", items))
    | st.lists(st.sampled_from(COLLIDING), max_size=4).map(lambda i: tagged("frozenset", i))
    | st.just(tagged("Decimal", "1e9999"))
    | st.just(tagged("float", "nan"))
)
VALUES = st.recursive(
    KEYS | ANY_ARRAY,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(TEXTS, inner, max_size=4)
        | st.lists(inner, max_size=3).map(lambda items: tagged("tuple", items))
        | st.dictionaries(TEXTS, inner, max_size=3).map(lambda d: tagged("SimpleNamespace", d))
    ),
    max_leaves=5,
)
PAIRS = st.lists(st.lists(KEYS, min_size=2, max_size=2), max_size=20)
RECORDS = st.fixed_dictionaries(
    {"class": TEXTS, "fields": st.dictionaries(TEXTS, VALUES, max_size=4)}
)
FORMS = ("csr", "csc", "bsr", "coo", "dia", "lil", "dok")
CLASSES = [f"{form}_{flavour}" for form in FORMS for flavour in ("array", "matrix")]
INDICES = [
    *([], [0], [0, 1], [1, 1], [1, 0, 1], [0, 1, 2], [0, 0, 3], [0, 3, 3], [0, 2, 1], [1, 2, 2]),
    *([0, 5], [0, 2, 9], [0, 0, 2**31 - 1]),
]
ODD_INDICES = [0, 1, 1, 2, -1, 9, 2**30, 2**31 - 1, -(2**31)]
INDEX_TYPES = st.sampled_from(["i4"] * 6 + ["i8", "i8", "u4", "f8", "b1", ">i4", "i2"])


def encoded(items, kind="i4"):
    return codec.to_data(np.array(items, "i8").astype(kind))


@st.composite
def sparse(draw):
    """Sparse arrays whose parts fit each other, but for one or two that mostly do not."""
    name = draw(st.sampled_from(CLASSES))
    form = name[:3]
    count = draw(st.integers(1, 3))
    places = st.lists(st.integers(0, 1), min_size=count, max_size=count).map(encoded)
    shapes = {"dia": [count, 2], "bsr": [count, 1, 1]}.get(form, [count])
    parts = {"shape": [2, 2], "data": draw(arrays("f8", "c16", "b1", "i2", shape=st.just(shapes)))}
    if form == "dia":
        parts["offsets"] = encoded([0, 1, -1][:count])
    elif form in {"csr", "csc", "bsr"}:
        first = draw(st.integers(0, count))
        parts |= {"indices": draw(places), "indptr": encoded([0, first, count])}
    else:
        parts["coords"] = [draw(places), draw(places)]
    for _ in range(draw(st.integers(0, 2))):
        part = draw(st.sampled_from(sorted(parts)))
        odd = st.lists(st.sampled_from(ODD_INDICES), min_size=count, max_size=count)
        other = st.builds(encoded, odd | st.sampled_from(INDICES), INDEX_TYPES)
        if part == "shape":
            other = st.lists(st.integers(0, 4), max_size=3) | st.lists(INTS, min_size=2, max_size=2)
        elif part == "coords":
            other = st.lists(other | places, min_size=1, max_size=3)
        parts[part] = draw(other | ANY_ARRAY if part == "data" else other)
    return {"class": name, **parts}


def files(parts):
    """The same in a file, as IBM's clients write matrices."""
    sides = [max(-(2**62), min(each, 2**62)) for each in parts["shape"]]
    members = {**parts, "format": codec.to_data(np.array(parts["class"][:3].encode()))}
    members["shape"] = codec.to_data(np.array(sides, "i8"))
    if "coords" in parts:
        members |= dict(zip(("row", "col"), members.pop("coords"), strict=False))
    del members["class"]
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, member in members.items():
            content = zlib.decompress(base64.b64decode(member["__value__"]))
            archive.writestr(f"{name}.npy", content)
    return base64.b64encode(stream.getvalue()).decode()


@st.composite
def masked(draw):
    shape = st.just(draw(LENGTHS))
    return {
        "data": draw(arrays("f8", "i4", "c8", "M8[s]", "b1", shape=shape) | ANY_ARRAY),
        "mask": draw(st.none() | arrays("b1", shape=shape) | ANY_ARRAY),
        "fill_value": draw(st.none() | arrays("f8", "i4", shape=st.just([])) | ANY_ARRAY),
        "hard": draw(st.booleans()),
    }


DATES = st.sampled_from(["2021-01-01", "0001-01-01", "9999-12-31", "2021-13-01", "1" * 99])
CLOCKS = st.sampled_from(["12:00", "23:59:59.999999", "00:00+23:59", "12:00-23:59:59.9", "25:00"])
MOMENTS = st.builds("{}T{}".format, DATES, CLOCKS)
ZONES = st.sampled_from([None, "UTC", "Europe/Berlin", "posix/UTC", "a/b", "../x", "A" * 999])
DECIMALS = st.sampled_from(
    [
        *("1.5", "1e9999", "-1e-9999", "0e9999", "1e10001", "1e99999999", "-1e-99999999"),
        *("Infinity", "-Infinity", "0"),
        *("9" * 9999, "9" * 10_001, "NaN123", "sNaN", "1e999999999999999999", "0e999999999"),
    ]
)
PLAIN_NAMES = st.sampled_from(["<f8", "|b1", "<i1", "<u8", ">i4", "<c16", "<f2", "<U9", "f8,f8"])
LENGTHS_OF_DEQUES = st.sampled_from([None, None, 0, 2, -1, 2**62, 2**64])
BASE64 = st.binary(max_size=9).map(lambda each: base64.b64encode(each).decode())
SQUARES = arrays("f8", "f4", "i8", "c8", shape=st.just([2, 3]))
RECORD_TYPES = st.sampled_from([[("a", "|b1"), ("b", ">f8")], [("__array_interface__", "<i8")]])
NUMBERS = INTS | st.floats() | SCALARS


def timed(texts):
    return texts | st.tuples(texts, ZONES, st.sampled_from([0, 1, 1, 2, -1])).map(list)


PAYLOADS = {
    "float": st.sampled_from(["nan", "inf", "-inf"]) | VALUES,
    "int": st.sampled_from(["0x" + "f" * 100_000, "-0x1", "0x_f", "f" * 5000, ""]),
    "complex": st.lists(NUMBERS, min_size=2, max_size=2),
    "tuple": st.lists(VALUES, max_size=4),
    "set": st.lists(KEYS, max_size=30),
    "frozenset": st.lists(KEYS, max_size=30),
    "dict": PAIRS,
    "bytes": BASE64 | TEXTS,
    "bytearray": BASE64 | TEXTS,
    "range": st.lists(INTS, min_size=3, max_size=3),
    "slice": st.lists(SCALARS, min_size=3, max_size=3),
    "datetime": timed(MOMENTS | DATES),
    "date": DATES,
    "time": timed(CLOCKS),
    "timedelta": st.lists(INTS, min_size=3, max_size=3),
    "Decimal": DECIMALS,
    "Fraction": st.lists(INTS, min_size=2, max_size=2),
    "UUID": st.sampled_from(["12345678-1234-5678-1234-567812345678", "{" + "f" * 32 + "}", "f"]),
    "OrderedDict": PAIRS,
    "Counter": PAIRS,
    "defaultdict": st.tuples(st.sampled_from([None, "list", "set", "eval"]), PAIRS).map(list),
    "deque": st.tuples(st.lists(VALUES, max_size=3), LENGTHS_OF_DEQUES).map(list),
    "SimpleNamespace": st.dictionaries(TEXTS, VALUES, max_size=4),
    "ndarray": raw_arrays().map(lambda data: data["__value__"])
    | st.fixed_dictionaries(
        {
            "dtype": st.sampled_from("OT"),
            "shape": st.lists(INTS, max_size=3),
            "items": st.lists(VALUES, max_size=4),
        }
    )
    | VALUES,
    "record": raw_arrays(RECORD_TYPES, st.just([])) | ANY_ARRAY,
    "numpy": st.tuples(PLAIN_NAMES, NUMBERS).map(list)
    | raw_arrays(shapes=st.just([])).map(lambda data: data["__value__"]),
    "matrix": ANY_ARRAY,
    "recarray": ANY_ARRAY,
    "masked_array": masked(),
    "masked": VALUES,
    "spmatrix": sparse().map(files),
    "sparse": sparse(),
    "OptimizeResult": st.dictionaries(TEXTS, VALUES, max_size=4),
    "LbfgsInvHessProduct": st.lists(SQUARES, min_size=2, max_size=2),
    "enum": st.fixed_dictionaries({"class": TEXTS, "name": VALUES, "value": VALUES}),
    "namedtuple": RECORDS,
    "dataclass": RECORDS,
    "to_json": TEXTS,
}


def test_every_row_that_is_decoded_unasked_is_tried():
    assert PAYLOADS.keys() == {key for key, row in table.BY_TAG.items() if not row.needs_trust}


@pytest.fixture(scope="module")
def user():
    running = User()
    yield running
    running.close()


@pytest.mark.parametrize("tag", PAYLOADS)
def test_what_is_decoded_unasked_can_be_used(user, tag):
    @settings(
        max_examples=100 if tag in {"sparse", "ndarray"} else 30,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(PAYLOADS[tag])
    def tried(payload):
        text = json.dumps(tagged(tag, payload))
        assert user.problem_with(text) == ""

    tried()


def test_the_process_tells_what_takes_too_much():
    """It is not blind: values that are honest take too much where there is little."""
    user = User(memory_bytes=16 << 20)
    try:
        assert user.problem_with("[1]") == ""
        assert user.problem_with(json.dumps("a" * (4 << 20))) != ""
        assert user.problem_with("[1]") == ""
    finally:
        user.close()
