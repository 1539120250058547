"""Noise models act after the journey as they did before, or do not travel."""

import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.circuit import Delay
from qiskit.circuit.library import RXGate, XGate
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit_aer import AerSimulator
from qiskit_aer.noise import (
    LocalNoisePass,
    NoiseModel,
    PauliLindbladError,
    QuantumError,
    RelaxationNoisePass,
    amplitude_damping_error,
    coherent_unitary_error,
    depolarizing_error,
    reset_error,
    thermal_relaxation_error,
)
from qiskit_aer.noise.errors import PauliError

from sandbox import codec
from sandbox.codec import DecodingError, EncodingError, Value, noise


def both_ways(model):
    """Return the model as the host's caller gets it; the guest's must have the same content."""
    text = codec.encode({"x": model})
    found = codec.decode(text)["x"].decode()
    assert type(found) is NoiseModel
    assert codec.encode({"x": found}) == text
    assert codec.encode({"x": codec.decode(text, trusted=True)["x"]}) == text
    assert found == model
    for name in ("basis_gates", "noise_instructions", "noise_qubits"):
        assert getattr(found, name) == getattr(model, name)
    return found


def with_error(error, name="x"):
    model = NoiseModel()
    model.add_all_qubit_quantum_error(error, [name])
    return model


ERRORS = {
    "depolarizing": depolarizing_error(0.1, 1),
    "relaxation": thermal_relaxation_error(50, 70, 1),
    "reset": reset_error(0.1, 0.2),
    "Kraus": amplitude_damping_error(0.1),
    "unitary": coherent_unitary_error(RXGate(0.1).to_matrix()),
    "gate with an angle": QuantumError([(RXGate(0.1), 1)]),
    "nothing, mostly": QuantumError([(QuantumCircuit(1), 0.9), (XGate(), 0.1)]),
    "label": QuantumError([(XGate(label="flip"), 0.1), (XGate(), 0.9)]),
    "thirds": QuantumError([(XGate(), 1 / 3), (RXGate(1), 1 / 3), (RXGate(2), 1 / 3)]),
    "PauliError": PauliError(["X", "I"], [0.1, 0.9]),
    "PauliLindbladError": PauliLindbladError(["X", "Z"], [0.1, 0.2]),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_come_back_as_they_were(name):
    found = both_ways(with_error(ERRORS[name]))._default_quantum_errors["x"]
    assert type(found) is type(ERRORS[name])
    assert found.id == ERRORS[name].id
    assert codec.encode(found.to_dict()) == codec.encode(ERRORS[name].to_dict())


def test_errors_in_places_and_of_readout_come_back_in_their_places():
    model = with_error(PauliLindbladError(["XX", "ZI"], [0.1, 0.2]), "cx")
    model.add_quantum_error(depolarizing_error(0.1, 2), ["cx"], [3, 1])
    idle = QuantumCircuit(2)
    idle.x(0)
    model.add_quantum_error(QuantumError([(idle, 1)]), ["cz"], [0, 2])
    model.add_all_qubit_readout_error([[0.9, 0.1], [0.2, 0.8]])
    model.add_readout_error(np.eye(4) * 0.6 + 0.1, [0, 1])
    found = both_ways(model)
    assert list(found._local_quantum_errors["cx"]) == [(3, 1)]
    assert list(found._local_readout_errors) == [(0, 1)]


def ones(model):
    circuit = QuantumCircuit(1, 1)
    circuit.x(0)
    circuit.delay(100_000, 0, unit="ns")
    circuit.measure(0, 0)
    simulator = AerSimulator(noise_model=model, seed_simulator=1)
    return simulator.run(circuit, shots=4000).result().get_counts()["1"] / 4000


@pytest.mark.parametrize("qubits", [2, 5])
def test_delays_relax_as_before(qubits):
    model = NoiseModel.from_backend(GenericBackendV2(qubits, seed=1))
    assert ones(both_ways(model)) == ones(model) < 0.7


def test_qubits_that_never_relax_and_no_dt_come_back():
    model = NoiseModel(basis_gates=["x", "mine"])
    model._custom_noise_passes.append(RelaxationNoisePass([np.inf, 1], [1, 2], op_types=Delay))
    (found,) = both_ways(model)._custom_noise_passes
    assert found._t1s.tolist() == [np.inf, 1]
    assert found._dt is None


def with_pass(found):
    model = NoiseModel()
    model._custom_noise_passes.append(found)
    return model


def with_note():
    model = NoiseModel()
    model.note = 1
    return model


def own_gate():
    circuit = QuantumCircuit(1, name="mine")
    circuit.rx(0.3, 0)
    return circuit.to_gate()


class OwnError(QuantumError):
    """A class of a program's own."""


def with_phase():
    circuit = QuantumCircuit(1, global_phase=1)
    circuit.x(0)
    return QuantumError([(circuit, 1)])


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (with_pass(LocalNoisePass(lambda *_: None)), "a pass of the class LocalNoisePass"),
        (with_pass(RelaxationNoisePass([1], [1])), "a pass of the class RelaxationNoisePass"),
        (with_note(), "its attributes note"),
        (with_error(QuantumError([(own_gate(), 1)])), r"an operation 'mine' \(Gate\)"),
        (with_error(QuantumError([(XGate().control(1, ctrl_state=0), 1)]), "cx"), "'cx_o0'"),
        (with_error(OwnError([(XGate(), 1)])), "an error of the class OwnError"),
        (with_error(with_phase()), "a global phase"),
    ],
    ids=lambda value: None if isinstance(value, NoiseModel) else value,
)
def test_what_the_form_would_lose_is_refused_by_name(model, reason):
    with pytest.raises(
        EncodingError, match=rf"^inputs\['n'\]: cannot carry a NoiseModel: .*{reason}"
    ):
        codec.encode({"n": model}, "inputs")


def test_what_is_read_is_compared_with_what_was_written(monkeypatch):
    monkeypatch.setattr(
        noise, "_pass_from", lambda _: RelaxationNoisePass([1], [1], op_types=Delay)
    )
    with pytest.raises(EncodingError, match="does not give it back as it is"):
        codec.encode(NoiseModel.from_backend(GenericBackendV2(2, seed=1)))


def test_models_of_ibms_clients_and_of_earlier_versions_are_read():
    model = with_error(depolarizing_error(0.1, 1))
    data = {"errors": codec.to_data(model.to_dict()["errors"])}
    assert Value({"__type__": "NoiseModel", "__value__": data}).decode() == model


def altered(key, value):
    raw = codec.to_data(with_error(depolarizing_error(0.1, 1)))
    raw["__value__"]["errors"][0][key] = value
    return Value(raw)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_qubits", 10**7),
        ("num_qubits", 10**6),
        ("gate_qubits", [[0, 1]]),
        ("class", "eval"),
        ("type", "roerror"),
        ("operations", [1]),
        ("operations", ["cx"]),
        ("instructions", [[{"name": "__class__", "qubits": [0]}]]),
        ("instructions", [[{"name": "x", "qubits": [7]}]]),
        ("probabilities", [2.0, -1.0]),
    ],
)
def test_hostile_models_are_refused(key, value):
    with pytest.raises(DecodingError):
        altered(key, value).decode(max_bytes=10_000_000)
