#!/usr/bin/env bash
# QPY keeps the number of a delay and drops its unit, so 100 us are read as 100 dt, here 22 ns. A relaxation
# experiment that was stored as QPY measures a qubit that never decays. (Qiskit/qiskit#8293, open since 2022.)
set -euo pipefail
packages=(qiskit==2.6.2 qiskit-aer==0.18.2)

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
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit_aer import AerSimulator

device = GenericBackendV2(2, seed=1)
t1_us = device.target.qubit_properties[0].t1 * 1e6
simulator = AerSimulator.from_backend(device, seed_simulator=1)

circuit = QuantumCircuit(1, 1)
circuit.x(0)
circuit.delay(300, 0, unit="us")
circuit.measure(0, 0)

file = io.BytesIO()
qpy.dump(circuit, file)
file.seek(0)
(read,) = qpy.load(file)


def ones(circuit):
    counts = simulator.run(circuit, shots=4000).result().get_counts()
    return counts.get("1", 0) / 4000


for name, each in ("written", circuit), ("read", read):
    delay = each.data[1].operation
    print(f"{name}: delay of {delay.duration} {delay.unit}, share of ones {ones(each):.3f}")
print(f"T1 is {t1_us:.0f} us")
assert (read.data[1].operation.duration, read.data[1].operation.unit) == (300, "dt")
assert ones(circuit) < 0.3
assert ones(read) > 0.95
PYTHON
    echo "finding changed: ${0##*/}"
    exit 1
fi
echo "finding holds: QPY reads every delay in dt, whatever unit it was written in"
