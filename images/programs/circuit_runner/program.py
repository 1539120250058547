"""Run circuits and count what they measure."""

import re

from qiskit import QuantumCircuit, qasm3, transpile


def main(
    backend,
    user_messenger,
    circuits,
    shots=1024,
    optimization_level=1,
    initial_layout=None,
    seed=None,
):
    """Compile the circuits for the backend and run them together.

    Args:
        circuits: one circuit or a list of them, each a QuantumCircuit or a text in OpenQASM.
        shots: how often each is measured.
        optimization_level: how hard the transpiler tries, from 0 to 3.
        initial_layout: the physical qubit of each qubit; left out, the transpiler chooses.
        seed: makes both the compilation and the counts repeatable.

    Publishes what was compiled, and returns a list with the counts of each circuit.
    """
    if not isinstance(circuits, list):
        circuits = [circuits]
    circuits = [parse(each) if isinstance(each, str) else each for each in circuits]

    compiled = transpile(
        circuits,
        backend,
        optimization_level=optimization_level,
        initial_layout=initial_layout,
        seed_transpiler=seed,
    )
    for number, each in enumerate(compiled):
        user_messenger.publish(
            {"circuit": number, "depth": each.depth(), "gates": dict(each.count_ops())}
        )

    result = backend.run(compiled, shots=shots, seed_simulator=seed).result()
    return [result.get_counts(number) for number in range(len(compiled))]


def parse(text):
    """Return the circuit of a text in OpenQASM 2, as Qiskit writes it, or 3."""
    if re.search(r"OPENQASM\s+3|stdgates\.inc", text):
        return qasm3.loads(text)
    return QuantumCircuit.from_qasm_str(text)
