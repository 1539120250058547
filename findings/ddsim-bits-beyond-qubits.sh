#!/usr/bin/env bash
# DDSIM's simulator of shots refuses a circuit that measures into a classical bit whose number is not below that of
# its qubits, with an error about a permutation: one qubit, two bits, and the second one used is enough.
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

backend = DDSIMProvider().get_backend("qasm_simulator")
for qubits in 2, 1:
    circuit = QuantumCircuit(qubits, 2)
    circuit.x(0)
    circuit.measure(0, 1)
    try:
        counts = backend.run(circuit, shots=10).result().get_counts()
    except ValueError as error:
        print(f"{qubits} qubit, bit 1 of 2: ValueError: {error}")
        assert qubits == 1
    else:
        print(f"{qubits} qubits, bit 1 of 2: {counts}")
        assert (qubits, counts) == (2, {"10": 10})
PYTHON
    echo "finding changed: ${0##*/}"
    exit 1
fi
echo "finding holds: no measurement into a bit beyond the number of qubits"
