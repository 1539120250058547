"""A program's own packages: locked, fetched as wheels on the host, imported in the sandbox."""

from __future__ import annotations

import hashlib
import zipfile

import pytest

from runner import Outcome, Supervisor, programs
from runner.checking.check import Check, discover, plan
from runner.checking.report import junit
from runner.programs import find, wheels

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


def test_a_hostile_wheel_is_the_programs_fault_in_job_and_check(tmp_path, monkeypatch):
    index, program = tmp_path / "index", tmp_path / "program"
    for each in (index, program):
        each.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    wheel = index / "odd-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(
            "odd-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: odd\nVersion: 1\n"
        )
        archive.writestr("odd-1.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("odd-1.dist-info/RECORD", "")
        archive.writestr("../../escaped.py", "")
    wanted = b"odd\n"
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    (program / "program.yaml").write_text("name: odd\nrequirements: requirements.txt\n")
    (program / "program.py").write_text("def main(backend, user_messenger): ...\n")
    (program / "requirements.txt").write_bytes(wanted)
    (program / "requirements.lock").write_text(
        f"{wheels.digest(wanted)}\nodd==1 --hash=sha256:{digest}\n"
    )
    reason = "holds '../../escaped.py', which leads elsewhere"
    with Supervisor() as supervisor:
        record = supervisor.run(program).wait(120)
        assert record.outcome is Outcome.INVALID_INPUTS
        assert reason in record.error
        (report,) = Check(supervisor, plan(discover([str(program)])), jobs=1).run()
    assert (report.outcome, report.exit_code) == (Outcome.INVALID_INPUTS, 2)
    assert reason in report.problems[0]
    assert b"<failure" in junit([report])
    assert not list(tmp_path.rglob("escaped.py"))
