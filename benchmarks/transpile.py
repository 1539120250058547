"""What keeping the target saves: `transpile` for our backend against a plain AerSimulator.

One program, inside one sandbox, transpiles the same random circuits (5 qubits, depth 4, as in
`random_circuits`) for both in turns, and compares what comes out.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.report import Row, arguments, median, report
from runner import Supervisor

PROGRAM = Path(__file__).parent / "programs" / "transpile.py"
TARGET = 4.0


def main() -> int:
    """Measure and report; 1 if it saves less than it should."""
    options = arguments(__doc__, rounds=30)
    with Supervisor() as supervisor:
        found = supervisor.run(PROGRAM, {"rounds": options.rounds}).result(300)
    kept, plain = (median(found[name]) for name in ("kept", "plain"))
    rows = [
        Row("transpile, plain AerSimulator", plain * 1e3, "ms"),
        Row("transpile, the backend of main", kept * 1e3, "ms"),
        Row("  ratio", plain / kept, "times", at_least=TARGET),
        Row("circuits in which Qiskit chose another gate", found["different"], "of all"),
    ]
    return report("transpile", rows, options)


if __name__ == "__main__":
    raise SystemExit(main())
