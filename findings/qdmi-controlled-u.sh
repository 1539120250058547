#!/usr/bin/env bash
# The QDMI simulator of mqt-core gives the control of `cu` a phase of half the gate's first angle, which nobody asked
# for. Its target also offers cs, csdg and ccz, so that transpile keeps them, and a job with one of them fails.
set -euo pipefail
packages=("mqt-core[qiskit]==4.1.1" qiskit==2.6.2)

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
if ! venv/bin/python - 2>/dev/null <<'PYTHON'; then
from mqt.core.plugins.qiskit import QDMIProvider
from qiskit import QuantumCircuit, transpile
from qiskit.quantum_info import Statevector

backend = QDMIProvider().get_backend("MQT Core DDSIM QDMI Device")


def zeros(act):
    """Return how often a control in |+> is found there after a gate, and how often it should be."""
    circuit = QuantumCircuit(2, 1)
    circuit.h(0)
    act(circuit)
    circuit.h(0)
    right = Statevector(circuit).probabilities([0])[0]
    circuit.measure(0, 0)
    assert transpile(circuit, backend, optimization_level=0).count_ops() == circuit.count_ops()
    counts = backend.run(circuit, shots=10_000).result().get_counts()
    return counts.get("0", 0) / 10_000, float(right)


for angle in 0.0, 1.0, 2.0:
    found, right = zeros(lambda circuit: circuit.cu(angle, 0, 0, 0, 0, 1))
    print(f"cu({angle}, 0, 0, 0): its control as before by {found:.2f}, must be {right:.2f}")
    assert (abs(found - right) > 0.02) == (angle > 0)
for name in "cs", "csdg":
    try:
        zeros(lambda circuit: getattr(circuit, name)(0, 1))
    except Exception as error:
        print(f"{name} is in the target, and gives {type(error).__name__}")
    else:
        raise SystemExit(f"{name} runs")
PYTHON
    echo "finding changed: ${0##*/}"
    exit 1
fi
echo "finding holds: cu turns the phase of its control, and cs is offered in vain"
