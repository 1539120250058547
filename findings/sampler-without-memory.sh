#!/usr/bin/env bash
# BackendSamplerV2 reads single shots and no counts. From a backend that returns counts alone, as DDSIM does,
# it makes zeros of every shot, without an error; BackendEstimatorV2, on the same backend, is right.
# (Qiskit/qiskit#15694, open.)
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
from qiskit.primitives import BackendEstimatorV2, BackendSamplerV2
from qiskit.quantum_info import SparsePauliOp

backend = DDSIMProvider().get_backend("qasm_simulator")
options = {"seed_simulator": 1}  # with none, both primitives pass a seed of None, a TypeError
flipped = QuantumCircuit(2)
flipped.x([0, 1])
measured = flipped.measure_all(inplace=False)

counts = backend.run(measured, shots=10).result().get_counts()
sampler = BackendSamplerV2(backend=backend, options=options)
sampled = sampler.run([measured], shots=10).result()[0].data.meas.get_counts()
estimator = BackendEstimatorV2(backend=backend, options=options)
parity = float(estimator.run([(flipped, SparsePauliOp("IZ"))]).result()[0].data.evs)
print(f"both qubits flipped: backend {counts}, estimator <IZ> {parity}, sampler {sampled}")
assert counts == {"11": 10}
assert parity == -1
assert sampled == {"00": 10}
PYTHON
    echo "finding changed: ${0##*/}"
    exit 1
fi
echo "finding holds: BackendSamplerV2 makes zeros of a backend's counts"
