#!/usr/bin/env bash
# NoiseModel.to_dict drops what acts on delays: a device's model that went through a dictionary (as
# IBM's JSON encoder sends it) simulates qubits that never relax while they wait. The gates keep their noise.
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
from qiskit import QuantumCircuit
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel

device = GenericBackendV2(2, seed=1)
t1_us = device.target.qubit_properties[0].t1 * 1e6
original = NoiseModel.from_backend(device)
read_back = NoiseModel.from_dict(original.to_dict())

circuit = QuantumCircuit(1, 1)
circuit.x(0)
circuit.delay(300, 0, unit="us")
circuit.measure(0, 0)


def ones(model):
    simulator = AerSimulator(noise_model=model, seed_simulator=1)
    return simulator.run(circuit, shots=4000).result().get_counts().get("1", 0) / 4000


kept, lost = ones(original), ones(read_back)
print(f"share of ones, 300 us after an X on a qubit of T1 {t1_us:.0f} us: {kept:.3f}")
print(f"with the model that came back from its dictionary: {lost:.3f}")
assert read_back.noise_instructions == original.noise_instructions
assert kept < 0.3
assert lost > 0.95
PYTHON
    echo "finding changed: ${0##*/}"
    exit 1
fi
echo "finding holds: the relaxation of delays does not survive NoiseModel.to_dict"
