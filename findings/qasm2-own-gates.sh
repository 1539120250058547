#!/usr/bin/env bash
# A gate that the text defines: BQSKit uses its own gate of that name, though OpenQASM 2 has none (ecr, iswap), and
# Qibo runs it and leaves it out of the circuit's unitary.
set -euo pipefail
packages=(qiskit==2.6.2 bqskit==1.2.1 qibo==0.3.6)

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

logging.disable()
qibo.set_backend("numpy")
TEXT = """OPENQASM 2.0;
include "qelib1.inc";
gate {0} a,b {{ x a; cx a,b; }}
qreg q[2];
{0} q[0],q[1];
"""


def state(matrix):
    """Return the state that 00 becomes, the first qubit first."""
    return f"{np.argmax(np.abs(np.asarray(matrix)[:, 0])):02b}"


seen = {}
for name in "pair", "iswap":
    text = TEXT.format(name)
    read = qibo.Circuit.from_qasm(text)
    seen[name] = {
        "Qiskit": state(Operator(qasm2.loads(text).reverse_bits()).data),
        "BQSKit": state(OPENQASM2Language().decode(text).get_unitary().numpy),
        "Qibo, run": f"{np.argmax(read().probabilities()):02b}",
        "Qibo, unitary": state(read.unitary()),
    }
    print(f"gate {name} a,b {{ x a; cx a,b; }} on 00:", seen[name])
for each in seen.values():
    assert each["Qiskit"] == each["Qibo, run"] == "11"
    assert each["Qibo, unitary"] == "00"
assert seen["pair"]["BQSKit"] == "11"
assert seen["iswap"]["BQSKit"] == "00"
PYTHON
    echo "finding changed: ${0##*/}"
    exit 1
fi
echo "finding holds: BQSKit ignores a definition, Qibo a gate, of the text"
