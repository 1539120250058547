"""Call the backend with one circuit again and again, then with many at once."""

import time

from qiskit import QuantumCircuit, transpile
from qiskit.circuit.random import random_circuit


def main(backend, user_messenger, rounds, many):
    bell = QuantumCircuit(2, 2)
    bell.h(0)
    bell.cx(0, 1)
    bell.measure([0, 1], [0, 1])
    bell = transpile(bell, backend)
    circuits = transpile(
        [random_circuit(5, 4, measure=True, seed=seed) for seed in range(many)],
        basis_gates=["cx", "rz", "sx", "x"],
        optimization_level=0,
    )

    def timed(what, shots):
        started = time.perf_counter()
        backend.run(what, shots=shots).result()
        return time.perf_counter() - started

    return {
        "one": [timed(bell, 100) for _ in range(rounds)],
        "many": [timed(circuits, 1024) for _ in range(3)],
    }
