"""A target is the same on both sides, and a circuit that does not fit is named."""

import json

import pytest

pytest.importorskip("qiskit")

from qiskit import ClassicalRegister, QuantumCircuit, transpile
from qiskit.circuit import Gate, Parameter
from qiskit.circuit.library import XGate
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit_aer import AerSimulator

from holder.refusals import Refused
from holder.targets import Fit, describe, measured_bits
from sandbox.stack.held import target_of

pytestmark = pytest.mark.qiskit

LINE = GenericBackendV2(
    3, coupling_map=[[0, 1], [1, 2]], basis_gates=["rz", "sx", "x", "cx"], control_flow=True, seed=1
)


@pytest.mark.parametrize("backend", [LINE, AerSimulator(), GenericBackendV2(2, seed=2)])
def test_a_target_comes_through_as_json(backend):
    described = json.loads(json.dumps(describe(backend.target), allow_nan=False))
    again = target_of(described)
    assert describe(again) == described
    assert again.num_qubits == backend.target.num_qubits
    assert again.dt == backend.target.dt


def test_what_a_program_cannot_ask_for_stays_outside():
    names = {each["name"] for each in describe(AerSimulator().target)["instructions"]}
    assert {"cx", "rz", "measure", "if_else"} <= names
    assert not {"save_statevector", "kraus", "unitary", "initialize"} & names


def test_a_circuit_that_was_transpiled_for_it_fits():
    circuit = QuantumCircuit(3, 1)
    circuit.h(0)
    circuit.ccx(0, 1, 2)
    circuit.measure(2, 0)
    with circuit.if_test((circuit.clbits[0], 1)):
        circuit.x(0)
    inside = target_of(describe(LINE.target))
    Fit(LINE.target, describe(LINE.target)).check(
        [transpile(circuit, target=inside, seed_transpiler=1)]
    )


def circuit_with(*instructions, qubits=3):
    circuit = QuantumCircuit(qubits, 1, name="mine")
    for gate, places in instructions:
        circuit.append(gate, places)
    circuit.measure(0, 0)
    return circuit


def own_x():
    circuit = QuantumCircuit(1, name="x")
    circuit.h(0)
    return circuit.to_gate()


def conditioned():
    circuit = circuit_with()
    with circuit.if_test((circuit.clbits[0], 1)):
        circuit.cx(0, 2)
    return circuit


@pytest.mark.parametrize(
    ("circuit", "reason"),
    [
        (circuit_with((XGate().control(1), [0, 2])), r"'cx' on qubits \(0, 2\).*not there"),
        (circuit_with((XGate().control(2), [0, 1, 2])), "'ccx'.*no such gate"),
        (circuit_with((own_x(), [0])), "'x'.*a gate of the program's own"),
        (circuit_with((Gate("mystery", 1, []), [0])), "'mystery'.*no such gate"),
        (circuit_with(qubits=4), "has 4 qubits, the backend 3"),
        (conditioned(), r"'cx' on qubits \(0, 2\)"),
        (QuantumCircuit(1), "measures nothing"),
    ],
)
def test_a_circuit_that_does_not_fit_is_refused_in_its_own_words(circuit, reason):
    with pytest.raises(Refused, match=reason):
        Fit(LINE.target, describe(LINE.target)).check([circuit])


def test_parameters_without_values_are_named():
    circuit = circuit_with()
    circuit.rz(Parameter("angle"), 0)
    fit = Fit(LINE.target, describe(LINE.target))
    with pytest.raises(Refused, match="parameters without values: angle"):
        fit.check([circuit])
    fit.check([circuit], bound=False)


def test_gates_of_a_provider_come_through_by_name_and_width():
    target = LINE.target
    native = Gate("native", 2, [Parameter("t"), 0.5])
    described = describe(target)
    described["instructions"].append(
        {
            "name": "native",
            "gate": None,
            "width": 2,
            "params": [None, 0.5],
            "places": [[0, 1]],
            "durations": [1e-7],
            "errors": [None],
        }
    )
    found = target_of(described).operation_from_name("native")
    assert (found.name, found.num_qubits, found.params[1]) == (native.name, 2, 0.5)


def test_bits_written_in_blocks_count_as_measured():
    circuit = QuantumCircuit(2)
    circuit.add_register(ClassicalRegister(3, "c"))
    circuit.measure(0, 1)
    with circuit.if_test((circuit.clbits[1], 1)):
        circuit.measure(0, 2)
    assert measured_bits(circuit) == [1, 2]
