#!/usr/bin/env bash
# One gate, one angle, six readers of OpenQASM 2: BQSKit and Qibo drop parentheses, PyZX takes pi for 1 and then the
# whole for a multiple of pi, and for quimb, QuTiP and Qibo ^ is Python's exclusive or. None of them says a word.
set -euo pipefail
packages=(qiskit==2.6.2 bqskit==1.2.1 qibo==0.3.6 pyzx==0.10.8 quimb==1.16.0 qutip-qip==0.4.2)

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
import pyzx
import qibo
import quimb.tensor
from bqskit.ir.lang.qasm2 import OPENQASM2Language
from qiskit import qasm2
from qiskit.quantum_info import Operator
from qutip_qip.qasm import read_qasm

logging.disable()
qibo.set_backend("numpy")
READERS = {
    "Qiskit": lambda text: Operator(qasm2.loads(text)).data,
    "BQSKit": lambda text: OPENQASM2Language().decode(text).get_unitary().numpy,
    "Qibo": lambda text: qibo.Circuit.from_qasm(text).unitary(),
    "PyZX": lambda text: pyzx.Circuit.from_qasm(text).to_matrix(),
    "quimb": lambda text: quimb.tensor.Circuit.from_openqasm2_str(text).get_uni().to_dense(),
    "QuTiP": lambda text: read_qasm(text, strmode=True).compute_unitary().full(),
}
TEXT = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[1]; rz({}) q[0];'


def angle(reader, written):
    matrix = np.asarray(READERS[reader](TEXT.format(written).replace("; ", ";\n")))
    return round(float(np.angle(matrix[1, 1] / matrix[0, 0])), 3)


seen = {}
for written in "(1-0.3)*2", "(pi-1)/2", "2^-1":
    seen[written] = {}
    for reader in READERS:
        try:
            seen[written][reader] = angle(reader, written)
        except Exception as error:  # a refusal is no surprise
            seen[written][reader] = type(error).__name__
    print(f"rz({written}):", seen[written])

brackets, multiple, power = seen.values()
assert brackets["Qiskit"] == brackets["PyZX"] == brackets["quimb"] == brackets["QuTiP"] == 1.4
assert brackets["BQSKit"] == brackets["Qibo"] == 0.4  # 1 - 0.3*2
assert multiple["Qiskit"] == multiple["quimb"] == multiple["QuTiP"] == 1.071
assert multiple["BQSKit"] == multiple["Qibo"] == 2.642  # pi - 1/2
assert multiple["PyZX"] == 0  # (1 - 1)/2
assert power["Qiskit"] == power["BQSKit"] == 0.5
assert power["quimb"] == power["QuTiP"] == power["Qibo"] == -3  # 2 xor -1
PYTHON
    echo "finding changed: ${0##*/}"
    exit 1
fi
echo "finding holds: five readers of OpenQASM 2 take an angle for another one"
