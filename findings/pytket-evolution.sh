#!/usr/bin/env bash
# qiskit_to_tk halves the time of a PauliEvolutionGate, and reverses its Pauli labels, which Qiskit writes with
# the first qubit last: a Hamiltonian simulation runs for half its time on mirrored qubits. Of the same gate
# decomposed beforehand the conversion is right.
set -euo pipefail
packages=(pytket==2.18.5 pytket-qiskit==0.79.0 qiskit==2.6.2)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if ! { "${PYTHON:-python3}" -m venv "$work/venv" &&
    "$work/venv/bin/pip" install --quiet --no-cache-dir "${packages[@]}"; } >"$work/log" 2>&1; then
    tail -n 5 "$work/log" >&2
    echo "cannot install ${packages[*]}" >&2
    exit 2
fi
echo "${packages[*]}"

cd "$work"
export HOME=$work TMPDIR=$work PYTHONWARNINGS=ignore
if ! venv/bin/python - <<'PYTHON'; then
import numpy as np
from pytket.extensions.qiskit import qiskit_to_tk
from qiskit import QuantumCircuit
from qiskit.circuit.library import PauliEvolutionGate
from qiskit.quantum_info import Operator, SparsePauliOp


def evolution(label, time):
    circuit = QuantumCircuit(2)
    circuit.append(PauliEvolutionGate(SparsePauliOp(label), time), [0, 1])
    return circuit


def overlap(converted, circuit):
    """Return 1 if both are one matrix, the phase aside; pytket's has the first qubit first."""
    matrix = Operator(circuit.reverse_bits()).data
    return round(float(abs(np.vdot(matrix, converted.get_unitary())) / 4), 4)


circuit = evolution("XY", 1.1)
converted = qiskit_to_tk(circuit)
seen = {
    "itself": overlap(converted, circuit),
    "half the time": overlap(converted, evolution("XY", 0.55)),
    "mirrored": overlap(converted, evolution("YX", 1.1)),
    "half the time, mirrored": overlap(converted, evolution("YX", 0.55)),
}
decomposed = overlap(qiskit_to_tk(circuit.decompose()), circuit)
print(f"overlap of the converted gate with {seen}; decomposed before: {decomposed}")
assert decomposed == 1
assert seen["half the time, mirrored"] == 1
assert max(list(seen.values())[:3]) < 0.9
PYTHON
    echo "finding changed: ${0##*/}"
    exit 1
fi
echo "finding holds: pytket evolves half as long, with the Pauli labels reversed"
