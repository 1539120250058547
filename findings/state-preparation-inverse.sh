#!/usr/bin/env bash
# The inverse of a StatePreparation is the same class with the same numbers and a private flag. What writes
# class and numbers writes the preparation itself: QPY (Qiskit/qiskit#17000, open) and pytket both undo no state.
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
import io

from pytket.extensions.qiskit import qiskit_to_tk
from qiskit import QuantumCircuit, qpy
from qiskit.circuit.library import StatePreparation
from qiskit.quantum_info import Statevector

prepare = StatePreparation([0.6, 0.8j])
circuit = QuantumCircuit(1)
circuit.append(prepare, [0])
circuit.append(prepare.inverse(), [0])

file = io.BytesIO()
qpy.dump(circuit, file)
file.seek(0)
(read,) = qpy.load(file)

returned = {
    "itself": abs(Statevector(circuit).data[0]) ** 2,
    "through QPY": abs(Statevector(read).data[0]) ** 2,
    "through pytket": abs(qiskit_to_tk(circuit).get_statevector()[0]) ** 2,
}
for name, probability in returned.items():
    print(f"probability that the qubit is back in 0, {name}: {probability:.3f}")
assert returned["itself"] > 0.999
assert returned["through QPY"] < 0.9
assert returned["through pytket"] < 0.9
PYTHON
    echo "finding changed: ${0##*/}"
    exit 1
fi
echo "finding holds: QPY and pytket read the inverse of a StatePreparation as the preparation"
