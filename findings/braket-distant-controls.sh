#!/usr/bin/env bash
# Among four qubits or more, Braket's local simulator applies a controlled gate wrongly between some pairs that are
# not neighbours, without an error; X, Y, Z and phases are right. The Qiskit provider passes ch, cs, csx, crx, cry
# and crz on in this form.
set -euo pipefail
packages=(amazon-braket-sdk==1.127.5 amazon-braket-default-simulator==1.41.2)

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
from braket.circuits import Circuit
from braket.devices import LocalSimulator

logging.disable()


def ones(control, target):
    """Return how likely the target is 1 after a controlled H, and how likely it should be."""
    prepared = Circuit()
    for qubit in range(4):
        prepared.ry(qubit, 0.5 + 0.3 * qubit)
    prepared.h(target, control=control).state_vector()
    state = LocalSimulator("braket_sv").run(prepared, shots=0).result().values[0]
    found = (np.abs(state) ** 2).reshape([2] * 4).sum(axis=tuple({0, 1, 2, 3} - {target}))[1]
    is_on, angle = np.sin(0.25 + 0.15 * control) ** 2, 0.5 + 0.3 * target
    idle, turned = np.sin(angle / 2) ** 2, (1 - np.sin(angle)) / 2
    return float(found), float(is_on * turned + (1 - is_on) * idle)


wrong = []
for control in range(4):
    for target in {0, 1, 2, 3} - {control}:
        found, right = ones(control, target)
        if abs(found - right) > 1e-6:
            wrong.append((control, target))
            print(f"H on qubit {target} controlled by {control}: 1 by {found:.3f}, must be {right:.3f}")
assert wrong == [(1, 3), (2, 0)], wrong
PYTHON
    echo "finding changed: ${0##*/}"
    exit 1
fi
echo "finding holds: a control is applied wrongly between distant qubits"
