"""What a program's manifest asks for reaches the job: requirements, limits, schemas, isolation."""

from __future__ import annotations

import dataclasses
import json

import pytest

from runner import InputsError, Limits, Supervisor, Value

pytestmark = pytest.mark.engine


@pytest.fixture
def write(tmp_path):
    def write(source: str, **manifest: object):
        (tmp_path / "program.json").write_text(json.dumps({"name": "asked", **manifest}))
        (tmp_path / "program.py").write_text(source)
        return tmp_path

    return write


def test_a_mismatch_with_the_schemas_is_named_and_the_values_are_kept(supervisor, write):
    path = write(
        "def main(b, m):\n    m.publish({'step': 1})\n    return 7\n",
        spec={
            "interim_results": {"type": "object", "required": ["iteration"]},
            "return_values": {"type": "string"},
        },
    )
    job = supervisor.run(path)
    assert job.result(60) == 7
    assert list(job.messages()) == [{"step": 1}]
    assert job.mismatches() == [
        "messages[0]: 'iteration' is a required property",
        "result: 7 is not of type 'string'",
    ]


def test_defaults_of_the_schema_reach_the_program_and_the_lowest_limit_counts(supervisor, write):
    path = write(
        "import time\ndef main(b, m, n):\n    m.publish(n)\n    time.sleep(60)\n",
        max_execution_time=30,
        limits={"timeout_s": 3},
        spec={"parameters": {"properties": {"n": {"default": [1, 2]}}}},
    )
    job = supervisor.run(path, limits={"timeout_s": 20})
    record = job.wait(60)
    assert list(job.messages()) == [[1, 2]]
    assert (record.outcome, record.evidence.value) == ("time_limit", 3)


def test_a_backend_that_is_too_small_is_refused_before_a_sandbox_is_used(supervisor, write):
    path = write("def main(b, m): ...\n", spec={"backend_requirements": {"min_num_qubits": 40}})
    with pytest.raises(InputsError, match="needs 40 qubits, backend 'aer_simulator' has 26"):
        supervisor.run(path, backend="aer_simulator")


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"cpus": 1000.5}, "cpus is 1000.5, and the engine's machine has"),
        ({"memory_bytes": 1 << 50}, "memory_bytes is 1125899906842624 "),
    ],
)
def test_more_than_the_machine_has_is_refused_with_both_numbers(write, limits, reason):
    path = write("def main(b, m): ...\n")
    with Supervisor(limits=dataclasses.replace(Limits(), **limits)) as supervisor:
        record = supervisor.run(path, backend="none").wait(60)
    assert (record.outcome, record.outcome.exit_code) == ("invalid_inputs", 2)
    assert reason in record.error


def test_what_only_the_sandbox_finds_wrong_with_a_request_is_no_fault_of_the_program(
    supervisor, write
):
    path = write("raise Exception('is not loaded')\n")
    text = {"__type__": "QuantumCircuit", "__value__": "!"}
    record = supervisor.run(path, inputs={"circuit": Value(text)}, backend="none").wait(60)
    assert record.outcome == "invalid_inputs"
    assert "inputs['circuit']: not of the form of a value tagged 'QuantumCircuit'" in record.error


def test_the_lines_of_an_entry_in_a_subdirectory_are_shown_as_the_users(supervisor, tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "beside.py").write_text("def fail():\n    raise ValueError('here')\n")
    (tmp_path / "src" / "solver.py").write_text(
        "import beside\n\n\ndef main(b, m):\n    beside.fail()\n"
    )
    (tmp_path / "program.yaml").write_text("name: My Solver v1.2\nentry: src/solver.py\n")
    job = supervisor.run(tmp_path, backend="none")
    record = job.wait(60)
    assert (record.program, record.outcome) == ("My Solver v1.2", "program_error")
    for name, line in (("solver.py", 5), ("beside.py", 2)):
        assert f'File "{tmp_path / "src" / name}", line {line}' in record.traceback


@pytest.mark.usefixtures("runsc")
def test_a_program_that_asks_for_the_stronger_isolation_gets_it(write):
    path = write("import os\ndef main(b, m):\n    return os.uname().release\n", isolation="runsc")
    with Supervisor(isolation="runc") as supervisor:
        job = supervisor.run(path, backend="none")
        job.result(60)
    assert job.record.isolation == "runsc"
