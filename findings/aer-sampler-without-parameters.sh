#!/usr/bin/env bash
# Aer's SamplerV2 runs a circuit without parameters once, however many sets of values it is given, and makes zeros of
# the rest. IBM's sampler, on a simulator, gives it one set for each randomization of its gate twirling: of a circuit
# without two-qubit gates, 31 of 32 shots come back as 0.
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
import numpy as np
from qiskit import QuantumCircuit
from qiskit.primitives import StatevectorSampler
from qiskit_aer import AerSimulator
from qiskit_aer.primitives import SamplerV2
from qiskit_ibm_runtime.executor_sampler import Sampler

circuit = QuantumCircuit(1, 1)
circuit.x(0)
circuit.measure(0, 0)


def sampled(sampler, *values):
    return sampler.run([(circuit, *values)], shots=64).result()[0].data.c.get_counts()


three_sets = np.empty((3, 0))  # three sets of no values
right, wrong = sampled(StatevectorSampler(), three_sets), sampled(SamplerV2(), three_sets)
print(f"an X, three times 64 shots: statevector {right}, Aer {wrong}")

twirling = {"enable_gates": True, "num_randomizations": 32, "shots_per_randomization": 64}
plain = sampled(Sampler(AerSimulator()))
twirled = sampled(Sampler(AerSimulator(), options={"twirling": twirling}))
print(f"IBM's sampler on Aer: plain {plain}, with twirled gates {twirled}")
assert right == {"1": 192}
assert wrong == {"1": 64, "0": 128}
assert plain == {"1": 64}
assert twirled == {"1": 64, "0": 1984}
PYTHON
    echo "finding changed: ${0##*/}"
    exit 1
fi
echo "finding holds: only the first set of values of a circuit without parameters is sampled"
