"""Run random circuits and publish the counts of each: the tutorial's job."""

from qiskit import transpile
from qiskit.circuit.random import random_circuit


def main(backend, user_messenger, iterations=5, seed=None):
    """Run `iterations` random circuits of 5 qubits and depth 4; equal seeds give equal counts."""
    for iteration in range(iterations):
        own = None if seed is None else seed + iteration
        options = {} if seed is None else {"seed_simulator": own}
        circuit = random_circuit(num_qubits=5, depth=4, measure=True, seed=own)
        circuit = transpile(circuit, backend, seed_transpiler=own)
        counts = backend.run(circuit, **options).result().get_counts()
        user_messenger.publish({"iteration": iteration, "counts": counts})
    return "All done!"
