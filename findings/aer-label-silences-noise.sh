#!/usr/bin/env bash
# A label, which Qiskit uses for drawings, turns the noise of a gate off: Aer looks a gate's noise up
# by its label, and by its name only when it has none. A device's noise model, too, then skips it.
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
from qiskit import QuantumCircuit, transpile
from qiskit.circuit.library import XGate
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel, depolarizing_error

model = NoiseModel()
model.add_all_qubit_quantum_error(depolarizing_error(0.2, 1), ["x"])
simulator = AerSimulator(noise_model=model, seed_simulator=1)


def ones(label):
    """Return the share of ones after 21 X gates, with transpilation for this very simulator."""
    circuit = QuantumCircuit(1, 1)
    for _ in range(21):
        circuit.append(XGate(label=label), [0])
        circuit.barrier()
    circuit.measure(0, 0)
    counts = simulator.run(transpile(circuit, simulator), shots=4000).result().get_counts()
    return counts.get("1", 0) / 4000


plain, labelled = ones(None), ones("pulse")
print(f"share of ones after 21 noisy X gates: plain {plain:.3f}, labelled {labelled:.3f}")
assert abs(plain - 0.5) < 0.05
assert labelled == 1.0
PYTHON
    echo "finding changed: ${0##*/}"
    exit 1
fi
echo "finding holds: a labelled gate runs without the noise of its name"
