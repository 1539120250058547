"""Backends in real sandboxes: a described one, from Python and from the command line."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from runner import InputsError, Supervisor

pytestmark = pytest.mark.engine

FLIP = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[1]; creg c[1]; x q[0]; measure q -> c;'
CHIP = {
    "name": "chip",
    "num_qubits": 2,
    "gates": {"rz": {}, "sx": {}, "x": {}, "cx": {"error": 0.01, "duration": 3e-7}},
    "qubits": {"t1": 1e-4, "readout_error": [0.0, 1.0]},
}


@pytest.fixture(scope="module")
def one():
    """A supervisor whose carrier does not matter here."""
    with Supervisor() as running:
        yield running


def test_a_described_device_is_what_main_gets(one):
    job = one.run("circuit_runner", {"circuits": FLIP, "shots": 100}, backend=CHIP)
    assert job.result(60) == [{"0": 100}]  # every 1 is read as 0
    assert job.backend()["name"] == "device"


def test_the_command_line_takes_a_file_and_refuses_what_is_unknown(tmp_path):
    def qrunner(*arguments):
        return subprocess.run(
            [*(sys.executable, "-m", "runner", "run", "circuit_runner"), *arguments, "--no-store"],
            capture_output=True,
            text=True,
            timeout=120,
        )

    (tmp_path / "chip.json").write_text(json.dumps(CHIP))
    circuits = f"circuits={FLIP}"
    done = qrunner("-i", circuits, "--backend", f"@{tmp_path}/chip.json")
    assert (done.returncode, json.loads(done.stdout)) == (0, [{"0": 1024}]), done.stderr
    done = qrunner("-i", circuits, "--backend", "aer_simulatr")
    assert done.returncode == 2
    assert "did you mean 'aer_simulator'" in done.stderr


def test_a_program_that_needs_more_qubits_is_refused_before_a_sandbox(one, tmp_path):
    (tmp_path / "program.py").write_text("def main(b, m): ...\n")
    (tmp_path / "program.yaml").write_text(
        "name: large\nspec:\n  backend_requirements:\n    min_num_qubits: 3\n"
    )
    with pytest.raises(InputsError, match="'large' needs 3 qubits, backend 'device' has 2"):
        one.run(tmp_path, backend=CHIP)
