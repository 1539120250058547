"""A program's own packages: locked, fetched as wheels on the host, imported in the sandbox."""

from __future__ import annotations

import pytest

from runner import Supervisor, programs
from runner.programs import find

pytestmark = pytest.mark.engine

SOURCE = """
import sys
import qiskit
import tabulate_of_the_test
import numpy

def main(backend, user_messenger):
    return [tabulate_of_the_test.table, numpy.__version__, sys.path[-1]]
"""


def test_locked_packages_can_be_imported_and_replace_nothing_of_the_stack(tmp_path):
    (tmp_path / "program.yaml").write_text("name: needy\nrequirements: requirements.txt\n")
    (tmp_path / "requirements.txt").write_text("tabulate==0.9.0\nnumpy\n")
    (tmp_path / "tabulate_of_the_test.py").write_text(
        "import tabulate\ntable = tabulate.tabulate([[1, 2]], tablefmt='plain')\n"
    )
    (tmp_path / "program.py").write_text(SOURCE)
    programs.lock(tmp_path, lambda _: None)
    program = find(tmp_path)
    assert [pin.name for pin in program.pins] == ["tabulate"]
    with Supervisor() as supervisor:
        table, numpy_version, last = supervisor.run(program).result(120)
    assert table == "1  2"
    assert last == "/packages"
    lock = (programs.images_directory() / "base/requirements.lock").read_text()
    assert f"numpy=={numpy_version} " in lock
