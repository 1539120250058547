"""Results as text for people, as plain JSON, and as files of NumPy and Qiskit."""

from __future__ import annotations

import base64
import collections
import datetime
import decimal
import io
import json
import math
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qiskit import QuantumCircuit, qpy
from qiskit.primitives import StatevectorSampler
from qiskit.quantum_info import Operator, Pauli, SparseObservable, SparsePauliOp, Statevector

from runner.cli.text import as_text
from runner.display import escape
from runner.encoded import circuits, exports
from runner.encoded.plain import plain_json
from runner.encoded.readable import MAX_CHARS, MAX_PARTS, readable
from sandbox import codec
from sandbox.codec import table

BELL = "QuantumCircuit 'bell': 2 qubits, 2 bits, 5 instructions"


def data_of(value):
    return json.loads(codec.encode(value))


def bell(name="bell"):
    circuit = QuantumCircuit(2, name=name)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.measure_all()
    return circuit


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (np.array([0.125, 1.5]), "[0.125, 1.5] float64 (2,)"),
        (np.arange(9) / 8, "[0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, …] float64 (9,)"),
        (np.eye(2, dtype="i2"), "[[1, 0], [0, 1]] int16 (2, 2)"),
        (np.array([True, False]), "[true, false] bool (2,)"),
        (np.array(2.5), "2.5 float64"),
        (np.array([1j]), "[0+1j] complex128 (1,)"),
        (np.zeros(2_000_000), "array of float64 (2000000,)"),
        (np.array(["a"]), "array of text (1,)"),
        (np.float32(0.5), "0.5"),
        (1 + 2j, "1+2j"),
        ([math.nan, -math.inf], "[NaN, -Infinity]"),
        ((1, "é"), '(1, "é")'),
        ({1: "x"}, '{1: "x"}'),
        (collections.Counter("aab"), '{"a": 2, "b": 1}'),
        (b"ab", "b'ab'"),
        (b"x" * 99, f"b'{'x' * 39}'… (99 bytes)"),
        (datetime.date(2026, 12, 1), "2026-12-01"),
        (decimal.Decimal("1.20"), "1.20"),
        (Pauli("XY"), "Pauli XY"),
        (SparsePauliOp(["XX", "ZI"], [1, -0.5j]), "1 XX + 0-0.5j ZI SparsePauliOp (2 qubits)"),
        (SparseObservable.from_label("XZ"), "1 Z0 X1 SparseObservable (2 qubits)"),
        (bell(), BELL),
        (list(range(100)), "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, … (100 in all)]"),
        ("x" * 1000, f'"{"x" * MAX_CHARS}…" (1000 characters)'),
        ("\x1b[2J\u202e", '"\\u001b[2J\\u202e"'),
    ],
)
def test_what_a_person_reads(value, shown):
    assert readable(data_of(value), 90) == shown


def test_long_lines_are_broken_at_the_parts():
    shown = readable(
        data_of({"energy": -1.5, "parameters": np.ones(8), "list": [[1] * 12] * 3}), 40
    )
    assert shown.split("\n")[:5] == [
        "{",
        '  "energy": -1.5,',
        '  "parameters": [1, 1, 1, 1, 1, 1, 1, 1] float64 (8,),',
        '  "list": [',
        "    [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],",
    ]


def test_counts_are_shown_by_their_frequency():
    counts = {f"{number:05b}": number for number in range(32)}
    shown = readable({"counts": counts}, 200)
    assert shown.startswith('{"counts": {"11111": 31, "11110": 30,')
    assert shown.endswith("… (32 in all)} (496 shots)}")
    sampled = StatevectorSampler(seed=1).run([bell()], shots=100).result()
    assert "BitArray (100 shots of 2 bits)" in readable(data_of(sampled), 80)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.text(max_size=3), inner, max_size=3)
            | st.builds(
                lambda tag, value: {"__type__": tag, "__value__": value},
                st.sampled_from(sorted(table.BY_TAG))
                | st.sampled_from(["SparsePauliOp", "Operator"]),
                inner,
            )
        ),
        max_leaves=12,
    )
)
def test_any_data_is_shown_escaped_and_has_a_plain_form_or_is_named(data):
    shown = readable(data, 40)
    assert escape(shown) == shown
    plain, left = plain_json(data)
    assert left or "__type__" not in json.dumps(plain, allow_nan=False)
    for export in (exports.npy, exports.npz, exports.qpy):
        try:
            export(data)
        except ValueError:
            continue


def test_what_is_shown_is_bounded():
    data = "x"
    for _ in range(20):
        data = [data] * 12
    assert readable(data, 80).count("\n") < 3 * MAX_PARTS
    bomb = base64.b64encode(zlib.compress(b"QISKIT" + bytes(100 << 20))).decode()
    assert "characters, encoded" in readable({"__type__": "Chi", "__value__": bomb}, 80)
    with pytest.raises(ValueError, match="not a circuit"):
        circuits.summary("AAAA")


def test_short_json_is_shown_as_it_is_and_circuits_as_they_are_drawn():
    assert as_text('{"00":489}') == '{"00":489}'
    text = codec.encode({"n": 1, "circuit": bell()})
    shown = as_text(text, draw=lambda found, columns: [f"{len(found)} drawn\n\x1b"], columns=60)
    assert shown.split("\n")[2:] == [f'  "circuit": {BELL}', "  1 drawn", "  \\x1b", "}"]
    assert "QuantumCircuit 'bell'" in as_text(text, draw=lambda *_: [], columns=60)
    assert "too large" in as_text("[" + "1," * (5 << 20) + "1]")


# --- plain ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ({"a": np.arange(3), "b": np.float64(0.5)}, {"a": [0, 1, 2], "b": 0.5}),
        (np.array([1 + 2j]), [[1.0, 2.0]]),
        ([math.nan, math.inf, 1j], [None, None, [0.0, 1.0]]),
        ((1, {2}), [1, [2]]),
        (collections.OrderedDict(a=(1,)), {"a": [1]}),
        (SparsePauliOp(["XX"], [0.5]), [["XX", [0.5, 0.0]]]),
        (Pauli("XY"), "XY"),
        (Statevector([1, 0]), [[1.0, 0.0], [0.0, 0.0]]),
        (Operator(np.eye(1)), [[[1.0, 0.0]]]),
        (datetime.date(2026, 12, 1), "2026-12-01"),
        (np.str_("é"), "é"),
    ],
)
def test_plain_json(value, plain):
    assert plain_json(data_of(value)) == (plain, [])


def test_bits_become_counts_and_what_has_no_plain_form_is_named():
    sampled = StatevectorSampler(seed=1).run([bell()], shots=10).result()
    found, left = plain_json(data_of(sampled))
    assert sum(found["pub_results"][0]["data"]["meas"].values()) == 10
    assert left == []
    data = data_of({"c": [bell()]})
    assert plain_json(data) == (data, ["result['c'][0]: QuantumCircuit"])


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        np.eye(3, order="F")[:, :2],
        np.array(["a", "é"]),
        [1, 2],
        [[1.5, 2], [math.nan, 4]],
        7,
        (1, 2),
    ],
)
def test_arrays_and_numbers_as_npy(value):
    found = np.load(io.BytesIO(exports.npy(data_of(value))), allow_pickle=False)
    expected = np.asarray(value)
    assert found.dtype == expected.dtype
    assert np.array_equal(found, expected, equal_nan=found.dtype.kind == "f")


@pytest.mark.parametrize(
    "value", ["text", [1, [2]], [], [1 << 70], [0.5, 10**400], {"a": 1}, [True], bell()]
)
def test_what_is_no_array(value):
    with pytest.raises(ValueError, match="no array"):
        exports.npy(data_of(value))


def arrays_in(data):
    try:
        content = exports.npz(data)
    except ValueError:
        return []
    found = np.load(io.BytesIO(content), allow_pickle=False)
    return [array.tolist() for array in found.values()]


@pytest.mark.parametrize(
    "data",
    [
        *({"__type__": kind} for kind in ("float", "ndarray", "matrix", "tuple", "QuantumCircuit")),
        *({"__type__": "float", "__value__": value} for value in (None, [], {}, "1", 1)),
        *({"__type__": kind, "__value__": [1.0]} for kind in ([], {}, 1, None)),
    ],
)
def test_what_only_looks_like_a_value_is_no_array_or_one_of_plain_numbers(data):
    with pytest.raises(ValueError, match="no array"):
        exports.npy(data)
    for each in ([data], {"a": data}):
        assert arrays_in(each) in ([], [[1.0]])


def test_all_arrays_as_npz():
    value = {"x/y": np.arange(3), "steps": [{"g": np.eye(2)}, {"g": [1.0, 2.0]}], "n": 1, "t": "x"}
    found = np.load(io.BytesIO(exports.npz(data_of(value))), allow_pickle=False)
    assert sorted(found) == ["steps/0/g", "steps/1/g", "x_y"]
    assert np.array_equal(found["steps/0/g"], np.eye(2))
    assert [*np.load(io.BytesIO(exports.npz(data_of(np.arange(2)))))] == ["result"]
    with pytest.raises(ValueError, match="without any array"):
        exports.npz(data_of({"n": 1}))


def test_names_in_an_archive_lead_nowhere():
    value = {"..": {"/etc": np.arange(1)}}
    assert [*np.load(io.BytesIO(exports.npz(data_of(value))))] == ["_/_etc"]
    assert [*np.load(io.BytesIO(exports.npz({"a\ud800": [1]})))] == ["a?"]
    with pytest.raises(ValueError, match="longer than 1000 characters"):
        exports.npz({"a" * 1001: [1]})


def test_what_is_unpacked_is_bounded():
    for export in (exports.npy, exports.npz):
        with pytest.raises(ValueError, match="more than 10000"):
            export(data_of(np.zeros(10_000)), 10_000)
    with pytest.raises(ValueError, match="or 10000 bytes of them"):
        exports.npz(data_of([np.zeros(600)] * 3), 10_000)


def test_the_circuit_as_qpy():
    content, dropped = exports.qpy(data_of({"counts": {}, "circuit": bell()}))
    assert qpy.load(io.BytesIO(content)) == [bell()]
    assert dropped == []
    with_metadata = bell()
    with_metadata.metadata = {"shape": (1, 2)}
    assert exports.qpy(data_of(with_metadata))[1] == ["metadata"]
    with pytest.raises(ValueError, match="no circuits"):
        exports.qpy(data_of([1]))
    with pytest.raises(ValueError, match="2 circuits"):
        exports.qpy(data_of([bell(), bell()]))
