"""Results in the form that their reader wants: at a terminal, plain, and as files."""

from __future__ import annotations

import io
import json
import subprocess

import numpy as np
import pytest
from qiskit import qpy

from tests.engine.test_cli import QRUNNER, qrunner
from tests.recording import record

pytestmark = pytest.mark.engine

MIXED = """
import numpy as np
from qiskit import QuantumCircuit
from qiskit.quantum_info import SparsePauliOp

def main(backend, user_messenger):
    circuit = QuantumCircuit(1, name="one")
    circuit.h(0)
    user_messenger.publish({"gradient": np.ones(2)})
    return {
        "x": np.array([0.5, 1.5]), "circuit": circuit, "h": SparsePauliOp(["ZZ"], [2]),
        "z": 1j, "nan": float("nan"),
    }
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    (tmp_path / "mixed.py").write_text(MIXED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QRUNNER_STORE", str(tmp_path / "jobs.sqlite3"))
    return tmp_path


def test_a_terminal_shows_numbers_terms_and_circuits(place):
    seen = record([*QRUNNER, "run", "mixed.py", "--backend", "none"], columns=100, rows=40)
    assert seen.status == 0, seen.text
    assert '#0 {"gradient": [1, 1] float64 (2,)}' in seen.text
    assert '"x": [0.5, 1.5] float64 (2,),' in seen.text
    assert '"h": 2 ZZ SparsePauliOp (2 qubits),' in seen.text
    assert "QuantumCircuit 'one': 1 qubits, 0 bits, 1 instructions" in seen.text
    assert "┤ H ├" in seen.text
    assert "__type__" not in seen.text
    # The job that draws is no job of the user's.
    assert len(qrunner("jobs", "--format", "json").stdout.splitlines()) == 1
    # A pipe gets the exact form, then as before.
    seen = record([*QRUNNER, "result", "last"], pipe_stdout=True)
    assert json.loads(seen.stdout)["x"]["__type__"] == "ndarray"


def test_a_result_is_written_in_the_form_that_is_asked_for(place):
    done = qrunner("run", "mixed.py", "--backend", "none", "--plain")
    assert '"circuit"' in done.stderr.replace("'", '"')
    plain = json.loads(done.stdout)
    assert plain["x"] == [0.5, 1.5]
    assert plain["h"] == [["ZZ", [2.0, 0.0]]]
    assert (plain["z"], plain["nan"]) == ([0.0, 1.0], None)

    def written(*arguments):
        command = [*QRUNNER, "result", *arguments]
        return subprocess.run(command, capture_output=True, check=True, timeout=60).stdout

    assert np.load(io.BytesIO(written("last/x", "--as", "npy"))).tolist() == [0.5, 1.5]
    assert [*np.load(io.BytesIO(written("last", "--as", "npz")))] == ["x", "h/coeffs"]
    assert qpy.load(io.BytesIO(written("last", "--as", "qpy")))[0].name == "one"
    assert "┤ H ├" in written("last", "--as", "text").decode()
    assert json.loads(written("last/z")) == {"__type__": "complex", "__value__": [0.0, 1.0]}
    assert json.loads(written("last/x", "--plain")) == [0.5, 1.5]
    written("last", "--as", "npz", "-o", "all.npz")
    assert np.load("all.npz")["x"].tolist() == [0.5, 1.5]
    assert json.loads(qrunner("messages", "last", "--plain").stdout) == {"gradient": [1.0, 1.0]}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["last/none"], "has no 'none'"),
        (["last", "--as", "npy"], "is an object"),
        (["last/x", "--as", "qpy"], "has no circuits"),
        (["last", "--plain", "--as", "npy"], "leave out --as"),
        (["last", "-o", "no/such/file"], "cannot be written"),
    ],
)
def test_what_cannot_be_written_says_why(place, arguments, said):
    qrunner("run", "mixed.py", "--backend", "none")
    done = qrunner("result", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert not done.stdout


ROOT = """
def main(backend, user_messenger, n):
    return {"root": n ** 0.5}
"""


def test_a_map_keeps_its_jobs_goes_on_where_it_was_and_is_drawn(place):
    (place / "root.py").write_text(ROOT)
    command = ["map", "root.py", "--backend", "none", "-o", "r.jsonl"]
    done = qrunner(*command, "--inputs", '[{"n": 1}, {"n": "x"}]')
    assert done.returncode == 1
    (place / "rows.csv").write_text("n\n1\n4\n9\n")
    done = qrunner(*command, "--inputs", "@rows.csv", "--resume")
    assert done.returncode == 0, done.stderr
    assert "1 jobs had completed before" in done.stderr
    lines = [json.loads(line) for line in (place / "r.jsonl").read_text().splitlines()]
    assert [each["result"]["root"] for each in lines] == [1, 2, 3]
    tag = done.stderr.split("qrunner jobs --tag ")[1].split(",")[0]
    assert len(qrunner("jobs", "--tag", tag, "--format", "json").stdout.splitlines()) == 2
    done = qrunner("plot", "--tag", tag, "-o", "roots.svg")
    assert done.returncode == 0, done.stderr
    assert "root by inputs.n" in (place / "roots.svg").read_text() or done.stdout == "roots.svg\n"


def test_a_map_at_a_terminal_shows_how_far_it_is_and_a_line_for_each_job(place):
    (place / "root.py").write_text(
        "import time\n" + ROOT.replace("return", "time.sleep(.3); return")
    )
    rows = json.dumps([{"n": each} for each in (1, 4, 9)])
    arguments = ["--backend", "none", "--inputs", rows, "--sandboxes", "1"]
    command = [*QRUNNER, "map", "root.py", *arguments]
    seen = record(command, columns=100)
    assert seen.status == 0, seen.text
    assert any("2 of 3" in moment for moment in seen.moments)
    assert '2  completed {"root":3.0}' in seen.text
    assert "3 jobs: 3 completed" in seen.text
    assert "2 of 3" not in seen.text
