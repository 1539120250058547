#!/usr/bin/env bash
# cu3 is two gates under one name: qelib1.inc, as it was published, lets the control keep its phase; Qiskit's own
# copy turns it by half of phi + lambda since 2019 (Qiskit/qiskit#2755). Qibo and QuTiP follow the first, BQSKit and
# others the second; a file that one of them wrote is another circuit for the other.
set -euo pipefail
packages=(qiskit==2.6.2 qibo==0.3.6 qutip-qip==0.4.2 bqskit==1.2.1)

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

import numpy as np
import qibo
from bqskit.ir.lang.qasm2 import OPENQASM2Language
from qiskit import qasm2
from qiskit.quantum_info import Operator
from qutip_qip.qasm import read_qasm

logging.disable()
qibo.set_backend("numpy")
HEAD = 'OPENQASM 2.0;\ninclude "qelib1.inc";\n'
PUBLISHED = """gate first(theta,phi,lambda) c,t {
  u1((lambda-phi)/2) t; cx c,t; u3(-theta/2,0,-(phi+lambda)/2) t; cx c,t; u3(theta/2,phi,0) t;
}
"""
text = HEAD + "qreg q[2];\ncu3(0.3,0.5,0.7) q[0],q[1];\n"


def by_qiskit(text):
    """Return the matrix with the first qubit first, as the others have it."""
    return Operator(qasm2.loads(text).reverse_bits()).data


first = by_qiskit(HEAD + PUBLISHED + "qreg q[2];\nfirst(0.3,0.5,0.7) q[0],q[1];\n")
read = {
    "Qiskit": by_qiskit(text),
    "BQSKit": OPENQASM2Language().decode(text).get_unitary().numpy,
    "Qibo": qibo.Circuit.from_qasm(text).unitary(),
    "QuTiP": read_qasm(text, strmode=True).compute_unitary().full(),
}


def overlap(matrix, other):
    return round(float(abs(np.vdot(matrix, other))) / 4, 4)


seen = {}
for name, matrix in read.items():
    seen[name] = overlap(matrix, first), overlap(matrix, read["Qiskit"])
    print(f"{name}: overlap with the published gate {seen[name][0]}, with Qiskit's {seen[name][1]}")
assert seen["Qibo"] == seen["QuTiP"] == (1, 0.9553)
assert seen["Qiskit"] == seen["BQSKit"] == (0.9553, 1)
PYTHON
    echo "finding changed: ${0##*/}"
    exit 1
fi
echo "finding holds: Qibo and QuTiP read another cu3 than Qiskit writes"
