"""What the pinned Aer computes wrongly is right in a sandbox, or refused by name.

`STOCK` is Aer's own: where it is right, the correction of it can go.
"""

import copy
import pickle

import numpy as np
import pytest
import qiskit_aer
from qiskit import QuantumCircuit, transpile
from qiskit.circuit import ClassicalRegister, Clbit, Parameter, QuantumRegister
from qiskit.circuit.classical import expr, types
from qiskit.primitives import BackendSamplerV2, StatevectorSampler
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit.quantum_info import Statevector
from qiskit_aer import AerError
from qiskit_aer.library import (
    SaveAmplitudesSquared,
    SaveStabilizer,
    SaveStatevector,
    SaveStatevectorDict,
    SaveUnitary,
)
from qiskit_aer.noise import NoiseModel, ReadoutError, pauli_error
from qiskit_aer.primitives import SamplerV2

from sandbox.stack import backends, corrections, simulator

BOOL = types.Bool()


@pytest.fixture(autouse=True)
def ours():
    """Let simulators see their circuits first; take it out of Aer's class again."""
    simulator.fit({})
    yield
    qiskit_aer.AerSimulator.run = simulator._aer_run


def stock(circuit, **options):
    return simulator._aer_run(qiskit_aer.AerSimulator(), circuit, **options).result()


def in_sandbox(circuit, **options):
    return backends.build({"name": "aer_simulator"}, {}).run(circuit, **options).result()


def prepared(value, register):
    circuit = QuantumCircuit(QuantumRegister(3), register, ClassicalRegister(1, "flag"))
    for position in range(2):
        if value >> position & 1:
            circuit.x(position)
    circuit.measure([0, 1], register)
    return circuit


def branch(circuit, condition):
    with circuit.if_test(condition):
        circuit.x(2)


def otherwise(circuit, condition):
    circuit.x(2)
    with circuit.if_test(condition) as beside:
        circuit.x(0)
    with beside:
        circuit.x(2)


def loop(circuit, condition):
    with circuit.while_loop(condition):
        circuit.x(2)
        circuit.reset([0, 1])
        circuit.measure([0, 1], circuit.cregs[0])


def switch(circuit, target):
    with circuit.switch(target) as case, case(1):
        circuit.x(2)


def inside(circuit, condition):
    with circuit.for_loop(range(1)), circuit.if_test((circuit.cregs[1], 0)):
        branch(circuit, condition)


WAYS = [branch, otherwise, loop, inside]


def flags(run, way, condition):
    """Return, for each value of a register of two bits, whether the condition held."""
    found = []
    for value in range(4):
        register = ClassicalRegister(2, "c")
        circuit = prepared(value, register)
        way(circuit, condition(register))
        circuit.measure(2, circuit.cregs[1])
        (key,) = run(circuit, shots=10).get_counts()
        found.append(int(key[0]))
    return found


@pytest.mark.parametrize("way", WAYS)
def test_a_register_cast_to_bool_is_true_where_it_is_not_zero(way):
    assert flags(in_sandbox, way, lambda c: expr.cast(c, BOOL)) == [0, 1, 1, 1]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (expr.logic_not, [1, 0, 0, 0]),
        (lambda c: expr.logic_and(c, True), [0, 1, 1, 1]),
        (lambda c: expr.logic_or(expr.equal(c, 2), expr.bit_and(c, 1)), [0, 1, 1, 1]),
        (lambda c: expr.cast(expr.bit_and(c, 2), BOOL), [0, 0, 1, 1]),
        (lambda c: expr.cast(expr.lift(2, types.Uint(2)), BOOL), [1, 1, 1, 1]),
        (lambda c: expr.equal(expr.cast(c, BOOL), False), [1, 0, 0, 0]),
        (lambda c: expr.less(c, 2), [1, 1, 0, 0]),
        (lambda c: (c, 2), [0, 0, 1, 0]),
    ],
)
def test_casts_inside_of_conditions_are_right_and_others_stay(condition, expected):
    assert flags(in_sandbox, branch, condition) == expected


def test_conditions_on_variables_are_refused_by_name():
    condition = expr.equal(expr.Var.new("number", types.Uint(2)), 1)
    with pytest.raises(AerError, match="if_else: its condition reads the variable number"):
        corrections.check_variables("if_else", condition)


def test_aer_itself_still_inverts_the_cast():
    assert flags(stock, branch, lambda c: expr.cast(c, BOOL)) == [1, 0, 0, 0]


def laid_out(bits, *registers):
    circuit = QuantumCircuit(QuantumRegister(3), bits, *registers, metadata={"n": 1})
    circuit.x(0)
    circuit.measure(range(3), bits)
    return circuit


def register(name, bits):
    return ClassicalRegister(name=name, bits=bits)


BITS = [Clbit() for _ in range(3)]
REVERSED = laid_out(BITS, register("c", BITS[::-1]))
TURNED = laid_out(BITS, register("b", BITS[1:]), register("a", BITS[:1]))
SHARED = laid_out(BITS, register("b", BITS[:2]), register("a", BITS[1:]))
SKIPPED = laid_out(BITS, register("b", BITS[1:]))


def test_counts_of_registers_that_reorder_bits_are_right():
    for circuit, counts in ((REVERSED, {"100": 10}), (TURNED, {"1 00": 10})):
        (sampled,) = StatevectorSampler().run([circuit], shots=10).result()
        keys = [next(iter(sampled.data[each.name].get_counts())) for each in circuit.cregs]
        assert {" ".join(reversed(keys)): 10} == counts
        result = in_sandbox(circuit, shots=10)
        assert result.get_counts() == result.get_counts(circuit) == counts
        assert result.results[0].header["metadata"] == {"n": 1}
        assert stock(circuit, shots=10).get_counts() != counts  # else the correction can go


@pytest.mark.parametrize(
    ("circuit", "names"), [(SHARED, "b, a share"), (SKIPPED, "bits 0 are in no")]
)
def test_counts_that_cannot_be_right_are_refused_by_name(circuit, names):
    with pytest.raises(AerError, match=names):
        in_sandbox(circuit, shots=10)


def test_of_bits_in_no_register_aer_itself_still_loses_shots():
    circuit = QuantumCircuit(2)
    bits = [Clbit() for _ in range(2)]
    circuit.add_bits(bits)
    circuit.add_register(register("b", bits[1:]))
    circuit.h(0)
    circuit.measure([0, 1], bits)
    assert sum(stock(circuit, shots=1000).get_counts().values()) < 1000


@pytest.mark.parametrize("circuit", [TURNED, SHARED, SKIPPED])
def test_samplers_report_what_they_can_and_the_log_says_what_counts_would_not(circuit):
    (expected,) = StatevectorSampler().run([circuit], shots=10).result()
    for sampler in (BackendSamplerV2(backend=qiskit_aer.AerSimulator()), SamplerV2()):
        with pytest.warns(UserWarning, match="reorder, share or skip bits"):
            (found,) = sampler.run([circuit], shots=10).result()
        for each in circuit.cregs:
            assert found.data[each.name].get_counts() == expected.data[each.name].get_counts()


def test_samplers_refuse_registers_in_pieces():
    for sampler in (BackendSamplerV2(backend=qiskit_aer.AerSimulator()), SamplerV2()):
        with pytest.raises(AerError, match="its registers c do not follow each other"):
            sampler.run([REVERSED], shots=10).result()
    assert stock(REVERSED, shots=10, memory=True).get_memory()[0] != "100"


def test_bits_without_registers_and_circuits_that_measure_nothing_run_as_they_are():
    assert in_sandbox(laid_out(BITS), shots=5).get_counts() == {"001": 5}
    unmeasured = QuantumCircuit(1)
    unmeasured.add_bits(BITS)
    unmeasured.add_register(register("b", BITS[1:]))
    unmeasured.save_statevector()
    assert in_sandbox(unmeasured).success


def test_what_needs_no_correction_is_passed_on_as_it_is():
    circuit = QuantumCircuit(2, 2)
    circuit.h(0)
    circuit.measure([0, 1], [0, 1])
    flow = prepared(0, ClassicalRegister(2, "c"))
    branch(flow, (flow.cregs[0], 1))
    switch(flow, flow.cregs[0])
    assert corrections.corrected(circuit, memory=False) is circuit
    assert corrections.corrected([circuit, flow], memory=True) == [circuit, flow]
    assert corrections.corrected(flow, memory=False) is flow


def test_other_simulators_of_a_program_and_generic_backends_are_corrected_too():
    circuit = prepared(0, ClassicalRegister(2, "c"))
    circuit.rx(Parameter("t"), 0)
    branch(circuit, expr.cast(circuit.cregs[0], BOOL))
    circuit.measure(2, circuit.cregs[1])
    own = qiskit_aer.AerSimulator()
    for backend in (own, copy.deepcopy(own), pickle.loads(pickle.dumps(own))):
        binds = [{circuit.parameters[0]: [0.0]}]
        (key,) = backend.run([circuit], parameter_binds=binds, shots=5).result().get_counts()
        assert key[0] == "0"
    generic = GenericBackendV2(3, control_flow=True, seed=1)
    with pytest.raises(AerError, match="its registers b, a share bits"):
        generic.run(SHARED)


def saved(instruction, qubits):
    """A circuit that saves these qubits, of which the first is 1, the second + and the third 0."""
    circuit = QuantumCircuit(3)
    circuit.x(0)
    circuit.h(1)
    circuit.append(instruction, qubits)
    return circuit


SAVED = Statevector.from_label("+10")


@pytest.mark.parametrize("method", ["automatic", "matrix_product_state", "extended_stabilizer"])
def test_a_saved_state_has_its_qubits_in_the_order_of_its_instruction(method):
    circuit = saved(SaveStatevector(3), [2, 0, 1])
    assert in_sandbox(circuit, method=method).get_statevector().equiv(SAVED)
    assert not stock(circuit).get_statevector().equiv(SAVED)  # else the correction can go


@pytest.mark.parametrize(
    ("instruction", "method", "keys"),
    [
        (SaveStatevectorDict(3), "statevector", ["0x2", "0x6"]),
        (SaveAmplitudesSquared(3, range(8)), "statevector", [2, 6]),
        (SaveAmplitudesSquared(3, range(8)), "stabilizer", [2, 6]),
        (SaveStabilizer(3), "stabilizer", ["010", "110"]),
    ],
)
def test_other_forms_of_a_saved_state_are_right_too(instruction, method, keys):
    result = in_sandbox(saved(instruction, [2, 0, 1]), method=method)
    (found,) = result.data().values()
    if isinstance(instruction, SaveStabilizer):
        found = found.probabilities_dict()
    assert sorted(found if isinstance(found, dict) else np.flatnonzero(found)) == keys


@pytest.mark.parametrize("save", ["save_statevector", "save_state", "save_unitary", "save_superop"])
def test_what_is_saved_after_the_default_transpilation_is_as_before_it(save):
    circuit = QuantumCircuit(3)
    circuit.ry(0.3, 0)
    circuit.swap(0, 1)
    circuit.cx(1, 2)
    circuit.swap(1, 2)
    getattr(circuit, save)()
    backend = backends.build({"name": "aer_simulator"}, {})
    transpiled = transpile(circuit, backend, seed_transpiler=1)
    assert transpiled.data[-1].qubits != tuple(transpiled.qubits)  # swaps were left out
    before, after = (
        next(iter(backend.run(each).result().data().values())) for each in (circuit, transpiled)
    )
    assert np.allclose(before, after)


def test_a_saved_map_whose_qubits_began_elsewhere_is_refused_by_name():
    with pytest.raises(AerError, match="save_unitary names the qubits in another order"):
        in_sandbox(saved(SaveUnitary(3), [2, 0, 1]))


def test_swaps_for_a_save_have_no_noise_and_leave_the_qubits_where_they_were():
    circuit = saved(SaveStatevector(3, pershot=False), [2, 0, 1])
    circuit.measure_all()
    model = NoiseModel()
    model.add_all_qubit_quantum_error(pauli_error([("XX", 1)]), "swap")
    result = in_sandbox(circuit, noise_model=model, shots=20)
    assert {key[::2] for key in result.get_counts()} == {"01"}


def test_a_readout_error_of_two_qubits_is_warned_of_because_aer_does_not_apply_it():
    flipped = ReadoutError([[0, 1], [1, 0]])
    model = NoiseModel()
    model.add_readout_error(flipped.tensor(flipped), [0, 1])
    circuit = QuantumCircuit(2)
    circuit.measure_all()
    with pytest.warns(UserWarning, match=r"readout errors of several qubits, \(0, 1\)"):
        found = in_sandbox(circuit, noise_model=model, shots=10)
    assert found.get_counts() == {"00": 10}  # else the warning can go
