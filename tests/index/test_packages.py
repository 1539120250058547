"""What programs lock can be had beside the stack's own pins: asks a package index, minutes long.

Each package is locked alone, at a version of our own time: a package that has been around for long
always has an old version that asks for nothing.
"""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from packaging.utils import canonicalize_name

from runner import Supervisor, programs
from runner.cli import cli
from runner.errors import ManifestError
from runner.programs.wheels import read_lock

PACKAGES = [
    "mthree>=3",
    "qiskit-ibm-runtime>=0.50",
    "qiskit-experiments>=0.14",
    "qiskit-addon-cutting>=0.10",
    "pennylane-qiskit>=0.39",
    "qiskit-algorithms>=0.4",
    "qiskit-nature>=0.8",
    "qiskit-machine-learning>=0.9",
    "qiskit-dynamics>=0.5",
    "qiskit-addon-sqd>=0.14",
    "qiskit-addon-obp>=0.3",
    "qiskit-qasm3-import>=0.6",
    "scikit-learn>=1.9",
    "pandas>=3",
    "networkx>=3.6",
    "matplotlib>=3.11",
    "mitiq>=1.1",
    "cvxopt>=1.3",
    "tqdm>=4.70",
]


@pytest.fixture
def lock(tmp_path):
    def lock(requirement):
        (tmp_path / "program.yaml").write_text("name: needy\nrequirements: requirements.txt\n")
        (tmp_path / "requirements.txt").write_text(f"{requirement}\n")
        return {
            canonicalize_name(pin.name)
            for pin in read_lock(programs.lock(tmp_path, print).read_text(), "")
        }

    return lock


@pytest.mark.parametrize("requirement", PACKAGES)
def test_a_package_of_the_ecosystem_goes_with_the_stack(lock, requirement):
    name = requirement.partition(">")[0]
    in_stack = "qiskit-qasm3-import"  # locked, and nothing of it is left to be fetched
    assert name in lock(requirement) or name == in_stack


@pytest.mark.engine
def test_a_package_without_wheels_is_built_by_an_explicit_flag(tmp_path):
    (tmp_path / "program.yaml").write_text("name: needy\nrequirements: requirements.txt\n")
    (tmp_path / "requirements.txt").write_text("docplex\n")
    (tmp_path / "program.py").write_text(
        "from docplex.mp.model import Model\ndef main(b, m): return Model(name='x').name\n"
    )
    done = CliRunner().invoke(cli, ["lock", str(tmp_path), "--build"], standalone_mode=False)
    assert done.return_value == 0, done.output
    with Supervisor() as supervisor:
        assert supervisor.run(tmp_path, backend="none").result(300) == "x"


def test_a_package_that_needs_one_without_wheels_is_refused_with_its_name(lock):
    with pytest.raises(ManifestError, match="docplex is there as source only"):
        lock("qiskit-optimization>=0.7")
