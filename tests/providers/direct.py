"""Run circuits on what a recipe makes, in the environment of its provider and without a runner.

Arguments: the recipe, its arguments as JSON, a QPY file, the shots of each circuit in each of
several runs, and how many runs.  Writes the counts of each circuit as JSON.
"""

import json
import sys
from collections import Counter
from pathlib import Path

from qiskit import qpy

sys.path.insert(0, str(Path(__file__).parents[2]))

from holder import recipes


def main(recipe, arguments, file, shots, runs):
    made = getattr(recipes, recipe)(**json.loads(arguments))
    backend = getattr(made, "backend", made)
    with Path(file).open("rb") as opened:
        circuits = qpy.load(opened)
    counts = [Counter() for _ in circuits]
    for _ in range(int(runs)):
        result = backend.run(circuits, shots=int(shots)).result()
        for index, total in enumerate(counts):
            total.update(result.get_counts(index))
    sys.stdout.write(json.dumps(counts))


if __name__ == "__main__":
    main(*sys.argv[1:])
