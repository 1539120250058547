"""Values as tagged JSON: exact round trips, paths in refusals, and hostile data."""

import base64
import collections
import contextlib
import datetime
import decimal
import enum
import fractions
import json
import math
import subprocess
import sys
import uuid
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox import codec, protocol, table
from sandbox.codec import DecodingError, EncodingError, Value

ROOT = Path(__file__).parents[2]

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters()),  # lone surrogates too
    st.complex_numbers(),
    st.binary(),
    st.datetimes(timezones=st.none() | st.just(datetime.UTC)).map(
        lambda each: each.replace(fold=0)
    ),
    st.dates(),
    st.timedeltas(),
    st.decimals().filter(lambda number: not number.is_snan()),  # those have no hash
    st.fractions(),
    st.uuids(),
)
HASHABLE = st.recursive(
    SCALARS, lambda inner: st.lists(inner).map(tuple) | st.frozensets(inner), max_leaves=6
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner),
        st.lists(inner).map(tuple),
        st.sets(HASHABLE),
        st.dictionaries(st.text() | st.just("__type__"), inner),
        st.dictionaries(HASHABLE, inner),
    ),
    max_leaves=20,
)


def picture(value):
    """Return a text that tells values apart which are equal but not the same (1 and 1.0, NaN)."""
    if isinstance(value, (set, frozenset)):
        return f"{type(value).__name__}{sorted(map(picture, value))}"
    if isinstance(value, dict):
        return f"dict{[(picture(key), picture(item)) for key, item in value.items()]}"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__}{[picture(item) for item in value]}"
    return f"{type(value).__name__} {value!r}"


@given(VALUES)
def test_every_value_comes_back_the_same(value):
    text = codec.encode(value)
    assert protocol.check_json(text) == text
    assert text.isascii()
    assert "\n" not in text
    for trusted in (False, True):
        assert picture(codec.decode(text, trusted=trusted)) == picture(value)


@settings(max_examples=30)
@given(VALUES)
def test_data_and_text_are_the_same_form(value):
    assert json.dumps(codec.to_data(value), separators=(",", ":")) == codec.encode(value)


def test_large_integers_and_shortcuts():
    value = {"flat": [10**5000, -(10**5000), 1.5], "nan": [math.nan], "deep": [[math.inf]]}
    back = codec.decode(codec.encode(value))
    assert back["flat"] == value["flat"]
    assert math.isnan(back["nan"][0])
    sys.set_int_max_str_digits(0)
    try:
        text = codec.encode([10**5000])
    finally:
        sys.set_int_max_str_digits(sys.int_info.default_max_str_digits)
    assert '"__type__":"int"' in text


class Colour(enum.IntEnum):
    RED = 3


class Word(str, enum.Enum):  # noqa: UP042 (unlike StrEnum, its str() is not its text)
    HELLO = "hello"


Point = collections.namedtuple("Point", "x y")


class Rude(dict):
    def items(self):
        raise RuntimeError

    __iter__ = keys = values = __len__ = items


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Colour.RED, 3),
        (Word.HELLO, "hello"),
        (Point(1, 2), (1, 2)),
        (collections.OrderedDict(a=1), {"a": 1}),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        (Rude(a=1), {"a": 1}),
        ([True, 1], [True, 1]),
        ({1: "a", "1": "b", None: "c"}, {1: "a", "1": "b", None: "c"}),
        ({"__type__": "set", "__value__": [1]}, {"__type__": "set", "__value__": [1]}),
        ("5", "5"),
        ('{"a": 1}', '{"a": 1}'),
    ],
)
def test_what_other_codecs_change(value, expected):
    assert picture(codec.decode(codec.encode(value))) == picture(expected)


class Model:
    def to_json(self):
        return '{"layers": 3}'


class Broken:
    def to_json(self):
        return 5


def test_objects_that_write_themselves():
    assert codec.encode(Model()) == '{"__type__":"to_json","__value__":"{\\"layers\\": 3}"}'
    assert codec.decode(codec.encode([Model()])) == ['{"layers": 3}']
    with pytest.raises(EncodingError, match=r"^value: cannot carry a Broken: TypeError"):
        codec.encode(Broken())


def nested(depth, inner=1):
    value = inner
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [1, 2, 3, (x for x in ())]}, r"^result\['a'\]\[3\]: cannot carry a generator$"),
        ({"a": ({1: object()},)}, r"^result\['a'\]\[0\]\[0\]\[1\]: cannot carry an object$"),
        (range(3), r"^result: cannot carry a range$"),
        (Exception, r"^result: cannot carry a type$"),
        (nested(65), r"nested deeper than 64"),
        (nested(63, inner=(1,)), r"nested deeper than 64"),
        (bytearray(b"x"), r"cannot carry a bytearray"),
        ("," * (protocol.MAX_NODES + 1), r"more than 4000000 parts"),
    ],
)
def test_what_cannot_be_carried_says_where(value, message):
    with pytest.raises(EncodingError, match=message):
        codec.encode(value, "result")


def test_malformed_data_says_where():
    with pytest.raises(DecodingError, match=r"^inputs\['a'\]\[0\]: not of the form .* 'set': "):
        codec.from_data({"a": [tagged("set", 5)]}, "inputs")


def test_what_contains_itself(monkeypatch):
    value = {"a": []}
    value["a"].append((value,))
    with pytest.raises(EncodingError, match=r"^value\['a'\]\[0\]\[0\]: contains itself$"):
        codec.encode(value)
    monkeypatch.setattr(protocol, "MAX_NODES", 100_000)
    laughs = ["ha"]
    for _ in range(40):
        laughs = [laughs] * 10
    with pytest.raises(EncodingError, match="more than 100000 parts"):
        codec.encode(laughs)


def test_the_deepest_that_is_carried():
    assert codec.decode(codec.encode(nested(64))) == nested(64)
    assert codec.decode(codec.encode(nested(62, inner=(1,)))) == nested(62, inner=(1,))


def tagged(tag, value):
    return {"__type__": tag, "__value__": value}


MALFORMED = [
    *(tagged(tag, value) for tag in table.BY_TAG for value in (None, 5, [], {}, "x", [[]], [1, 2])),
    {"__type__": "set"},
    {"__type__": "set", "__value__": [], "more": 1},
    {"__type__": 5, "__value__": 1},
    {"__type__": None},
    tagged("set", [[1]]),
    tagged("dict", [[[1], 2]]),
    tagged("Fraction", [1, 0]),
    tagged("Fraction", "1e999999999"),
    tagged("timedelta", [10**12, 0, 0]),
    tagged("bytes", "not base64!"),
    tagged("ndarray", base64.b64encode(b"not zlib").decode()),
    tagged("float", ["nan"]),
    tagged("int", "0x" + "g"),
    tagged("datetime", "yesterday"),
]


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("data", MALFORMED, ids=lambda data: json.dumps(data)[:60])
def test_malformed_data_raises_one_exception_only(data, trusted):
    with contextlib.suppress(DecodingError):
        codec.from_data({"a": [data]}, "inputs", trusted=trusted)


@pytest.mark.parametrize("text", ["", "NaN", "[1e999", "[" * 100_000, "9" * 5000, "[Infinity]"])
def test_text_that_is_not_json(text):
    with pytest.raises(DecodingError):
        codec.decode(text)


def test_hostile_nesting_and_hashes():
    with pytest.raises(DecodingError, match="nested deeper"):
        codec.from_data(nested(70))
    modulus = sys.hash_info.modulus
    colliding = [modulus * n for n in range(1, 5000)]
    for data in (
        tagged("set", colliding),
        tagged("frozenset", colliding),
        tagged("dict", [[key, 0] for key in colliding]),
    ):
        with pytest.raises(DecodingError, match="made to collide"):
            codec.from_data(data)


def test_unknown_types_are_opaque_on_the_host_and_refused_in_the_guest():
    settings = {"__type__": "settings", "__module__": "subprocess", "__class__": "Popen"}
    (value,) = codec.decode(json.dumps([settings]))
    assert value == Value(settings)
    with pytest.raises(DecodingError, match="unknown type 'settings'"):
        value.decode()
    with pytest.raises(DecodingError, match=r"^inputs\['s'\]: .*unknown type 'settings'"):
        codec.from_data({"s": settings}, "inputs", trusted=True)
    circuit = tagged("QuantumCircuit", "AAAA")
    assert codec.from_data(circuit) == Value(circuit)


def test_an_opaque_value_goes_back_as_it_came():
    raw = tagged("QuantumCircuit", "AAAA")
    assert codec.encode({"c": Value(raw)}) == json.dumps({"c": raw}, separators=(",", ":"))


def test_importing_and_encoding_load_no_library():
    code = (
        "import sys; from sandbox import codec\n"
        "codec.decode(codec.encode([1, 'x', (2.5, {3}), {'a': b'x', 4: None}]))\n"
        "print(*sorted({'numpy', 'qiskit', 'decimal', 'fractions', 'uuid', 'datetime'} "
        "& set(sys.modules)))"
    )
    command = [sys.executable, "-P", "-S", "-c", code]
    assert subprocess.check_output(command, env={"PYTHONPATH": str(ROOT)}, text=True) == "\n"


def test_the_examples_of_each_row():
    samples = [
        1j, (1,), {1}, frozenset({1}), {1: 2}, b"x", math.nan, 10**5000,
        datetime.datetime(2021, 5, 1, tzinfo=datetime.UTC), datetime.date(2021, 5, 1),
        datetime.timedelta(1), decimal.Decimal("1.50"), fractions.Fraction(1, 3), uuid.UUID(int=1),
        Model(),
    ]  # fmt: skip
    tags = {json.loads(codec.encode(each))["__type__"] for each in samples}
    assert tags == set(table.BY_TAG) - {"ndarray", "numpy", "QuantumCircuit", "Result"}


class TestArrays:
    """NumPy's values; where NumPy is not installed, arrays stay opaque."""

    @pytest.fixture(autouse=True)
    def _numpy(self):
        self.np = pytest.importorskip("numpy", reason="NumPy is not installed on this host")

    def back(self, value):
        return codec.decode(codec.encode(value))

    @pytest.mark.parametrize(
        "make",
        [
            "arange(6).reshape(2, 3)",
            "arange(6).reshape(2, 3).T",
            "asfortranarray(np.ones((3, 2)))",
            "arange(10)[::3]",
            "array(5.5)",
            "array([])",
            "zeros((0, 3))",
            "array([True, False])",
            "array([1 + 2j, np.nan], dtype='complex64')",
            "array(['a', 'bcd'])",
            "array([b'a'])",
            "array(['2021-05-01'], dtype='datetime64[D]')",
            "array([1, 2], dtype='>i2')",
            "array([(1, 2.0)], dtype=[('a', 'i4'), ('b', 'f8')])",
            "array([((1,), [2.0, 3.0])], dtype=[('a', [('c', 'i4')]), ('b', 'f8', (2,))])",
            "longdouble([1.5])",
        ],
    )
    def test_arrays_come_back(self, make):
        array = eval(f"np.{make}", {"np": self.np})
        back = self.back(array)
        assert back.dtype == array.dtype
        assert back.shape == array.shape
        assert back.tobytes() == array.tobytes()
        assert back.flags.writeable

    @pytest.mark.parametrize(
        "make",
        [
            "float32(1.1)", "float64('nan')", "int8(-3)", "uint64(2**64 - 1)", "bool_(True)",
            "complex64(1 + 2j)", "complex128(3j)", "str_('x')", "float16(0.1)", "longdouble('1.1')",
            "datetime64('2021-05-01')", "timedelta64(3, 's')", "bytes_(b'x')",
        ],
    )  # fmt: skip
    def test_scalars_come_back(self, make):
        value = eval(f"np.{make}", {"np": self.np})
        back = self.back([value])[0]
        assert type(back) is type(value)
        assert repr(back) == repr(value)

    def test_small_scalars_are_readable(self):
        data = json.loads(codec.encode(self.np.float64(0.5)))
        assert data == tagged("numpy", ["<f8", 0.5])

    @pytest.mark.parametrize(
        "make",
        ["array([object()])", "array([(1, None)], dtype=[('a', 'i4'), ('b', 'O')])"],
    )
    def test_arrays_of_objects_are_refused(self, make):
        value = eval(f"np.{make}", {"np": self.np})
        with pytest.raises(
            EncodingError, match=r"^value\['x'\]: cannot carry a ndarray: .* object"
        ):
            codec.encode({"x": value})

    def test_masked_arrays_do_not_lose_their_mask(self):
        with pytest.raises(EncodingError, match="MaskedArray"):
            codec.encode(self.np.ma.masked_array([1, 2], mask=[True, False]))

    def npy(self, header, content=b""):
        text = (header + " " * (117 - len(header)) + "\n").encode()
        packed = zlib.compress(b"\x93NUMPY\x01\x00\x76\x00" + text + content)
        return tagged("ndarray", base64.b64encode(packed).decode())

    @pytest.mark.parametrize(
        "header",
        [
            "{'descr': '<f8', 'fortran_order': False, 'shape': (100000000000,)}",
            "{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}",
            "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
            "{'descr': '|V0', 'fortran_order': False, 'shape': (10**9,)}",
            "{'descr': '<U0', 'fortran_order': False, 'shape': (1000000000000,)}",
            "{'descr': 5, 'fortran_order': False, 'shape': (1,)}",
            "__import__('os')",
            "[" * 100,
        ],
    )
    def test_hostile_headers(self, header):
        with pytest.raises(DecodingError):
            codec.from_data(self.npy(header, b"12345678"))

    def test_bombs_are_measured_all_together(self, monkeypatch):
        monkeypatch.setattr(codec, "MAX_UNPACKED_BYTES", 20_000)
        one = codec.to_data(self.np.zeros(1000))
        assert len(codec.from_data([one, one])) == 2
        with pytest.raises(DecodingError, match="more than 20000 bytes"):
            codec.from_data([one, one, one])
        assert len(codec.from_data([one, one, one], trusted=True)) == 3


def test_arrays_are_opaque_without_numpy(monkeypatch):
    monkeypatch.setitem(sys.modules, "numpy", None)
    raw = tagged("ndarray", "AAAA")
    assert codec.from_data([raw]) == [Value(raw)]


@pytest.mark.qiskit
class TestQiskit:
    """Qiskit's values, where it is installed."""

    @pytest.fixture(autouse=True)
    def _qiskit(self):
        self.qiskit = pytest.importorskip("qiskit", reason="Qiskit is not installed on this host")

    def circuit(self):
        circuit = self.qiskit.QuantumCircuit(2, 2, name="bell")
        circuit.h(0)
        circuit.cx(0, 1)
        circuit.measure([0, 1], [0, 1])
        return circuit

    def test_circuits_come_back_when_asked_for(self):
        text = codec.encode({"c": self.circuit()})
        value = codec.decode(text)["c"]
        assert isinstance(value, Value)
        assert value.decode() == self.circuit()
        assert codec.decode(text, trusted=True)["c"] == self.circuit()

    def test_old_circuits_are_refused_on_the_host(self):
        raw = codec.to_data(self.circuit())
        content = bytearray(zlib.decompress(base64.b64decode(raw["__value__"])))
        content[6] = 12
        old = Value(tagged("QuantumCircuit", base64.b64encode(zlib.compress(content)).decode()))
        with pytest.raises(DecodingError, match="QPY 12; reading one before 13 is not safe"):
            old.decode()

    def test_results_come_back_when_asked_for(self):
        aer = pytest.importorskip("qiskit_aer", reason="Aer is not installed on this host")
        result = aer.AerSimulator(seed_simulator=1).run(self.circuit(), shots=50).result()
        value = codec.decode(codec.encode(result))
        assert value.decode().get_counts() == result.get_counts()

    def test_counts_are_plain(self):
        counts = self.qiskit.result.Counts({"00": 3, "11": 4})
        assert codec.encode(counts) == '{"00":3,"11":4}'
