#!/usr/bin/env bash
# A classical register may list bits in another order than the circuit does. One circuit, no noise,
# three answers: Aer's counts ignore the register's order, both samplers on Aer lose the 1 altogether,
# and only the statevector sampler reports the bit that was set.
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
from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister
from qiskit.circuit import Clbit
from qiskit.primitives import BackendSamplerV2, StatevectorSampler
from qiskit_aer import AerSimulator
from qiskit_aer.primitives import SamplerV2

bits = [Clbit() for _ in range(3)]
register = ClassicalRegister(name="c", bits=bits[::-1])  # c[2] is the first bit of the circuit
circuit = QuantumCircuit(QuantumRegister(3), bits, register)
circuit.x(0)
circuit.measure(range(3), bits)


def sampled(sampler):
    return sampler.run([circuit], shots=10).result()[0].data.c.get_counts()


simulator = AerSimulator()
seen = {
    "StatevectorSampler": sampled(StatevectorSampler()),
    "get_counts of Aer": simulator.run(circuit, shots=10).result().get_counts(),
    "BackendSamplerV2 on Aer": sampled(BackendSamplerV2(backend=simulator)),
    "SamplerV2 of Aer": sampled(SamplerV2()),
}
for name, counts in seen.items():
    print(f"{name}: {counts}")
assert [list(counts) for counts in seen.values()] == [["100"], ["001"], ["000"], ["000"]]
PYTHON
    echo "finding changed: ${0##*/}"
    exit 1
fi
echo "finding holds: of four ways to sample a register that reorders its bits, one is right"
