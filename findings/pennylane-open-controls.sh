#!/usr/bin/env bash
# qml.from_qiskit ignores the control state of a gate: what acts where its control is 0 acts where it is 1.
# The oracle of a search, for one, then marks another item.
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
circuit.cx(0, 1, ctrl_state=0)  # flips the second qubit, for the first is 0
(expected,) = Statevector(circuit).reverse_qargs().probabilities_dict()


@qml.qnode(qml.device("default.qubit", wires=2))
def probabilities():
    qml.from_qiskit(circuit)(wires=[0, 1])
    return qml.probs(wires=[0, 1])


most_likely = f"{probabilities().argmax():02b}"
print(f"first qubit first: Qiskit {expected}, PennyLane {most_likely}")
assert expected == "01"
assert most_likely == "00"
PYTHON
    echo "finding changed: ${0##*/}"
    exit 1
fi
echo "finding holds: PennyLane closes the open controls of a Qiskit circuit"
