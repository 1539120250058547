"""Try every gate of several qubits that a target offers, between near and distant ones."""

import numpy as np
from qiskit import QuantumCircuit, transpile
from qiskit.circuit import ParameterExpression
from qiskit.circuit.library import get_standard_gate_name_mapping
from qiskit.quantum_info import Statevector

QUBITS = 5
PLACES = {
    2: [(0, 1), (3, 1), (1, 3), (2, 0), (0, 4), (4, 2)],
    3: [(0, 2, 4), (4, 1, 3), (2, 3, 0)],
}


def main(backend, user_messenger, shots=8000, seed=1):
    """Return, by gate, how far the worst of its distributions is from what Qiskit computes."""
    draw = np.random.default_rng(seed)
    known = get_standard_gate_name_mapping()
    names, circuits, wanted = [], [], []
    for name in sorted(set(backend.target.operation_names) & set(known)):
        gate = backend.target.operation_from_name(name)
        for place in PLACES.get(gate.num_qubits, ()):
            gate = gate.to_mutable()
            gate.params = [
                draw.uniform(-3, 3) if isinstance(each, ParameterExpression) else each
                for each in known[name].params
            ]
            circuit = QuantumCircuit(QUBITS)
            for qubit in range(QUBITS):
                circuit.ry(0.5 + 0.3 * qubit, qubit)
                circuit.rz(0.4 + 0.2 * qubit, qubit)
            circuit.append(gate, place)
            circuit.rx(0.9, range(QUBITS))
            names.append(name)
            wanted.append(Statevector(circuit).probabilities_dict())
            circuit.measure_all()
            circuits.append(circuit)
    circuits = transpile(circuits, backend, optimization_level=0)
    assert all(name in each.count_ops() for name, each in zip(names, circuits))
    distances = dict.fromkeys(names, 0.0)
    found = backend.run(circuits, shots=shots).result().get_counts()
    for name, counts, right in zip(names, found, wanted):
        keys = set(counts) | set(right)
        off = sum(abs(counts.get(key, 0) / shots - right.get(key, 0)) for key in keys) / 2
        distances[name] = max(distances[name], off)
    return distances
