#!/usr/bin/env bash
# Simulators of one provider, one circuit: the hybrid and the path simulator of MQT DDSIM ignore which
# classical bit a qubit is measured into, and answer in the order of the qubits.
set -euo pipefail
packages=(mqt.ddsim==2.7.0 qiskit==2.6.2)

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
from mqt.ddsim import DDSIMProvider
from qiskit import QuantumCircuit

circuit = QuantumCircuit(2, 2)
circuit.x(0)
circuit.measure([0, 1], [1, 0])  # as a router does that ends with a swap

counts = {}
for name in "qasm_simulator", "hybrid_qasm_simulator", "path_qasm_simulator":
    counts[name] = DDSIMProvider().get_backend(name).run(circuit, shots=10).result().get_counts()
print(counts)
assert counts["qasm_simulator"] == {"10": 10}
assert counts["hybrid_qasm_simulator"] == {"01": 10}
assert counts["path_qasm_simulator"] == {"01": 10}
PYTHON
    echo "finding changed: ${0##*/}"
    exit 1
fi
echo "finding holds: two of three DDSIM simulators ignore the map of measurements"
