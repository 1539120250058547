"""The forms of IBM's runtime clients are read, and what their encoder refuses or changes is not.

`tests/golden/ibm` holds what `RuntimeEncoder` of qiskit-ibm-runtime 0.15.1 (with Qiskit 0.45) and
0.51.0 (with Qiskit 2.6) wrote.
"""

import collections
import datetime
import decimal
import fractions
import json
import uuid
from pathlib import Path

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
from qiskit import QuantumCircuit
from qiskit import quantum_info as info
from qiskit.circuit import Parameter, ParameterVector, QuantumRegister
from qiskit.circuit.library import RXGate
from qiskit.primitives import BitArray, PrimitiveResult
from qiskit.transpiler import CouplingMap

from sandbox import codec
from sandbox.codec import DecodingError, EncodingError, Value

GOLDEN = Path(__file__).parents[1] / "golden" / "ibm"
WRITTEN = {path.stem: json.loads(path.read_text()) for path in GOLDEN.glob("*.json")}


def bell():
    circuit = QuantumCircuit(2, 2, name="bell")
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.measure([0, 1], [0, 1])
    return circuit


EXPECTED = {
    "complex": 1 + 2j,
    "datetime": datetime.datetime(2021, 5, 1, 12, 30),  # noqa: DTZ001
    "date": datetime.datetime(2021, 5, 1),  # noqa: DTZ001 (theirs makes it one)
    "set": {1},
    "floats": np.array([[1.5, 2.5], [3.5, 4.5]]),
    "zero_d": np.array(5),
    "structured": np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
    "objects": np.array([[1, "x"], [None, 2]], dtype=object),
    "int64": 3,
    "csr": scipy.sparse.csr_matrix(np.array([[0.0, 1.0], [2.0, 0.0]])),
    "coo": scipy.sparse.coo_matrix(np.array([[0.0, 1.0], [2.0, 0.0]])),
    "to_json": '{"layers": 3}',
    "bell": bell(),
    "gate": RXGate(0.5),
    "pauli": info.Pauli("-iXY"),
    "paulis": info.PauliList(["XX", "-ZI"]),
    "sparse_pauli_op": info.SparsePauliOp(["XX", "ZI"], [1, 2j]),
    "operator": info.Operator(np.eye(2)),
    "statevector": info.Statevector([1, 0]),
    "bit_array": BitArray.from_samples(["00", "11", "11"]),
    "lindblad": info.PauliLindbladMap([("XX", 0.1)]),
}


@pytest.mark.parametrize(
    ("version", "name"), [(version, name) for version in WRITTEN for name in WRITTEN[version]]
)
def test_what_ibms_clients_write_is_read(version, name):
    data = WRITTEN[version][name]
    found = codec.from_data([data], trusted=True)[0]
    if name not in EXPECTED:
        assert type(found).__name__.lower() in NAMES[name]
        return
    expected = EXPECTED[name]
    assert type(found) is type(expected)
    if isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype
    same = found == expected if not scipy.sparse.issparse(found) else (found != expected).nnz == 0
    assert np.all(same)


NAMES = {
    "turn": {"quantumcircuit"},
    "parameter": {"parameter"},
    "result": {"result"},
    "noise": {"noisemodel"},
    "data_bin": {"databin"},
    "sampler_result": {"primitiveresult"},
    "pub_result": {"primitiveresult"},
    "observables": {"observablesarray"},
    "bindings": {"bindingsarray"},
}


def test_what_is_in_ibms_results_is_read_too():
    result = codec.from_data(WRITTEN["0.51.0"]["sampler_result"], trusted=True)
    assert type(result) is PrimitiveResult
    assert result[0].data.meas.get_counts() == {"00": 1, "11": 2}
    assert result[0].metadata == {"shots": 3}
    counts = codec.from_data(WRITTEN["0.15.1"]["result"], trusted=True).get_counts()
    assert counts == {"11": 4}


@pytest.mark.parametrize("name", ["bell", "turn", "gate"])
def test_circuits_of_old_clients_reach_a_program_but_not_the_host(name):
    data = WRITTEN["0.15.1"][name]
    assert codec.from_data(data) == Value(data)
    with pytest.raises(DecodingError, match="reading one before 13 is not safe"):
        Value(data).decode()


@pytest.mark.parametrize(
    "name", ["complex", "set", "floats", "zero_d", "structured", "to_json", "parameter", "pauli"]
)
def test_their_forms_are_written_where_they_carry_the_value(name):
    data = WRITTEN["0.51.0"][name]
    value = codec.from_data(data, trusted=True)
    written = codec.to_data(Model() if name == "to_json" else value)
    assert written.keys() == data.keys()
    for key in written.keys() - {"__value__"}:
        assert written[key] == data[key]


class Model:
    def to_json(self):
        return '{"layers": 3}'


THETA = Parameter("t")
VECTOR = ParameterVector("v", 2)

REFUSED_BY_IBM = {
    "np.int32": np.int32(1),
    "np.uint8": np.uint8(1),
    "np.float32": np.float32(0.1),
    "np.bool_": np.bool_(True),
    "np.complex64": np.complex64(1j),
    "bytes": b"x",
    "bytearray": bytearray(b"x"),
    "frozenset": frozenset({1}),
    "dict with a tuple as key": {(1, 2): 3},
    "timedelta": datetime.timedelta(seconds=1.5),
    "Decimal": decimal.Decimal("1.50"),
    "Fraction": fractions.Fraction(1, 3),
    "UUID": uuid.UUID(int=1),
    "range": range(1, 9, 2),
    "csr_array": scipy.sparse.csr_array(np.eye(2)),
    "ParameterVector": VECTOR,
    "ParameterExpression": 2 * THETA + VECTOR[1],
    "parametrised SparsePauliOp": info.SparsePauliOp(["X"], [THETA]),
    "SparseObservable": info.SparseObservable("+0lX"),
    "QuantumRegister": QuantumRegister(2, "q"),
}
CHANGED_BY_IBM = {
    "tuple": (1, (2,)),
    "int key": {1: 2},
    "float key": {1.5: 2},
    "None key": {None: 2, "None": 3},
    "date": datetime.date(2021, 5, 1),
    "masked array": np.ma.array([1, 2], mask=[True, False]),
    "array of objects": np.array([1, "x", None], dtype=object),
    "ParameterVectorElement": VECTOR[1],
    "OptimizeResult": scipy.optimize.OptimizeResult(x=np.array([1.0]), fun=2.0, success=True),
    "Statevector": info.Statevector([1, 0, 0, 0]),
    "DensityMatrix": info.DensityMatrix(np.eye(2) / 2),
    "CouplingMap": CouplingMap([[0, 1]]),
    "Clifford": info.Clifford(QuantumCircuit(1)),
    "NaN": float("nan"),
    "infinity": float("-inf"),
    "dict with __type__": {"__type__": "set", "__value__": [1]},
    "dict with __type__ only": {"__type__": 5},
    "text that is JSON": '{"a": 1}',
    "text that is a number": "5",
}


@pytest.mark.parametrize("name", REFUSED_BY_IBM)
def test_what_ibms_encoder_refuses_is_carried_both_ways(name):
    assert_carried(REFUSED_BY_IBM[name])


@pytest.mark.parametrize("name", CHANGED_BY_IBM)
def test_what_ibms_encoder_changes_is_carried_as_it_is(name):
    assert_carried(CHANGED_BY_IBM[name])


def assert_carried(value):
    """Out of the sandbox and into it: inside, nothing has to be asked for."""
    text = codec.encode([value])
    ((found,), (inside,)) = codec.decode(text), codec.decode(text, trusted=True)
    for back in (found.decode() if isinstance(found, Value) else found, inside):
        assert type(back) is type(value)
        assert getattr(back, "dtype", None) == getattr(value, "dtype", None)
        if same_by_operator(value):
            assert np.all(back == value)
        else:
            assert codec.encode([back]) == text


def same_by_operator(value):
    does_not_compare = (ParameterVector, scipy.optimize.OptimizeResult, scipy.sparse.csr_array)
    return not isinstance(value, does_not_compare) and np.all(value == value)  # a NaN does not


@pytest.mark.parametrize(
    "value",
    [print, lambda: 1, (x for x in ()), ValueError("x"), collections, Model, iter([])],
    ids=lambda value: type(value).__name__,
)
def test_callables_generators_and_exceptions_are_refused_by_their_path(value):
    with pytest.raises(EncodingError, match=r"^result\['steps'\]\[1\]: cannot carry an? \w+$"):
        codec.encode({"steps": [1, value]}, "result")
