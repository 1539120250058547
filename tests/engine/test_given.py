"""Circuits, arrays and results of other jobs as inputs, given on the command line and in cases."""

from __future__ import annotations

import json

import numpy as np
import pytest
from qiskit import QuantumCircuit, qasm2, qasm3, qpy

import runner
from tests.engine.test_cli import qrunner

pytestmark = pytest.mark.engine

KINDS = """
def main(backend, user_messenger, **inputs):
    kinds = {name: type(value).__name__ for name, value in inputs.items()}
    gates = [each.name for each in inputs["circuit"].data] if "circuit" in inputs else None
    return {"kinds": kinds, "gates": gates, "values": inputs.get("array"), "n": inputs.get("n")}
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    bell = QuantumCircuit(2)
    bell.h(0)
    bell.cx(0, 1)
    with (tmp_path / "bell.qpy").open("wb") as file:
        qpy.dump(bell, file)
    (tmp_path / "two.qasm").write_text(qasm2.dumps(bell))
    (tmp_path / "three.qasm").write_text(qasm3.dumps(bell))
    np.save(tmp_path / "array.npy", np.arange(3.0))
    (tmp_path / "kinds.py").write_text(KINDS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QRUNNER_STORE", str(tmp_path / "jobs.sqlite3"))
    return tmp_path


@pytest.mark.parametrize("file", ["bell.qpy", "two.qasm", "three.qasm"])
@pytest.mark.usefixtures("place")
def test_files_are_inputs(file):
    done = qrunner(
        "run", "kinds.py", "--backend", "none", "-i", f"circuit=@{file}", "-i", "array=@array.npy"
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["kinds"] == {"circuit": "QuantumCircuit", "array": "ndarray"}
    assert result["gates"] == ["h", "cx"]


@pytest.mark.usefixtures("place")
def test_the_result_of_a_job_is_an_input_whole_or_in_part():
    qrunner("run", "kinds.py", "--backend", "none", "-i", "array=@array.npy")
    for given, kind in (("@job:last", "dict"), ("@job:last/values", "ndarray")):
        done = qrunner("run", "kinds.py", "--backend", "none", "--no-store", "-i", f"x={given}")
        assert json.loads(done.stdout)["kinds"] == {"x": kind}, done.stderr
    done = qrunner("run", "kinds.py", "-i", "x=@job:last/none")
    assert done.returncode == 2
    assert "has no 'none'" in done.stderr
    done = qrunner("run", "kinds.py", "-i", "x=@job:nothing")
    assert (done.returncode, "nothing" in done.stderr) == (2, True)


@pytest.mark.usefixtures("place")
def test_a_circuit_that_cannot_be_read_is_the_requests_fault(place):
    (place / "bad.qasm").write_text("OPENQASM 2.0; qreg q[1]; nothing q[0];")
    done = qrunner("run", "kinds.py", "--backend", "none", "-i", "circuit=@bad.qasm")
    assert done.returncode == 2
    assert "invalid_inputs" in done.stderr
    assert "inputs['circuit']" in done.stderr


def test_map_has_inputs_for_all_jobs_and_a_table_of_rows(place):
    (place / "rows.csv").write_text("n\n1\n2\n")
    done = qrunner(
        "map", "kinds.py", "--backend", "none", "--inputs", "rows.csv", "-i", "circuit=@bell.qpy"
    )
    assert done.returncode == 0, done.stderr
    results = [json.loads(line)["result"] for line in done.stdout.splitlines()]
    assert [(each["n"], each["gates"]) for each in results] == [(1, ["h", "cx"]), (2, ["h", "cx"])]


def test_a_case_has_files_beside_it(place):
    program = place / "kinds"
    (program / "cases").mkdir(parents=True)
    (program / "program.py").write_text(KINDS)
    (program / "cases" / "bell.qpy").write_bytes((place / "bell.qpy").read_bytes())
    case = {
        "backend": "none",
        "input_files": {"circuit": "bell.qpy"},
        "expect": {"checks": [{"at": "/result/gates", "equals": ["h", "cx"]}]},
    }
    (program / "cases" / "one.json").write_text(json.dumps(case))
    done = qrunner("check", program)
    assert done.returncode == 0, done.stdout


def test_the_same_in_python(place):
    with runner.Supervisor() as supervisor:
        inputs = {
            "circuit": runner.read_value("three.qasm"),
            "array": runner.read_value("array.npy"),
        }
        result = supervisor.run("kinds.py", inputs, backend="none").result()
    assert result["gates"] == ["h", "cx"]
    assert result["values"].tolist() == [0, 1, 2]
