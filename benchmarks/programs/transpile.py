"""Transpile random circuits for the backend and for a plain AerSimulator, in turns."""

import time

from qiskit import transpile
from qiskit.circuit.random import random_circuit
from qiskit.quantum_info import Operator
from qiskit_aer import AerSimulator


def main(backend, user_messenger, rounds):
    plain = AerSimulator()
    assert type(plain) is not type(backend)
    seconds = {"kept": [], "plain": []}
    different = 0
    for number in range(rounds + 1):
        circuit = random_circuit(num_qubits=5, depth=4, seed=number)
        compiled = {}
        turns = [("kept", backend), ("plain", plain)]
        for name, one in turns if number % 2 else reversed(turns):
            began = time.perf_counter()
            compiled[name] = transpile(circuit, one, seed_transpiler=number)
            seconds[name].append(time.perf_counter() - began)
        different += compiled["kept"] != compiled["plain"]
        # Qiskit sometimes chooses another gate of the same use, from one call to the next.
        assert Operator(compiled["kept"]).equiv(Operator(compiled["plain"])), number
    return {**{name: each[1:] for name, each in seconds.items()}, "different": different}
