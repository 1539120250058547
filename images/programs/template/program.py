"""Say here, in one line, what the program computes."""

from qiskit import QuantumCircuit, transpile


def main(backend, user_messenger, shots=1024):
    """Compute the result from the inputs.

    Args:
        backend: what circuits run on; `backend.run(circuits, shots=...)` gives a Qiskit job.
        user_messenger: `user_messenger.publish(value)` sends an interim result, at once.
        shots: an input. Every input is a keyword argument; one with a default may be left out.

    Returns:
        The final result: plain values, NumPy arrays, complex numbers, circuits.
    """
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.measure_all()

    user_messenger.publish({"status": "running", "shots": shots})
    return backend.run(transpile(circuit, backend), shots=shots).result().get_counts()
