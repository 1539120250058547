"""Run random circuits and publish the counts of each: the tutorial's job."""

from qiskit import transpile
from qiskit.circuit.random import random_circuit


def main(backend, user_messenger, iterations=5):
    """Run `iterations` random circuits of 5 qubits and depth 4."""
    for iteration in range(iterations):
        circuit = random_circuit(num_qubits=5, depth=4, measure=True)
        counts = backend.run(transpile(circuit, backend)).result().get_counts()
        user_messenger.publish({"iteration": iteration, "counts": counts})
    return "All done!"
