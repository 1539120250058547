"""Values as tagged JSON: exact round trips, paths in refusals, and hostile data."""

import base64
import collections
import contextlib
import copy
import dataclasses
import datetime
import decimal
import enum
import fractions
import json
import math
import pickle
import subprocess
import sys
import types
import zoneinfo
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox import codec
from sandbox.codec import DecodingError, EncodingError, Value, decoding, table
from sandbox.codec.records import EnumRecord, Record, TupleRecord
from sandbox.wire import protocol

ROOT = Path(__file__).parents[2]

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters()),  # lone surrogates too
    st.complex_numbers(),
    st.binary(),
    st.datetimes(timezones=st.none() | st.just(datetime.UTC) | st.timezones()),
    st.times(),
    st.dates(),
    st.timedeltas(),
    st.decimals().filter(lambda number: not number.is_snan()),  # those have no hash
    st.fractions(),
    st.uuids(),
    st.builds(range, st.integers(), st.integers(), st.integers(1)),
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
        st.dictionaries(HASHABLE, inner).map(collections.OrderedDict),
        st.builds(collections.deque, st.lists(inner), st.none() | st.integers(0, 99)),
        st.binary().map(bytearray),
    ),
    max_leaves=20,
)


def picture(value):
    """Return a text that tells values apart which are equal but not the same (1 and 1.0, NaN)."""
    if isinstance(value, (set, frozenset)):
        return f"{type(value).__name__}{sorted(map(picture, value))}"
    if isinstance(value, dict):
        items = [(picture(key), picture(item)) for key, item in value.items()]
        return f"{type(value).__name__}{items}"
    if isinstance(value, (list, tuple, collections.deque)):
        more = getattr(value, "maxlen", "")
        return f"{type(value).__name__}{more}{[picture(item) for item in value]}"
    return f"{type(value).__name__} {value!r}"


@settings(max_examples=60)
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


class Rude(dict):
    def items(self):
        raise RuntimeError

    __iter__ = keys = values = __len__ = items


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Rude(a=1), {"a": 1}),
        (type("Name", (str,), {})("x"), "x"),
        (type("Number", (int,), {})(3), 3),
        ([True, 1], [True, 1]),
        ({1: "a", "1": "b", None: "c"}, {1: "a", "1": "b", None: "c"}),
        ({"__type__": "set", "__value__": [1]}, {"__type__": "set", "__value__": [1]}),
        ("5", "5"),
        ('{"a": 1}', '{"a": 1}'),
    ],
)
def test_what_other_codecs_change(value, expected):
    assert picture(codec.decode(codec.encode(value))) == picture(expected)


UTC1 = datetime.timezone(datetime.timedelta(hours=1))
NAMED = datetime.timezone(datetime.timedelta(hours=-1, seconds=5), "here")
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    "value",
    [
        collections.OrderedDict([("b", 1), ("a", 2)]),
        collections.Counter("aab"),
        collections.defaultdict(list, {1: [2]}),
        collections.defaultdict(None, {"a": 1}),
        collections.deque([1, (2,)], 3),
        types.SimpleNamespace(a=1j, b=[{3}]),
        slice(1, None, 2.5),
        datetime.datetime(2021, 5, 1, 12, tzinfo=UTC1),
        datetime.datetime(2021, 10, 31, 2, 30, tzinfo=BERLIN, fold=1),
        datetime.datetime(2021, 10, 31, 2, 30, fold=1),  # noqa: DTZ001
        datetime.time(3, 4, 5, 6, tzinfo=NAMED),
    ],
    ids=repr,
)
def test_more_of_the_standard_library_comes_back(value):
    back = codec.decode(codec.encode(value))
    assert type(back) is type(value)
    assert repr(back) == repr(value)
    assert back == value


@pytest.mark.parametrize("zone", [UTC1, NAMED, BERLIN, datetime.UTC])
def test_time_zones_keep_their_names(zone):
    when = datetime.datetime(2021, 7, 1, tzinfo=zone)
    back = codec.decode(codec.encode(when))
    assert repr(back.tzinfo) == repr(zone)
    assert back.tzname() == when.tzname()


class Colour(enum.Enum):
    RED = (1, 0)


class Level(enum.IntEnum):
    HIGH = 3


Point = collections.namedtuple("Point", "x y")


class Marked(Point):
    """A named tuple that may have attributes besides."""


@dataclasses.dataclass
class Step:
    cost: float
    point: Point


class TestClassesOfTheProgram:
    """They are never imported by name: records that know their class arrive."""

    def back(self, value):
        text = codec.encode(value)
        back = codec.decode(text)
        assert codec.encode(back) == text
        assert codec.decode(text, trusted=True) == back
        assert copy.deepcopy(back) == back
        return back

    def test_a_dataclass_arrives_as_a_record_with_its_fields(self):
        back = self.back(Step(math.inf, Point(1, 2j)))
        assert isinstance(back, Record)
        assert (back.class_name, back.cost, back.point.y) == ("Step", math.inf, 2j)
        assert repr(back) == "Step(cost=inf, point=Point(x=1, y=2j))"
        assert back.as_dict().keys() == {"cost", "point"}
        with pytest.raises(AttributeError, match="read-only"):
            back.cost = 1
        with pytest.raises(AttributeError, match="'Step' has no field 'shots'"):
            _ = back.shots
        assert back != self.back(Step(1.0, Point(1, 2j)))

    def test_a_named_tuple_arrives_as_a_tuple_with_names(self):
        back = self.back(Point(1, [2]))
        assert isinstance(back, TupleRecord)
        assert (back.class_name, back.x, back[1], back) == ("Point", 1, [2], (1, [2]))
        assert back._asdict() == {"x": 1, "y": [2]}

    def test_attributes_that_are_no_fields_come_along(self):
        for value in (Step(1.0, Point(1, 2)), Marked(1, 2)):
            value.note, value._private = {"n": (1, 2)}, object()
            back = self.back(value)
            assert back.note == {"n": (1, 2)}
            assert not hasattr(back, "_private")
            assert pickle.loads(pickle.dumps(back)).note == back.note
            value.note = object()
            with pytest.raises(
                EncodingError, match=r"^r\['more'\]\['note'\]: cannot carry an object"
            ):
                codec.encode(value, "r")
        one, other = (Step(1.0, Point(1, 2)) for _ in range(2))
        one.note = 1
        assert self.back(one) != self.back(other)

    def test_statistics_of_scipy_keep_what_is_no_item(self):
        stats = pytest.importorskip("scipy.stats")
        line = stats.linregress([1, 2, 3, 4], [1, 3, 2, 5])
        assert self.back(line).intercept_stderr == line.intercept_stderr
        test = stats.ttest_ind([1.0, 2, 3], [2.0, 3, 5])
        assert (self.back(test).pvalue, self.back(test).df) == (test.pvalue, test.df)

    def test_a_member_of_an_enumeration_arrives_with_name_and_value(self):
        for member in (Colour.RED, Level.HIGH):
            back = self.back(member)
            assert isinstance(back, EnumRecord)
            assert (back.name, back.value) == (member.name, member.value)
        assert repr(back) == "<Level.HIGH: 3>"
        assert len({back, self.back(Level.HIGH)}) == 1

    def test_what_is_in_them_is_refused_by_its_path(self):
        with pytest.raises(
            EncodingError, match=r"^value\['fields'\]\['cost'\]: cannot carry an obj"
        ):
            codec.encode(Step(object(), None))


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


class Zone(datetime.tzinfo):
    def utcoffset(self, when):
        return datetime.timedelta(0)


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
        (Exception, r"^result: cannot carry a type$"),
        ([ValueError("x")], r"^result\[0\]: cannot carry a ValueError$"),
        ({"f": len}, r"^result\['f'\]: cannot carry a builtin_function_or_method$"),
        (json, r"^result: cannot carry a module$"),
        (sys.stdout, r"^result: cannot carry an? \w+$"),
        (collections.defaultdict(lambda: 1), r"default_factory is no type of Python's own"),
        (datetime.datetime(2021, 1, 1, tzinfo=Zone()), r"its time zone is a Zone; use those of"),
        (nested(65), r"nested deeper than 64"),
        (nested(63, inner=(1,)), r"nested deeper than 64"),
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
    tagged("datetime", ["2021-01-01", "../../etc/passwd", 0]),
    tagged("datetime", ["2021-01-01", "No/Such", 0]),
    tagged("defaultdict", ["eval", []]),
    tagged("deque", [[], -1]),
    tagged("dataclass", {"class": 5, "fields": {}}),
    tagged("enum", {"class": "E", "name": "x"}),
    tagged("SimpleNamespace", {"a": 1, "": 2}),
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
    colliding = [modulus * n for n in range(1, 18)]
    assert codec.from_data(tagged("set", colliding[:16])) == set(colliding[:16])
    for data in (
        tagged("set", colliding),
        tagged("frozenset", colliding),
        *(tagged(kind, [[key, 0] for key in colliding]) for kind in ("dict", "OrderedDict")),
        tagged("Counter", [[key, 0] for key in colliding]),
        tagged("defaultdict", [None, [[key, 0] for key in colliding]]),
        tagged("set", [tagged("tuple", [key]) for key in colliding]),
        tagged("set", [tagged("Fraction", [key, 1]) for key in colliding]),
        tagged("set", [tagged("frozenset", [key]) for key in colliding[:2]]),
        tagged("set", [tagged("tuple", [tagged("frozenset", [key])]) for key in colliding[:2]]),
    ):
        with pytest.raises(DecodingError, match="made to collide"):
            codec.from_data(data)
        assert codec.from_data(data, trusted=True)


def test_keys_of_different_hashes_that_take_too_long_are_refused(monkeypatch):
    keys = list(range(1000))
    assert codec.from_data(tagged("set", keys)) == set(keys)
    monkeypatch.setattr(decoding, "KEYS_S", -1.0)
    for data in (tagged("set", keys), tagged("dict", [[key, 0] for key in keys])):
        with pytest.raises(DecodingError, match="made to collide"):
            codec.from_data(data)
        assert len(codec.from_data(data, trusted=True)) == 1000


@pytest.mark.parametrize(
    ("value", "beyond"),
    [
        (fractions.Fraction(2**13_999, 3), fractions.Fraction(2**14_000, 3)),
        (fractions.Fraction(3, 2**13_999), fractions.Fraction(3, 2**14_000)),
        (range(2**13_999), range(2**14_000)),
        (range(-(2**13_999), 0, 7), range(-(2**14_000), 0, 7)),
        (decimal.Decimal("1e10000"), decimal.Decimal("1e10001")),
        (decimal.Decimal("1e-10000"), decimal.Decimal("1e-10001")),
        (decimal.Decimal("9" * 10_000), decimal.Decimal("9" * 10_001)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_numbers_that_could_cost_too_much_stay_as_they_came(value, beyond):
    assert codec.decode(codec.encode(value)) == value
    opaque, one = codec.decode(codec.encode([beyond, 1]))
    assert (type(opaque), one) == (Value, 1)
    with pytest.raises(DecodingError, match="that could cost too much: more than 1"):
        opaque.decode()
    assert codec.decode(codec.encode(beyond), trusted=True) == beyond
    assert json.loads(codec.encode([opaque])) == [opaque.raw]


@pytest.mark.parametrize("name", ["__array_interface__", "__array__", "__x__", "_as_parameter_"])
def test_no_attribute_of_a_record_is_a_protocol(name):
    for data in (
        tagged("SimpleNamespace", {name: 1}),
        tagged("dataclass", {"class": "C", "fields": {"a": 1, name: {}}}),
        tagged("namedtuple", {"class": "C", "fields": {name: 1}}),
        tagged("dataclass", {"class": "C", "fields": {}, "more": {name: 1}}),
        tagged("namedtuple", {"class": "C", "fields": {}, "more": {name: 1}}),
    ):
        with pytest.raises(DecodingError, match="an attribute called '_"):
            codec.from_data(data)
    for fine in ("_", "__", "_a", "a_", "__a"):
        assert codec.from_data(tagged("SimpleNamespace", {fine: 1})).__dict__ == {fine: 1}


def test_fields_of_records_have_names_that_are_text():
    for fields in ([["a", 1]], tagged("dict", [[1, 2]]), tagged("Counter", [["a", 1]])):
        with pytest.raises(DecodingError, match="instead of a"):
            codec.from_data(tagged("dataclass", {"class": "C", "fields": fields}))


def test_a_zone_that_is_not_there_stays_as_it_came():
    data = tagged("datetime", ["2021-01-01", "No/Such", 0])
    assert codec.from_data([data, 1]) == [Value(data), 1]


def test_base64_that_goes_on_after_its_end_is_refused():
    for text in ("AA==AAAA", "A===", "AAA=" + "A" * (1 << 19)):
        with pytest.raises(DecodingError):
            codec.from_data(tagged("bytes", text))
    content = bytes(range(256)) * 3000
    assert codec.decode(codec.encode(content)) == content


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
