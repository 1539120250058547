#!/usr/bin/env bash
# The Qiskit provider of Braket returns only the classical bits that were measured, moved together: a bit
# measured into c[2] is reported as c[0], by get_counts and, without a word, by BackendSamplerV2.
set -euo pipefail
packages=(qiskit-braket-provider==0.27.1 amazon-braket-sdk==1.127.5 qiskit==2.6.2)

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

from qiskit import QuantumCircuit
from qiskit.primitives import BackendSamplerV2, StatevectorSampler
from qiskit_braket_provider import BraketLocalBackend

logging.disable()
circuit = QuantumCircuit(1, 3)
circuit.x(0)
circuit.measure(0, 2)

backend = BraketLocalBackend()
counts = backend.run(circuit, shots=10).result().get_counts()


def sampled(sampler):
    return sampler.run([circuit], shots=10).result()[0].data.c.get_counts()


right, wrong = sampled(StatevectorSampler()), sampled(BackendSamplerV2(backend=backend))
print(f"a 1 measured into c[2]: statevector {right}, Braket's counts {counts}, sampled {wrong}")
assert right == {"100": 10}
assert counts == {"1": 10}
assert wrong == {"001": 10}
PYTHON
    echo "finding changed: ${0##*/}"
    exit 1
fi
echo "finding holds: Braket reports the bits that were measured as the lowest ones"
