#!/usr/bin/env bash
# A sampler or an estimator with a whole number as its seed starts its random numbers again for every PUB, the
# statevector sampler for every set of values too. Many runs of one circuit in one job are one run, copied: their mean
# is no better than one of them, and their spread is zero. (Qiskit/qiskit#13047 and Qiskit/qiskit#13730, open.)
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
from qiskit.circuit import Parameter
from qiskit.primitives import BackendSamplerV2, StatevectorEstimator, StatevectorSampler
from qiskit_aer import AerSimulator
from qiskit_aer.primitives import EstimatorV2

plus = QuantumCircuit(1)
plus.h(0)
measured = plus.measure_all(inplace=False)
turned = plus.copy()
turned.rz(Parameter("angle"), 0)  # which no measurement notices
turned.measure_all()
RUNS = 50


def spread(values):
    return round(float(np.std(values)), 4)


def sampled(sampler):
    results = sampler.run([measured] * RUNS, shots=100).result()
    return spread([each.data.meas.get_counts().get("1", 0) / 100 for each in results])


def swept(sampler):
    (result,) = sampler.run([(turned, np.linspace(0, 1, RUNS))], shots=100).result()
    return spread(result.data.meas.bitcount().mean(axis=-1))


def estimated(estimator):
    results = estimator.run([(plus, "Z")] * RUNS, precision=0.1).result()
    return spread([each.data.evs for each in results])


aer_options = {"run_options": {"seed_simulator": 7}}
seen = {
    "StatevectorSampler(seed=7)": sampled(StatevectorSampler(seed=7)),
    "StatevectorSampler(seed=7), one circuit with 50 values": swept(StatevectorSampler(seed=7)),
    "StatevectorEstimator(seed=7)": estimated(StatevectorEstimator(seed=7)),
    "EstimatorV2 of Aer, seed_simulator=7": estimated(EstimatorV2(options=aer_options)),
}
generator = np.random.default_rng(7)
others = {
    "StatevectorSampler(seed=default_rng(7))": sampled(StatevectorSampler(seed=generator)),
    "BackendSamplerV2 on Aer, seed_simulator=7": sampled(
        BackendSamplerV2(backend=AerSimulator(), options={"seed_simulator": 7})
    ),
}
print(f"spread of {RUNS} results, each of 100 shots or to a precision of 0.1:")
for name, value in {**seen, **others}.items():
    print(f"  {name}: {value}")
assert set(seen.values()) == {0}
assert all(0.03 < value < 0.07 for value in others.values())
PYTHON
    echo "finding changed: ${0##*/}"
    exit 1
fi
echo "finding holds: every PUB of a seeded primitive has the same random numbers"
