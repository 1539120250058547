#!/usr/bin/env bash
# IBM's JSON encoder changes values without an error: a Clifford, which can be called, is taken for a
# function and becomes null (a warning tells); the masked points of an array come back as data; an
# element of a ParameterVector comes back as a plain parameter, which its own circuit does not know.
set -euo pipefail
packages=(qiskit-ibm-runtime==0.51.0 qiskit==2.6.2)

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
import json

import numpy as np
from qiskit import QuantumCircuit
from qiskit.circuit import ParameterVector
from qiskit.quantum_info import Clifford
from qiskit_ibm_runtime import RuntimeDecoder, RuntimeEncoder


def returned(value):
    return json.loads(json.dumps(value, cls=RuntimeEncoder), cls=RuntimeDecoder)


bell = QuantumCircuit(2)
bell.h(0)
bell.cx(0, 1)
clifford = returned(Clifford(bell))
print("a Clifford comes back as", clifford)

readings = np.ma.masked_greater([1.0, 2.0, 999.0], 100)  # 999 says that there is no reading
mean = float(np.mean(returned(readings)))
print(f"the mean of readings, one of them masked: {readings.mean()}, when they came back {mean}")

angles = ParameterVector("angle", 1)
rotation = QuantumCircuit(1)
rotation.rx(angles[0], 0)
sent = returned({"circuit": rotation, "angle": angles[0]})
known = sent["angle"] in sent["circuit"].parameters
print("a parameter that came back beside its circuit is one of it:", known)

assert clifford is None
assert (readings.mean(), mean) == (1.5, 334.0)
assert angles[0] in rotation.parameters
assert not known
PYTHON
    echo "finding changed: ${0##*/}"
    exit 1
fi
echo "finding holds: IBM's encoder changes Cliffords, masked arrays and elements of vectors"
