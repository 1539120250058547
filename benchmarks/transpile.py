"""What keeping the target saves: `transpile` for our backend against a plain AerSimulator.

One program, inside one sandbox, transpiles the same random circuits (5 qubits, depth 4, as in
`random_circuits`) for both in turns, and insists that what comes out is equivalent.  Then once more
in a warm sandbox, where what Qiskit looks up at each call has been looked up before.
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
    inputs = {"rounds": options.rounds}
    with Supervisor() as supervisor:
        found = supervisor.run(PROGRAM, inputs).result(300)
    with Supervisor(warm={PROGRAM: 1}) as supervisor:
        supervisor.wait_until_warm(300)
        warm = supervisor.run(PROGRAM, inputs).result(300)
    kept, plain = (median(found[name]) for name in ("kept", "plain"))
    rows = [
        Row("transpile, plain AerSimulator", plain * 1e3, "ms"),
        Row("transpile, the backend of main", kept * 1e3, "ms"),
        Row("  ratio", plain / kept, "times", at_least=TARGET),
        Row("transpile, the backend of main, warm", median(warm["kept"]) * 1e3, "ms"),
        Row("circuits in which Qiskit chose another gate", found["different"], "of all"),
    ]
    return report("transpile", rows, options)


if __name__ == "__main__":
    raise SystemExit(main())
