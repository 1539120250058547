"""Qiskit's values as tagged JSON: opaque on the host until asked for, then equal."""

import base64
import io
import json
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import qiskit.qpy
from qiskit import QuantumCircuit
from qiskit import quantum_info as info
from qiskit.circuit import (
    AncillaRegister,
    Barrier,
    ClassicalRegister,
    Measure,
    Parameter,
    ParameterVector,
    QuantumRegister,
    Qubit,
)
from qiskit.circuit.library import (
    PauliEvolutionGate,
    QFTGate,
    RXGate,
    UnitaryGate,
    XGate,
    efficient_su2,
)
from qiskit.primitives import BitArray, DataBin, StatevectorEstimator, StatevectorSampler
from qiskit.primitives.containers.bindings_array import BindingsArray
from qiskit.primitives.containers.estimator_pub import EstimatorPub
from qiskit.primitives.containers.observables_array import ObservablesArray
from qiskit.primitives.containers.sampler_pub import SamplerPub
from qiskit.providers import Options
from qiskit.result import Counts, Result
from qiskit.transpiler import CouplingMap
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel, depolarizing_error, thermal_relaxation_error

from sandbox import codec
from sandbox.codec import DecodingError, EncodingError, Value, table, trial
from sandbox.codec.rows import pack

GOLDEN = Path(__file__).parents[1] / "golden"
THETA = Parameter("θ")
VECTOR = ParameterVector("v", 3)


def bell():
    circuit = QuantumCircuit(2, 2, name="bell")
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.measure([0, 1], [0, 1])
    return circuit


def ansatz():
    circuit = QuantumCircuit(2, name="ansatz")
    circuit.rx(2 * THETA + 1, 0)
    circuit.rz(VECTOR[1].sin(), 1)
    return circuit


def switched():
    circuit = bell()
    with circuit.if_test((circuit.clbits[0], 1)):
        circuit.x(1)
    circuit.append(PauliEvolutionGate(info.SparsePauliOp("XX"), THETA), [0, 1])
    circuit.append(UnitaryGate(np.eye(4)), [0, 1])
    circuit.append(QFTGate(2), [0, 1])
    return circuit


KRAUS = info.Kraus(depolarizing_error(0.1, 1))
EQUAL = {
    "circuit": bell(),
    "circuit with parameters": ansatz(),
    "circuit with control flow": switched(),
    "library circuit": efficient_su2(3, reps=1),
    "gate": XGate(),
    "gate with parameter": RXGate(THETA * 2),
    "gate with label": RXGate(0.5, label="turn"),
    "measure": Measure(),
    "barrier": Barrier(3),
    "parameter": THETA,
    "element": VECTOR[1],
    "expression": 2 * THETA + VECTOR[0].sin(),
    "quantum register": QuantumRegister(3, "a"),
    "classical register": ClassicalRegister(2),
    "ancillas": AncillaRegister(2, "x"),
    "coupling": CouplingMap([[0, 1], [1, 2]]),
    "noise": NoiseModel(),
    "Pauli": info.Pauli("-iXYZ"),
    "PauliList": info.PauliList(["XX", "-iZI"]),
    "SparsePauliOp": info.SparsePauliOp(["XX", "ZI"], [1, 2j]),
    "SparsePauliOp with parameters": info.SparsePauliOp(["XX", "ZI"], [THETA, 2 * THETA]),
    "Operator": info.Operator(np.eye(4), input_dims=(2, 2), output_dims=(4,)),
    "Statevector": info.Statevector([1, 0, 0, 0, 0, 0], dims=(2, 3)),
    "DensityMatrix": info.DensityMatrix(np.eye(2) / 2),
    "StabilizerState": info.StabilizerState(efficient := QuantumCircuit(2)),
    "Clifford": info.Clifford(efficient),
    "ScalarOp": info.ScalarOp((2, 3), 2.0),
    "Kraus": KRAUS,
    "SuperOp": info.SuperOp(KRAUS),
    "Choi": info.Choi(KRAUS),
    "PTM": info.PTM(KRAUS),
    "Chi": info.Chi(KRAUS),
    "Stinespring": info.Stinespring(KRAUS),
    "SparseObservable": info.SparseObservable.from_label("XZ+-01lr") * 2j,
    "PauliLindbladMap": info.PauliLindbladMap([("XX", 0.1), ("ZI", 0.2)]),
    "QubitSparsePauli": info.QubitSparsePauli("XIZ"),
    "QubitSparsePauliList": info.QubitSparsePauliList(["XIZ", "III"]),
    "PhasedQubitSparsePauli": info.PhasedQubitSparsePauli("XIZ"),
    "PhasedQubitSparsePauliList": info.PhasedQubitSparsePauliList(["XIZ"]),
    "BitArray": BitArray.from_samples(["00", "11"]),
}
EQUAL["noise"].add_all_qubit_quantum_error(depolarizing_error(0.1, 1), ["x"])
EQUAL["noise"].add_quantum_error(thermal_relaxation_error(50, 70, 1), ["h"], [0])
EQUAL["noise"].add_readout_error([[0.9, 0.1], [0.2, 0.8]], [1])

SAME = {  # classes that do not compare: their content in encoded form does
    "vector": VECTOR,
    "options": Options(shots=5, seed=[1, np.float64(2)]),
    "sampled": StatevectorSampler(seed=1).run([bell()], shots=10).result(),
    "estimated": StatevectorEstimator(seed=1).run([(ansatz(), ["XX", "ZI"], [1, 2])]).result(),
    "DataBin": DataBin(evs=np.zeros((2, 3)), shape=(2,)),
    "observables": ObservablesArray([[{"XX": 1.0}], [{"0+": 0.5, "ZI": 2.0}]]),
    "one observable": ObservablesArray({"XX": 1.0}),
    "bindings": BindingsArray({("a",): np.zeros((2, 1)), tuple(VECTOR): np.ones((2, 3))}),
    "sampler pub": SamplerPub.coerce((bell(),), shots=7),
    "estimator pub": EstimatorPub.coerce((efficient_su2(2, reps=0), ["XX"], [1.0] * 4)),
}


def both_ways(value):
    """Return the value as the host's caller gets it; the guest's way must be the same."""
    text = codec.encode({"x": value})
    held = codec.decode(text)["x"]
    assert isinstance(held, Value)
    assert codec.encode({"x": held}) == text
    found, inside = held.decode(), codec.decode(text, trusted=True)["x"]
    assert type(found) is type(inside) is type(value)
    return found


@pytest.mark.parametrize("name", EQUAL)
def test_it_comes_back_equal(name):
    assert both_ways(EQUAL[name]) == EQUAL[name]


@pytest.mark.parametrize("name", SAME)
def test_it_comes_back_with_the_same_content(name):
    assert codec.encode(both_ways(SAME[name])) == codec.encode(SAME[name])


def test_every_row_of_qiskits_has_an_example():
    found = set()
    for value in [*EQUAL.values(), *SAME.values()]:
        for part in json.loads(codec.encode([value])):
            collect(part, found)
    needs_trust = {row.key for row in table.BY_TAG.values() if row.needs_trust}
    assert needs_trust - found == {"Result", "qasm"}  # below, and in test_given.py


def collect(data, found):
    if isinstance(data, dict):
        if "__type__" in data:
            name = data.get("__class__")
            found.add(f"{data['__type__']}:{name}" if name else data["__type__"])
        for part in data.values():
            collect(part, found)
    elif isinstance(data, list):
        for part in data:
            collect(part, found)


def test_parameters_stay_the_same_parameters():
    circuit, theta = both_ways([ansatz(), THETA][0]), both_ways(THETA)
    assert circuit.assign_parameters({theta: 0.5}).num_parameters == 1
    elements = list(both_ways(VECTOR))
    assert elements == list(VECTOR)
    assert both_ways(VECTOR[2]).vector.name == "v"


def test_circuits_keep_metadata_that_json_would_change():
    circuit = bell()
    circuit.metadata = {"shape": (1, 2), 3: np.float64(0.5)}
    assert both_ways(circuit).metadata == circuit.metadata
    assert type(both_ways(circuit).metadata["shape"]) is tuple
    circuit.metadata = {"x": object()}
    with pytest.raises(EncodingError, match=r"^value\['c'\]\['metadata'\]\['x'\]: cannot carry an"):
        codec.encode({"c": circuit})


class Ansatz(QuantumCircuit):
    """A class of a program's own."""


def test_a_class_derived_from_circuits_arrives_as_a_circuit():
    circuit = Ansatz(2)
    circuit.cz(0, 1)
    found = codec.decode(codec.encode(circuit)).decode()
    assert type(found) is QuantumCircuit
    assert found == circuit


def test_results_and_counts_come_back():
    result = AerSimulator(seed_simulator=1).run(bell(), shots=50).result()
    found = both_ways(result)
    assert type(found) is Result
    assert found.to_dict() == result.to_dict()
    counts = Counts({"00": 3, "11": 4})
    assert codec.encode(counts) == '{"00":3,"11":4}'
    assert codec.decode(codec.encode(result.get_counts())) == result.get_counts()


def saved():
    circuit = QuantumCircuit(1)
    circuit.save_statevector()
    return circuit


@pytest.mark.parametrize("shots", [None, 3])
@pytest.mark.parametrize(
    ("what", "kind"),
    [
        ("statevector", info.Statevector),
        ("density_matrix", info.DensityMatrix),
        ("unitary", info.Operator),
        ("superop", info.SuperOp),
        ("stabilizer", info.StabilizerState),
        ("clifford", info.Clifford),
        ("matrix_product_state", tuple),
    ],
)
def test_what_aer_saves_arrives_as_qiskits_own(what, kind, shots):
    circuit = QuantumCircuit(2)
    circuit.h(0)
    getattr(circuit, f"save_{what}")(pershot=shots is not None)
    result = AerSimulator().run(circuit, shots=shots or 1).result()
    if shots is None and kind is not tuple:
        (alone,) = codec.decode(codec.encode([result.data()[what]]), trusted=True)
        assert type(alone) is kind
    whole = codec.decode(codec.encode(result)).decode()
    found, saved = (
        [each.data()[what]] if shots is None else each.data()[what] for each in (whole, result)
    )
    assert list(map(type, found)) == [kind] * len(saved)
    for one, other in zip(found, saved, strict=True):
        if kind is tuple:
            assert codec.encode(one) == codec.encode(other)
        else:
            assert one == kind(other)


def with_validator():
    options = Options(shots=1)
    options.set_validator("shots", int)
    return options


PLACE = r"^result\['x'\]\[0\]: cannot carry an? .*"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (2j * THETA, "QPY does not give it back as it is"),
        (saved(), r"QPY does not give it back as it is \(.save_statevector. at 0: its class"),
        (saved().data[0].operation, "QPY does not give it back as it is"),
        (info.CNOTDihedral(num_qubits=2), "CNOTDihedral"),
        (Qubit(), "Qubit"),
        (QuantumRegister(bits=[Qubit()]), "its bits belong to another register"),
        (with_validator(), "its validators have no plain form"),
        (AerSimulator(), "AerSimulator"),
        (QuantumCircuit, "type"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_come_back_as_it_was_is_refused(value, reason):
    with pytest.raises(EncodingError, match=PLACE + reason):
        codec.encode({"x": [value]}, "result")


# --- hostile --------------------------------------------------------------------------------------


def repacked(raw, change):
    content = bytearray(zlib.decompress(base64.b64decode(raw["__value__"])))
    change(content)
    return Value({**raw, "__value__": base64.b64encode(zlib.compress(content)).decode()})


def put(at, *values):
    def change(content):
        content[at : at + len(values)] = bytes(values)

    return change


OLD = "QPY 12; reading one before 13 is not safe"


def written(version):
    stream = io.BytesIO()
    qiskit.qpy.dump(bell(), stream, version=version)
    return tagged("QuantumCircuit", pack(stream.getvalue()))


AT = {13: 20, 17: 28}
"""Where the circuit begins."""


@pytest.mark.parametrize("version", AT)
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (put(6, 12), OLD),
        (put(0, 0), "not QPY"),
        (put(17, 2), "2 programs of the kind b'q'"),
        (put(18, ord("e")), "symbols as b'e'"),
        (put(19, ord("s")), "of the kind b's'"),
        (5, "not more than 1000000 can be right"),
        (9, "not more than 1000000 can be right"),
    ],
)
def test_the_head_of_a_circuit_is_read_before_qiskit_sees_it(change, reason, version, monkeypatch):
    if isinstance(change, int):
        change = put(AT[version] + change, 0xFF)
    raw = written(version)
    monkeypatch.setattr(qiskit.qpy, "load", None)
    with pytest.raises(DecodingError, match=reason):
        repacked(raw, change).decode()


@pytest.mark.parametrize(
    ("change", "reason"),
    [(put(20, 0xFF), "OverflowError"), (put(24, 0xFF), "unpack_from requires")],
)
def test_where_a_circuit_begins_is_checked_too(change, reason, monkeypatch):
    raw = written(17)
    monkeypatch.setattr(qiskit.qpy, "load", None)
    with pytest.raises(DecodingError, match=reason):
        repacked(raw, change).decode()


@pytest.mark.parametrize("value", [XGate(), 2 * THETA, info.SparsePauliOp("X", [2 * THETA])])
def test_old_qpy_is_refused_wherever_it_is(value, monkeypatch):
    def age(data):
        if isinstance(data, dict) and data.get("__type__") in {"Instruction", "expression"}:
            return repacked(data, put(6, 12)).raw
        if isinstance(data, dict):
            return {key: age(item) for key, item in data.items()}
        return [age(each) for each in data] if isinstance(data, list) else data

    raw = age(codec.to_data([value]))
    monkeypatch.setattr(qiskit.qpy, "load", None)
    with pytest.raises(DecodingError, match=OLD):
        Value(raw).decode()


def test_a_qiskit_that_may_run_what_it_reads_is_not_asked(monkeypatch):
    value = Value(codec.to_data(bell()))
    monkeypatch.setattr(qiskit, "__version__", "1.4.1")
    with pytest.raises(DecodingError, match=r"Qiskit 1\.4\.1 here, whose reading"):
        value.decode()


def tagged(tag, value):
    return {"__type__": tag, "__value__": value}


def settings(module, name, **content):
    return {"__type__": "settings", "__module__": module, "__class__": name, "__value__": content}


PARAMETER = struct.pack("!H16s", 5, bytes(16)) + b"x"


@pytest.mark.parametrize(
    "raw",
    [
        settings("subprocess", "Popen", args=["touch", "/tmp/x"]),
        settings("qiskit.quantum_info.operators.symplectic.pauli", "Popen"),
        settings("os", "Pauli", data="X"),
        settings("qiskit.quantum_info.operators.symplectic.pauli", "Pauli", data="X", more=1),
        tagged("settings", {"data": "X"}),
        tagged("dill", "gASVAAAA"),
        tagged("ParameterExpression", "AAAA"),
        {"__type__": "_json", "__module__": "os", "__class__": "system", "__value__": {}},
        tagged("QuantumRegister", [10**9, "q"]),
        tagged("ParameterVector", ["v", 10**9, tagged("UUID", "0" * 32)]),
        [tagged("ParameterVector", ["v", 900_000, tagged("UUID", "0" * 32)])] * 3,
        tagged("CouplingMap", {"size": 10**9, "edges": [], "description": None}),
        tagged("CouplingMap", {"size": 1, "edges": [[0, 10**5]], "description": None}),
        tagged("Parameter", base64.b64encode(PARAMETER).decode()),
        tagged("Options", [1]),
        tagged("DataBin", {"field_names": [], "shape": [], "fields": {"_data": 1}}),
        tagged("BitArray", {"array": [1], "num_bits": 10**9}),
        tagged("Result", {"results": 5}),
        tagged("NoiseModel", {"errors": [{"type": "qerror", "operations": 5}]}),
        tagged("QuantumCircuit", base64.b64encode(zlib.compress(bytes(10**6))).decode()),
    ],
    ids=lambda raw: json.dumps(raw)[:60],
)
def test_hostile_values_are_refused_when_asked_for(raw):
    with pytest.raises(DecodingError):
        Value(raw).decode()


def test_a_bomb_is_refused_when_asked_for_unless_there_is_room():
    value = Value(codec.to_data(info.Operator(np.eye(1024))))
    with pytest.raises(DecodingError, match="takes more than 1000000 bytes"):
        value.decode(max_bytes=1_000_000)
    assert value.decode() == info.Operator(np.eye(1024))


def test_asking_without_qiskit_says_what_is_missing(monkeypatch):
    value = Value(codec.to_data(info.Pauli("X")))
    monkeypatch.setitem(sys.modules, "qiskit.quantum_info", None)
    with pytest.raises(DecodingError, match="unknown type 'settings': .*qiskit"):
        value.decode()


def test_a_circuit_that_takes_too_much_memory_is_refused_and_the_next_one_is_read(monkeypatch):
    circuit = QuantumCircuit(20)
    for number in range(40_000):
        circuit.rx(number / 7, 0)
    raw = codec.to_data(circuit)
    trial.TRIAL.close()  # the next one has less
    with monkeypatch.context() as patch:
        patch.setattr(trial, "MEMORY_BYTES", 1 << 20)
        with pytest.raises(DecodingError, match="ends the process, or takes more than 1 MiB"):
            Value(raw).decode()
    trial.TRIAL.close()
    assert Value(raw).decode() == circuit


def test_panics_of_rust_are_errors_like_others(monkeypatch):
    class PanicError(BaseException):
        """As pyo3's PanicException."""

    def panic(*_):
        raise PanicError

    monkeypatch.setattr(qiskit.qpy, "load", panic)
    with pytest.raises(DecodingError, match="PanicError"):
        Value(codec.to_data(bell())).decode()
