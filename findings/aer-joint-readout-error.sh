#!/usr/bin/env bash
# A readout error of two qubits, as add_readout_error takes it, never acts: Qiskit measures qubits one by one, and Aer
# looks the errors of a measurement up by exactly its qubits. The model prints it among its errors all the same.
# (Qiskit/qiskit-aer#319, closed in 2019.)
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
import numpy as np
from qiskit import QuantumCircuit
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel, ReadoutError

EACH = [[0.1, 0.9], [0.9, 0.1]]  # each bit is read as the other one, mostly

apart, joint = NoiseModel(), NoiseModel()
for qubit in range(2):
    apart.add_readout_error(ReadoutError(EACH), [qubit])
joint.add_readout_error(ReadoutError(np.kron(EACH, EACH)), [0, 1])

circuit = QuantumCircuit(2)
circuit.measure_all()
counts = {}
for name, model in {"two of one qubit": apart, "one of two qubits": joint}.items():
    simulator = AerSimulator(noise_model=model, seed_simulator=1)
    counts[name] = simulator.run(circuit, shots=1000).result().get_counts()
    print(f"{name}: {counts[name]}")
print(joint)
assert counts["two of one qubit"]["11"] > 700
assert counts["one of two qubits"] == {"00": 1000}
assert "('measure', (0, 1))" in str(joint)
PYTHON
    echo "finding changed: ${0##*/}"
    exit 1
fi
echo "finding holds: a readout error of two qubits is accepted, shown, and without effect"
