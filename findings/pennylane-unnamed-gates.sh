#!/usr/bin/env bash
# qml.from_qiskit passes a gate that PennyLane has no name for (csx, rzx, dcx, any UnitaryGate) on as its matrix,
# which Qiskit orders with the first qubit last and PennyLane with the first qubit first: the qubits change
# roles. A controlled gate gets its target for a control. (Seen for `cu` in PennyLaneAI/pennylane#6942, open.)
set -euo pipefail
packages=(pennylane==0.45.1 pennylane-qiskit==0.45.0 qiskit==2.3.0)

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
import pennylane as qml
from qiskit import QuantumCircuit
from qiskit.quantum_info import Statevector

circuit = QuantumCircuit(2)
circuit.x(0)
circuit.csx(0, 1)
circuit.csx(0, 1)  # twice the square root of X, controlled by a qubit that is 1
(expected,) = Statevector(circuit).reverse_qargs().probabilities_dict()


@qml.qnode(qml.device("default.qubit", wires=2))
def probabilities():
    qml.from_qiskit(circuit)(wires=[0, 1])
    return qml.probs(wires=[0, 1])


most_likely = f"{probabilities().argmax():02b}"
print(f"first qubit first: Qiskit {expected}, PennyLane {most_likely}")
assert expected == "11"
assert most_likely == "10"
PYTHON
    echo "finding changed: ${0##*/}"
    exit 1
fi
echo "finding holds: PennyLane swaps the qubits of a Qiskit gate that it has no name for"
