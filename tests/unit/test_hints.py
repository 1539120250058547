"""What to do about an error, against the errors themselves, raised by the stack we ship."""

from __future__ import annotations

import re
import traceback
from pathlib import Path

import pytest

from runner.job.hints import REMOVED, hint, hint_for, hint_of_program
from runner.job.record import Evidence, JobRecord, Outcome

PAGE = Path(__file__).parents[2] / "docs" / "from-qiskit-runtime.md"


def error_of(code: str) -> str:
    """Return what a job's record says of the exception that the code raises."""
    try:
        exec(compile(code, "program.py", "exec"), {})
    except Exception as error:  # noqa: BLE001
        kind = type(error)
        name = (
            kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
        )
        frames = "".join(traceback.format_exception(error))
        return f"{name}: {error}\n{frames}\n    {code.splitlines()[-1]}"
    msg = f"{code!r} raises nothing"
    raise AssertionError(msg)


CIRCUIT = "from qiskit import QuantumCircuit\ncircuit = QuantumCircuit(1, 1)\n"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("from qiskit import execute", "backend.run(transpile"),
        ("import qiskit\nqiskit.execute", "backend.run(transpile"),
        ("from qiskit import Aer", "AerSimulator"),
        ("from qiskit import BasicAer", "BasicSimulator"),
        ("from qiskit import IBMQ", "no accounts"),
        ("from qiskit.opflow import X", "SparsePauliOp"),
        ("import qiskit.algorithms.optimizers", "SciPy"),
        ("from qiskit.tools.monitor import job_monitor", "job.result()"),
        ("from qiskit.providers.aer import QasmSimulator", "qiskit_aer"),
        ("from qiskit import pulse", "pulses are gone"),
        ("from qiskit.compiler import schedule", "pulses are gone"),
        ("from qiskit.extensions import UnitaryGate", "circuit.library"),
        ("from qiskit.utils import QuantumInstance", "BackendSamplerV2"),
        ("from qiskit.primitives import Sampler", "StatevectorSampler"),
        ("from qiskit.primitives import BackendEstimator", "BackendEstimatorV2"),
        (CIRCUIT + "circuit.bind_parameters({})", "assign_parameters"),
        (CIRCUIT + "circuit.x(0).c_if(0, 1)", "if_test"),
        (CIRCUIT + "circuit.qasm()", "qasm2.dumps"),
        (CIRCUIT + "circuit.cnot(0, 0)", "`cx`"),
        (CIRCUIT + "circuit.u3(0, 0, 0, 0)", "`u`"),
        (
            "from qiskit.providers.fake_provider import GenericBackendV2\n"
            "backend = GenericBackendV2(2, seed=1)\nbackend.name()",
            "without parentheses",
        ),
        (
            "from qiskit.providers.fake_provider import GenericBackendV2\n"
            "GenericBackendV2(2, seed=1).configuration()",
            "backend.target",
        ),
        ("from qiskit.providers.fake_provider import FakeManilaV2", "generic_backend_v2"),
        ("from qiskit_ibm_runtime.fake_provider import FakeManilaV2", "generic_backend_v2"),
        ("import no_such_package.part", "qrunner lock DIRECTORY"),
        ("open('data.csv')", "/program"),
        ("raise OSError(-3, 'Temporary failure in name resolution')", "no network"),
    ],
)
def test_an_error_of_the_stack_has_its_hint(code, said):
    assert said in hint_of_program(error_of(code), "program.py")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("inputs.marked: 101 is not of type 'string'", "-i marked='\"101\"'"),
        ("an option of a program: --max-steps 3 -i x=1", "-i max_steps=3"),
        ("an option of a program: --iterations --plain", "-i iterations=VALUE"),
        ("unknown backend 'FakeManilaV2' (known are none)", "docs/backends.md"),
    ],
)
def test_a_mistake_in_a_request_has_its_hint(text, said):
    assert said in hint(text)


def test_what_is_beside_a_bare_file_is_named(tmp_path):
    (tmp_path / "helpers.py").touch()
    (tmp_path / "data.csv").touch()
    program = str(tmp_path / "one.py")
    for code, name in (
        ("import helpers", "helpers.py"),
        ("from helpers.part import x", "helpers.py"),
        ("open('data.csv')", "data.csv"),
    ):
        found = hint_of_program(error_of(code), program)
        assert "only one.py itself is packaged" in found
        assert name in found
    assert "qrunner lock" in hint_of_program(error_of("import helpers"), "other/one.py")
    assert "qrunner lock some/directory" in hint_of_program(
        error_of("import helpers"), "some/directory"
    )


@pytest.mark.parametrize(
    "text", ["", "ValueError: no", "KeyError: 'execute'", "x" * 10_000, "no attribute 'qasm'"]
)
def test_what_nobody_knows_has_none(text):
    assert hint(text) == hint_of_program(text, "p.py") == ""


def test_what_is_missing_on_the_host_is_no_fault_of_a_program():
    assert hint("drawing needs matplotlib (No module named 'matplotlib')") == ""
    assert hint("x.json: cannot be read: [Errno 2] No such file or directory: 'x.json'") == ""


def record(outcome, error=None, traceback=None):
    return JobRecord(
        job="", program="p", outcome=outcome, error=error, traceback=traceback, evidence=Evidence()
    )


def test_outcomes_have_hints_and_a_completed_job_has_none():
    assert "--timeout" in hint_for(record(Outcome.TIME_LIMIT))
    assert hint_for(record(Outcome.COMPLETED, error="No module named 'x'")) == ""
    assert "lock" in hint_for(record(Outcome.INIT_ERROR, error="No module named 'x'"))


def test_hints_take_bounded_time_and_text_from_an_error():
    hostile = "No such file or directory: '" + "a/" * 500_000
    assert len(hint_for(record(Outcome.PROGRAM_ERROR, hostile, hostile))) < 300


def test_the_page_about_migration_has_every_line_of_the_table():
    rows = dict(re.findall(r"^\| `([^|]+)` \| (.+) \|$", PAGE.read_text(), re.MULTILINE))
    for name, text in REMOVED.items():
        assert rows[name] == text
