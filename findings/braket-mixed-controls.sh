#!/usr/bin/env bash
# Braket's Circuit.to_unitary applies the states of a gate's controls in reverse order. With controls that
# mix 0 and 1 it contradicts Braket's own simulator and the OpenQASM that Braket sends to a device.
set -euo pipefail
packages=(amazon-braket-sdk==1.127.5)

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
matrix_says, simulator_says = [], []
for ones in [], [0], [1], [0, 1]:
    circuit = Circuit().i(0).i(1).i(2)
    for qubit in ones:
        circuit.x(qubit)
    circuit.x(2, control=[0, 1], control_state=[0, 1])  # where qubit 0 is 0 and qubit 1 is 1
    (counted,) = LocalSimulator().run(circuit, shots=10).result().measurement_counts
    amplitudes = circuit.to_unitary()[:, 0]
    matrix_says.append(f"{np.argmax(np.abs(amplitudes)):03b}")
    simulator_says.append(counted)

print(f"from 000, 100, 010, 110: the simulator {simulator_says}, to_unitary {matrix_says}")
assert simulator_says == ["000", "100", "011", "110"]
assert matrix_says == ["000", "101", "010", "110"]
PYTHON
    echo "finding changed: ${0##*/}"
    exit 1
fi
echo "finding holds: to_unitary flips the target where the first control is 1 and the second 0"
