#!/usr/bin/env bash
# The same line in OpenQASM 2 and 3: the division of two whole numbers, as in rx(1/2*pi), is a fraction in version 2
# and a whole number in version 3, so a quarter turn becomes none. Qiskit and Braket agree on it; a text whose first
# line alone was changed is another circuit.
set -euo pipefail
packages=(qiskit==2.6.2 qiskit-qasm3-import==0.6.0 amazon-braket-sdk==1.127.5)

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
import logging

from braket.devices import LocalSimulator
from braket.ir.openqasm import Program
from qiskit import qasm2, qasm3
from qiskit.quantum_info import Statevector

logging.disable()


def ones(circuit):
    return round(float(Statevector(circuit).probabilities()[1]), 3)


def ones_by_braket(text):
    (shot,) = LocalSimulator().run(Program(source=text), shots=10).result().measurement_counts
    return int(shot)


seen = {}
for written in "1/2*pi", "3/2*pi", "pi*1/2":
    gate = f"rx({written}) q[0];"
    old = qasm2.loads(f'OPENQASM 2.0; include "qelib1.inc"; qreg q[1]; {gate}')
    new = qasm3.loads(f'OPENQASM 3.0; include "stdgates.inc"; qubit[1] q; {gate}')
    seen[written] = ones(old), ones(new)
    print(f"rx({written}): share of ones in OpenQASM 2 {seen[written][0]}, in 3 {seen[written][1]}")
braket = ones_by_braket("OPENQASM 3.0; qubit[1] q; bit[1] c; rx(3/2*pi) q[0]; c[0] = measure q[0];")
print("rx(3/2*pi) in OpenQASM 3 by Braket:", braket)
assert seen == {"1/2*pi": (0.5, 0), "3/2*pi": (0.5, 1), "pi*1/2": (0.5, 0.5)}
assert braket == 1
PYTHON
    echo "finding changed: ${0##*/}"
    exit 1
fi
echo "finding holds: 1/2 is 0 in OpenQASM 3, and a half in OpenQASM 2"
