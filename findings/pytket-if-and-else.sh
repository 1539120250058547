#!/usr/bin/env bash
# pytket has conditions and no branches: qiskit_to_tk puts one on each operation of both branches. If the first branch
# writes the bit that is asked for, as one that resets and measures again does, the second is run after it.
set -euo pipefail
packages=(pytket==2.18.5 pytket-qiskit==0.79.0 qiskit==2.6.2 qiskit-aer==0.18.2)

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
from pytket.extensions.qiskit import AerBackend, qiskit_to_tk
from qiskit import QuantumCircuit
from qiskit_aer import AerSimulator

circuit = QuantumCircuit(2, 2)
circuit.x(0)
circuit.measure(0, 0)
with circuit.if_test((0, 1)) as otherwise:
    circuit.reset(0)
    circuit.measure(0, 0)
with otherwise:
    circuit.x(1)
circuit.measure(1, 1)

expected = AerSimulator().run(circuit, shots=10).result().get_counts()
backend = AerBackend()
converted = backend.get_compiled_circuit(qiskit_to_tk(circuit))
found = {  # pytket's first bit is first
    "".join(map(str, bits[::-1])): int(number)
    for bits, number in backend.run_circuit(converted, n_shots=10).get_counts().items()
}
print(f"one branch, by Qiskit: {expected}, both, by pytket: {found}")
assert expected == {"00": 10}
assert found == {"10": 10}
PYTHON
    echo "finding changed: ${0##*/}"
    exit 1
fi
echo "finding holds: pytket runs the else branch after an if branch that changed its condition"
