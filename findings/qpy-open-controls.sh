#!/usr/bin/env bash
# Qiskit 2.1, the newest that IQM's client 36 allows, reads a controlled X with three controls or more from QPY with
# all controls closed, whatever their states were, from its own files too. (Right from 2.3 on.)
set -euo pipefail
packages=(qiskit==2.1.2)

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

from qiskit import QuantumCircuit, qpy
from qiskit.circuit.library import XGate
from qiskit.quantum_info import Statevector


def again(circuit):
    file = io.BytesIO()
    qpy.dump(circuit, file)
    file.seek(0)
    return qpy.load(file)[0]


for controls in 2, 3, 4:
    circuit = QuantumCircuit(controls + 1)
    circuit.append(XGate().control(controls, ctrl_state=0), range(controls + 1))
    before, after = (
        round(Statevector(each).probabilities([controls])[1]) for each in (circuit, again(circuit))
    )
    print(f"X if {controls} qubits are 0, which they are: flips it {before}, once read {after}")
    assert (before, after) == (1, controls < 3)
PYTHON
    echo "finding changed: ${0##*/}"
    exit 1
fi
echo "finding holds: QPY closes the open controls of a controlled X"
