"""Runs a circuit of one qubit on the backend that it is given."""

from qiskit import QuantumCircuit


def main(backend, user_messenger):
    circuit = QuantumCircuit(1, 1)
    circuit.measure(0, 0)
    return backend.run(circuit, shots=10).result().get_counts()
