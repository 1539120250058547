#!/usr/bin/env bash
# A fake device runs what the device could not, and without noise: a cx between qubits that are not connected, or a
# gate outside its basis. So a circuit that nobody transpiled does better than one that suits the device. IBM's
# sampler refuses it; the device's run and BackendSamplerV2 do not.
set -euo pipefail
packages=(qiskit==2.6.2 qiskit-aer==0.18.2 qiskit-ibm-runtime==0.51.0)

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
from qiskit.primitives import BackendSamplerV2
from qiskit_ibm_runtime.fake_provider import FakeManilaV2

device = FakeManilaV2()
PAIRS = {"connected": (0, 1), "not connected": (0, 4)}


def circuit(control, target):
    """Return 100 cx, which are nothing without noise."""
    made = QuantumCircuit(5)
    for _ in range(100):
        made.cx(control, target)
        made.barrier()
    made.measure_all()
    return made


def right(counts):
    return counts.get("00000", 0) / sum(counts.values())


sampler = BackendSamplerV2(backend=device, options={"seed_simulator": 1})
ran, sampled = {}, {}
for name, pair in PAIRS.items():
    made = circuit(*pair)
    ran[name] = right(device.run(made, shots=4000, seed_simulator=1).result().get_counts())
    sampled[name] = right(sampler.run([made], shots=4000).result()[0].data.meas.get_counts())
    print(f"{name} {pair}: right after 100 cx {ran[name]:.2f}, sampled {sampled[name]:.2f}")
assert device.coupling_map.distance(0, 4) == 4
for shares in ran, sampled:
    assert shares["connected"] < 0.7
    assert shares["not connected"] > 0.85  # the readout errs alone
PYTHON
    echo "finding changed: ${0##*/}"
    exit 1
fi
echo "finding holds: a fake device has no noise for what it cannot do"
