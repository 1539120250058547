"""Backends: what a description becomes, with Aer."""

import copy
import json
import pickle
import warnings

import pytest
from qiskit import QuantumCircuit, generate_preset_pass_manager, transpile
from qiskit.circuit.random import random_circuit
from qiskit.primitives import BackendEstimatorV2, BackendSamplerV2
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit.quantum_info import Operator, SparsePauliOp
from qiskit_aer import AerSimulator
from qiskit_aer.noise import (
    NoiseModel,
    ReadoutError,
    pauli_error,
    thermal_relaxation_error,
)
from qiskit_aer.primitives import EstimatorV2, SamplerV2

from runner import backends as host
from runner.backends import table
from sandbox.stack import backends, simulator
from tests.contract.guest import Guest, run

GIB = 1 << 30
RANDOM_CIRCUIT = """
    from qiskit import QuantumCircuit, transpile
    def main(backend, user_messenger):
        circuit = QuantumCircuit(2)
        circuit.h(0)
        circuit.cx(0, 1)
        circuit.measure_all()
        counts = backend.run(transpile(circuit, backend), shots=100).result().get_counts()
        user_messenger.publish({"counts": counts})
        return [type(backend).__name__, backend.options.max_memory_mb,
                backend.options.max_parallel_threads, backend.options.seed_simulator]
"""
DEVICE = {
    "name": "line",
    "num_qubits": 3,
    "coupling_map": [[0, 1], [1, 2]],
    "gates": {
        "rz": {"error": 0, "duration": 0},
        "sx": {"error": 1e-3, "duration": 3e-8},
        "x": {"error": 1e-3, "duration": 3e-8},
        "cx": {"error": 0.02, "duration": 3e-7},
    },
    "qubits": [
        {"t1": 1e-4, "t2": 8e-5, "frequency": 5e9, "readout_error": [0.1, 0.3]},
        {"t1": 1e-4, "readout_error": 0.02, "readout_duration": 1e-6},
        {},
    ],
    "dt": 2e-10,
    "control_flow": True,
}


SYMENGINE = (
    "eJwL9Az29gzhYWRkYoAAxtRCBu40Bg4gkwmKQYAdic0KIpIzi5JLM0t0Dc0MoMIM1UqJSlaGtYWMYLWMjIUMqIAx"
    "GSaTjC4DZ7FiiKACD/fEklSIwWxQISZMVSDdjM4RcLWFYDE2mAwOs4MQGlKhQlfR7KgG6uVnOMDpM/l8KNAggQ0p"
    "lyaBWXBDDWBKF4SLQBTxMrBAhSqjDWMvRJ5F02GY8DgdphImVpFQ7z4ZVZlRQQHCfxrWuQcMLB3MFhkZZzomsm6p"
    "KCtD8TwIMF/NPH5F0NZp3RoOluN2y2dcgclXgmMTHk5YQsI3NbG4tAgSFJC4IkEHOHZBav4jAZg6AAGiTWI="
)
"""A circuit with the angle 2*x + y[1], as Qiskit 1.1 sends it."""


@pytest.fixture(autouse=True)
def as_it_was():
    """Take the limits of a test out of Aer's class again."""
    yield
    simulator.fit({})


def build(backend=None, **limits):
    """Build what a request names, as the guest does after the host's check."""
    return backends.build(json.loads(json.dumps(host.describe(backend))), limits)


def bell():
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.measure_all()
    return circuit


def counts(backend, circuit, **options):
    return backend.run(transpile(circuit, backend), **options).result().get_counts()


def test_none_is_no_backend():
    assert backends.build({"name": "none"}, {}) is None


@pytest.mark.parametrize("description", [{}, {"name": None}, {"name": "x"}, {"name": ["none"]}])
def test_an_unknown_backend_names_the_known(description):
    with pytest.raises(backends.BackendError, match=r"one of: aer_simulator, .*, none"):
        backends.build(description, {})


def test_aer_is_sized_to_the_sandbox(carrier):
    report = run(
        RANDOM_CIRCUIT,
        carrier=carrier,
        backend={"name": "aer_simulator", "options": {"seed_simulator": 7}},
        limits={"memory_bytes": 1 << 30, "cpus": 1.5},
    )
    assert json.loads(report.value) == ["AerSimulator", 921, 1, 7]
    assert sum(json.loads(report.messages[0].body)["counts"].values()) == 100


def test_a_warm_guest_is_ready_when_it_has_imported():
    source = """
        import sys
        early = "qiskit_aer" in sys.modules
        def main(backend, user_messenger):
            return early
    """
    with Guest(source, carrier="stdio", arguments=("--warm",)) as guest:
        guest.send()
        assert guest.report().value == "true"
    assert run(source).value == "false"


def test_without_a_backend_nothing_of_qiskit_is_imported():
    source = """
        import sys
        def main(backend, user_messenger):
            return sorted({"qiskit", "qiskit_aer", "numpy"} & set(sys.modules))
    """
    assert json.loads(run(source).value) == []


# --- the target ---------------------------------------------------------------------------------


def test_the_target_is_built_once_and_is_aers():
    backend = build()
    assert isinstance(backend, AerSimulator)
    target = backend.target
    assert backend.target is target
    plain = AerSimulator()
    assert set(target.operation_names) == set(plain.target.operation_names)
    assert target.num_qubits == plain.target.num_qubits
    for seed in range(3):
        circuit = random_circuit(5, 4, seed=seed)
        ours, aers = (transpile(circuit, each, seed_transpiler=seed) for each in (backend, plain))
        # Now and then Qiskit chooses another gate of the same use, also from one call to the next.
        assert Operator(ours).equiv(Operator(aers))
    assert backend.target is target


@pytest.mark.parametrize(
    "change",
    [
        lambda backend: backend.set_options(method="stabilizer"),
        lambda backend: backend.set_option("method", "density_matrix"),
        lambda backend: backend.set_options(basis_gates=["h", "cx"]),
        lambda backend: backend.set_options(n_qubits=3),
        lambda backend: backend.set_option("coupling_map", [[0, 1]]),
        lambda backend: backend.set_max_qubits(4),
        lambda backend: backend.set_options(noise_model=NoiseModel(["id", "h", "cx"])),
        lambda backend: backend.options.update_options(method="stabilizer"),
        lambda backend: setattr(backend.options, "method", "unitary"),
    ],
)
def test_a_changed_option_drops_the_target(change):
    backend, plain = build(), AerSimulator()
    before = backend.target
    change(backend)
    change(plain)
    assert backend.target is not before
    assert backend.target is backend.target
    assert backend.target.num_qubits == plain.target.num_qubits
    assert set(backend.target.operation_names) == set(plain.target.operation_names)
    backend.clear_options()
    plain.clear_options()
    assert backend.target.num_qubits == plain.target.num_qubits


def test_options_that_change_nothing_of_it_keep_the_target():
    backend = build()
    target = backend.target
    backend.set_options(shots=7, seed_simulator=1)
    counts(backend, bell())
    assert backend.target is target


# --- as programs expect it ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "backend",
    [None, DEVICE, {"name": "generic_backend_v2", "options": {"num_qubits": 3, "seed": 1}}],
    ids=["aer", "device", "generic"],
)
def test_everything_that_takes_a_backend_takes_it(backend):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        backend = build(backend, memory_bytes=GIB, cpus=1)
        near = pytest.approx(1, abs=0.6)  # with the device's errors of readout
        assert set(counts(backend, bell(), shots=2000, seed_simulator=1)) >= {"00", "11"}
        manager = generate_preset_pass_manager(backend=backend, optimization_level=1)
        compiled = manager.run(bell())
        data = BackendSamplerV2(backend=backend).run([compiled], shots=500).result()[0].data
        assert data.meas.num_shots == 500
        state = bell().remove_final_measurements(inplace=False)
        state = manager.run(state)
        observable = SparsePauliOp("ZZ").apply_layout(state.layout)
        estimated = BackendEstimatorV2(backend=backend).run([(state, observable)]).result()
        assert float(estimated[0].data.evs) == near
        estimator = EstimatorV2.from_backend(backend)
        assert float(estimator.run([(state, observable)]).result()[0].data.evs) == near
        sampler = SamplerV2.from_backend(backend)
        assert sampler.run([compiled], shots=10).result()[0].data.meas.num_shots == 10
        assert backend.options.max_memory_mb == 921


def test_older_programs_find_configuration_properties_and_options():
    backend = build({"options": {"shots": 5, "method": "statevector"}})
    assert backend.name == "aer_simulator_statevector"
    assert backend.configuration().simulator
    assert backend.configuration().backend_name == "aer_simulator_statevector"
    assert backend.properties() is None
    assert sum(counts(backend, bell()).values()) == 5
    assert repr(backend).startswith("AerSimulator('aer_simulator_statevector'")

    device = build(DEVICE)
    assert device.name == "aer_simulator_from(line)"
    assert device.configuration().coupling_map == [[0, 1], [1, 2]] or {
        *map(tuple, device.configuration().coupling_map)
    } == {(0, 1), (1, 2)}
    assert device.properties().t1(0) == 1e-4
    assert device.properties().frequency(0) == 5e9
    assert device.properties().readout_error(0) == 0.2
    assert device.properties().gate_error("cx", [0, 1]) == 0.02
    assert device.properties().gate_length("cx", [1, 2]) == 3e-7


def test_copies_stay_quick_and_pickles_are_aers_own():
    backend = build({"options": {"seed_simulator": 3}})
    target = backend.target
    for other in (copy.copy(backend), copy.deepcopy(backend)):
        assert type(other) is type(backend)
        assert other.target is other.target
        assert counts(other, bell()) == counts(backend, bell())
    other = copy.deepcopy(backend)
    other.set_options(method="stabilizer")
    assert backend.target is target
    restored = pickle.loads(pickle.dumps(backend))
    assert type(restored) is AerSimulator
    assert counts(restored, bell()) == counts(backend, bell())


# --- memory -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "qubits"),
    [
        ("statevector", 27),
        ("automatic", 27),
        ("density_matrix", 14),
        ("unitary", 14),
        ("superop", 7),
    ],
)
def test_more_qubits_than_there_is_memory_for_are_named(method, qubits):
    backend = build({"options": {"method": method}}, memory_bytes=GIB)
    circuit = QuantumCircuit(qubits)
    circuit.ry(0.3, range(qubits))
    circuit.cx(0, qubits - 1)
    if method in {"unitary", "superop"}:
        getattr(circuit, f"save_{method}")()
    else:
        circuit.measure_all()
    with pytest.raises(Exception, match="Insufficient memory.*Required memory.*max memory: 921M"):
        backend.run(circuit).result().data()


def test_simulators_that_a_program_makes_see_the_same_limits():
    build(memory_bytes=GIB, cpus=2)
    own = AerSimulator(method="statevector")
    assert (own.options.max_memory_mb, own.options.max_parallel_threads) == (921, 2)
    own.set_options(max_memory_mb=100)
    assert own.options.max_memory_mb == 100


def test_a_request_cannot_plan_with_more_memory_than_there_is():
    for asked, given in ((100, 100), (10_000, 921)):
        backend = build({"options": {"max_memory_mb": asked}}, memory_bytes=GIB)
        assert backend.options.max_memory_mb == given


# --- noise and devices --------------------------------------------------------------------------


def share_of_ones(backend, circuit, shots=20_000):
    return counts(backend, circuit, shots=shots, seed_simulator=5).get("1", 0) / shots


def flipped():
    circuit = QuantumCircuit(1, 1)
    circuit.x(0)
    circuit.measure(0, 0)
    return circuit


def test_noise_is_described_by_data():
    noise = {"depolarizing": {"x": 0.2, "cx": 0.1}, "readout": [0.05, 0.1]}
    backend = build({"options": {"noise": noise}})
    assert set(backend.options.noise_model.noise_instructions) == {"x", "cx", "measure"}
    assert share_of_ones(backend, flipped()) == pytest.approx(0.9 * 0.9 + 0.1 * 0.05, abs=0.02)
    backend = build({"options": {"noise": {"readout": 0.25}}})
    assert share_of_ones(backend, flipped()) == pytest.approx(0.75, abs=0.02)


def test_a_noise_model_comes_from_python():
    model = NoiseModel()
    model.add_all_qubit_quantum_error(thermal_relaxation_error(1e-4, 1.5e-4, 1e-6), ["x", "sx"])
    model.add_readout_error(ReadoutError([[0.9, 0.1], [0.2, 0.8]]), [0])
    described = host.describe({"options": {"noise_model": model}})
    assert host.describe(described) == described
    assert build(described).options.noise_model == model


def test_a_device_has_the_gates_the_coupling_and_the_errors_that_it_is_described_with():
    device = build(DEVICE)
    assert set(device.target.operation_names) >= {"rz", "sx", "x", "cx", "measure", "if_else"}
    assert set(device.coupling_map.get_edges()) == {(0, 1), (1, 2)}
    assert device.target["cx"][(1, 2)].error == 0.02
    assert device.target["measure"][(0,)].error == 0.2
    assert device.target.qubit_properties[0].t2 == 8e-5
    idle = QuantumCircuit(1, 1)
    idle.measure(0, 0)
    on_first = transpile(idle, device, initial_layout=[0])
    ones = device.run(on_first, shots=20_000, seed_simulator=1).result().get_counts()["1"]
    assert ones / 20_000 == pytest.approx(0.1, abs=0.01)
    quiet = build({"name": "device", "options": {"device": DEVICE, "noise": False}})
    assert quiet.options.noise_model is None
    assert set(counts(quiet, bell())) == {"00", "11"}


@pytest.mark.parametrize("qubit", [{}, {"t1": 1e-4}, {"t2": 1e-4}, {"readout_error": 0.1}])
@pytest.mark.parametrize("gate", [{}, {"error": 0.01}, {"duration": 1e-7}])
def test_a_description_may_leave_out_what_it_does_not_know(qubit, gate):
    gates = dict.fromkeys(("rz", "sx", "x", "cx"), gate)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        device = build({"num_qubits": 2, "gates": gates, "qubits": qubit})
        assert sum(counts(device, bell(), shots=100).values()) == 100
    one = build({"num_qubits": 1, "gates": {"sx": gate, "rz": gate}, "qubits": qubit})
    idle = QuantumCircuit(1, 1)
    idle.measure(0, 0)
    assert sum(counts(one, idle, shots=100).values()) == 100


def test_a_generic_backend_has_its_size_and_is_repeatable():
    options = {"num_qubits": 4, "coupling_map": [[0, 1], [1, 2], [2, 3]], "seed": 5, "shots": 50}
    one, other = (build({"name": "generic_backend_v2", "options": options}) for _ in range(2))
    assert type(one) is GenericBackendV2
    assert one.num_qubits == 4
    assert one.target["cx"][(0, 1)].error == other.target["cx"][(0, 1)].error
    assert sum(one.run(transpile(bell(), one)).result().get_counts().values()) == 50


def test_simulators_are_as_wide_as_the_sandboxs_memory_bears():
    for memory_bytes, qubits in ((2 * GIB, 26), (GIB // 2, 24)):
        backend = build(memory_bytes=memory_bytes, cpus=1)
        made = AerSimulator()
        assert (backend.num_qubits, backend.target.num_qubits, made.num_qubits) == (qubits,) * 3
        for method, width in (("statevector", 1), ("density_matrix", 2), ("unitary", 2)):
            backend.set_options(method=method)
            assert backend.num_qubits == backend.target.num_qubits == qubits // width


def test_what_is_no_gate_takes_its_time_too():
    gates = {**DEVICE["gates"], "reset": {"duration": 8e-7}}
    device = build({**DEVICE, "gates": gates})
    assert device.target["reset"][(0,)].duration == 8e-7
    circuit = QuantumCircuit(1)
    circuit.reset(0)
    circuit.x(0)
    scheduled = transpile(circuit, device, scheduling_method="alap", initial_layout=[0])
    assert scheduled.estimate_duration(device.target) >= 8e-7


def test_the_gates_of_a_generic_backend_are_those_that_the_host_knows():
    backend = build({"name": "generic_backend_v2", "options": {"num_qubits": 2}})
    gates = set(backend.target.operation_names) - table._ALWAYS
    assert gates == set(table._GENERIC_BASIS)


@pytest.mark.parametrize(
    "request_",
    [
        {"inputs": {"x": {"__type__": "QuantumCircuit", "__value__": "!"}}},
        {"backend": {"name": "none such"}},
        {"backend": {"name": "generic_backend_v2", "options": {"num_qubits": 0}}},
    ],
)
def test_a_request_that_cannot_be_met_is_no_fault_of_the_program(request_):
    fault = run("raise Exception('is not loaded')", **request_).fault
    assert fault.kind == "invalid_inputs"
    assert "is not loaded" not in fault.error


def test_expressions_of_symengine_are_refused_with_what_to_do():
    head = {"__type__": "QuantumCircuit", "__value__": SYMENGINE}
    fault = run("", inputs={"circuit": head}).fault
    assert fault.kind == "invalid_inputs"
    assert "a circuit in QPY 12 whose expressions symengine has written" in fault.error
    assert "use_symengine=False" in fault.error


def certain(gate):
    model = NoiseModel()
    model.add_all_qubit_quantum_error(pauli_error([("X", 1)]), [gate])
    return model


def test_a_noise_model_takes_the_place_of_a_generic_backends_own():
    options = {"num_qubits": 2, "seed": 1, "noise_model": certain("x"), "seed_simulator": 1}
    backend = build({"name": "generic_backend_v2", "options": options})
    circuit = QuantumCircuit(1, 1)
    circuit.x(0)
    circuit.measure(0, 0)
    for _ in range(2):
        result = backend.run(circuit, shots=1000).result()
        assert result.get_counts() == {"0": 1000}


def test_a_device_warns_of_gates_that_it_does_not_have_because_they_have_no_noise():
    device = build(DEVICE)
    circuit = QuantumCircuit(3)
    circuit.h(0)
    circuit.cx(0, 2)
    circuit.measure_all()
    with pytest.warns(UserWarning, match=r"the device has no cx \(0, 2\), h \(0,\), which is run"):
        device.run(circuit, shots=1)
    device.run(transpile(circuit, device), shots=1)  # any warning fails a test


def test_a_device_has_the_control_flow_that_it_is_described_with():
    device = build({**DEVICE, "control_flow": ["if_else"]})
    names = set(device.target.operation_names)
    assert names & {"if_else", "for_loop", "while_loop", "switch_case"} == {"if_else"}
