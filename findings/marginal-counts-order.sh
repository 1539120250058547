#!/usr/bin/env bash
# Of three ways to pick bits out of counts, by a list of their positions, two return them in the order of the list;
# marginal_counts sorts the list first. Its sibling with the same arguments, marginal_distribution, does not.
set -euo pipefail
packages=(qiskit==2.6.2)

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
from qiskit.primitives import BitArray
from qiskit.result import marginal_counts, marginal_distribution

counts = {"001": 10}  # bit 0 is 1
order = [2, 0]
seen = {
    "marginal_counts": marginal_counts(counts, order),
    "marginal_distribution": marginal_distribution(counts, order),
    "BitArray.slice_bits": BitArray.from_counts(counts, num_bits=3).slice_bits(order).get_counts(),
}
print(f"bits {order} of {counts}: {seen}")
assert seen.pop("marginal_counts") == {"01": 10}
assert all(each == {"10": 10} for each in seen.values())
PYTHON
    echo "finding changed: ${0##*/}"
    exit 1
fi
echo "finding holds: marginal_counts ignores the order of the bits that it is asked for"
