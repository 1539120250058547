"""Backends: what a description becomes, with Aer."""

import json

import pytest

from sandbox import backends
from tests.contract.guest import Guest, run

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


def test_none_is_no_backend():
    assert backends.build({"name": "none"}, {}) is None


@pytest.mark.parametrize("description", [{}, {"name": None}, {"name": "x"}, {"name": ["none"]}])
def test_an_unknown_backend_names_the_known(description):
    with pytest.raises(backends.BackendError, match="one of: aer_simulator, none"):
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
