#!/usr/bin/env bash
# Aer inverts a condition that casts a register to Bool: the branch is taken when the register is 0,
# and for no other value. Qiskit's expressions follow OpenQASM 3, where zero alone is false.
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
from qiskit.circuit.classical import expr, types
from qiskit_aer import AerSimulator


def taken(value, condition):
    """Return 1 if the branch under the condition on a register of this value was taken."""
    register, flag = ClassicalRegister(2, "c"), ClassicalRegister(1, "flag")
    circuit = QuantumCircuit(QuantumRegister(3), register, flag)
    for position in range(2):
        if value >> position & 1:
            circuit.x(position)
    circuit.measure([0, 1], register)
    with circuit.if_test(condition(register)):
        circuit.x(2)
    circuit.measure(2, flag)
    (key,) = AerSimulator().run(circuit, shots=20).result().get_counts()
    return int(key[0])


compared = [taken(value, lambda c: expr.not_equal(c, 0)) for value in range(4)]
cast = [taken(value, lambda c: expr.cast(c, types.Bool())) for value in range(4)]
print(f"taken for c = 0, 1, 2, 3: if c != 0 {compared}, if Bool(c) {cast}")
assert compared == [0, 1, 1, 1]
assert cast == [1, 0, 0, 0]
PYTHON
    echo "finding changed: ${0##*/}"
    exit 1
fi
echo "finding holds: Aer takes the branch of Bool(c) when c is 0, and only then"
