"""Trees that cannot be read are their program's failure, and the others' report is written."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from runner import programs
from runner.checking.cases import case_files
from runner.checking.check import Deadline, discover, plan
from runner.cli import cli
from runner.errors import ManifestError, RequestError
from runner.job.record import Outcome

NOBODY = 65534


def made(directory):
    (directory / "cases").mkdir(parents=True)
    (directory / "program.yaml").write_text("name: p\n")
    (directory / "program.py").write_text("def main(b, m): ...\n")
    return directory


@pytest.fixture
def tree():
    """Return a directory that everybody may enter, in which `a` and `z` are as they should be."""
    top = Path(tempfile.mkdtemp(prefix="qrunner-test-"))
    top.chmod(0o755)
    for name in ("a", "z"):
        made(top / name)
    plan(discover([str(top)]))  # and so import all that somebody else could not
    yield top
    # Python's own removal calls itself for each level.
    subprocess.run(["rm", "-rf", str(top)], check=True, timeout=60)


@contextlib.contextmanager
def unprivileged():
    """Be somebody whom permissions hold back, as they do not root."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


def deep(directory, levels, name="d" * 200):
    """Make a tree that may be deeper than paths can be long."""
    descriptor = os.open(directory, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=descriptor)
        inner = os.open(name, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
    os.close(descriptor)


def closed(path):
    path.mkdir(exist_ok=True)
    path.chmod(0)


def closed_file(path):
    path.write_text("{}")
    path.chmod(0)


ODD = {
    "a deep tree": ("p", lambda p: deep(p, 25), "File name too long"),
    "a deep tree of cases": ("p/cases", lambda p: deep(p, 1), None),
    "a closed directory": ("p", lambda p: closed(p / "inside"), "Permission denied"),
    "closed cases": ("p", lambda p: closed(p / "cases"), "Permission denied"),
    "a closed program": ("p", closed, "Permission denied"),
    "a closed file": ("p", lambda p: closed_file(p / "data.json"), "Permission denied"),
    "a closed manifest": ("p", lambda p: closed_file(p / "program.yaml"), "Permission denied"),
    "a pipe for a manifest": ("p", lambda p: pipe(p / "program.yaml"), "special file"),
    "a pipe for an entry": ("p", lambda p: pipe(p / "program.py"), "special file"),
    "a link to itself": ("p", lambda p: circle(p / "data"), "a symbolic link"),
    "a link to itself for cases": ("p", lambda p: circle(p / "cases"), "must be a directory"),
    "a link to nowhere": ("p", lambda p: (p / "data").symlink_to("nowhere"), "a symbolic link"),
}


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def circle(path):
    if path.is_dir():
        path.rmdir()
    path.symlink_to(path.name)


@pytest.mark.parametrize("oddity", ODD)
def test_what_cannot_be_read_is_that_programs_failure(tree, oddity):
    place, make, reason = ODD[oddity]
    made(tree / "p")
    make(tree / place)
    with unprivileged():
        planned = plan(discover([str(tree)]))
    reports = {Path(each.program).name: each.refused for each in planned}
    assert list(reports) == ["a", "p", "z"]
    assert reports["a"] is reports["z"] is None
    if reason is None:
        assert reports["p"] is None
        return
    assert (reports["p"].outcome, reports["p"].exit_code) == (Outcome.INVALID_INPUTS, 2)
    assert reason in reports["p"].problems[0]


def test_a_directory_of_which_nobody_knows_whether_it_has_programs_is_a_failure(tree):
    closed(tree / "m")
    deep(tree / "z", 25)
    with unprivileged():
        planned = plan(discover([str(tree)]))
    assert [Path(each.program).name for each in planned] == ["a", "m", "z"]
    assert "Permission denied" in planned[1].refused.problems[0]
    assert "File name too long" in planned[2].refused.problems[0]


def test_a_tree_deeper_than_python_calls_is_walked(tree):
    levels = sys.getrecursionlimit() + 100
    deep(tree, levels, "d")
    made(tree.joinpath(*["d"] * levels, "p"))
    found = list(discover([str(tree)]))
    assert [Path(each).name for each in found] == ["a", "p", "z"]


@pytest.mark.parametrize("text", ["n" * 300, "x/" * 3000, "x/" * 3000 + "p.py"])
def test_a_path_that_no_system_takes_is_refused(text):
    with pytest.raises(RequestError):
        programs.find(text)
    (planned,) = plan(discover([text]))
    assert planned.refused.outcome is Outcome.INVALID_INPUTS


def test_one_program_that_is_closed_does_not_hide_the_others(tree, monkeypatch):
    monkeypatch.chdir(tree)
    shutil.copytree(tree / "a", tree / "images" / "programs" / "named")
    closed(tree / "images" / "programs" / "hidden")
    with unprivileged():
        assert "named" in programs.names()
        with pytest.raises(ManifestError, match=r"hidden: cannot be read: Permission denied"):
            programs.find("images/programs/hidden")


def test_the_cases_of_a_program_that_went_away_are_none_or_refused(tree):
    program = programs.read_directory(tree / "a")
    shutil.rmtree(tree / "a")
    assert case_files(program) == []
    with pytest.raises(ManifestError, match=os.strerror(errno.ENOENT)):
        programs.read_directory(tree / "a")


def test_after_the_deadline_every_program_that_is_left_is_reported(tree):
    planned = plan(discover([str(tree)]), Deadline(0))
    assert [Path(each.program).name for each in planned] == ["a", "z"]
    for each in planned:
        assert (each.refused.outcome, each.refused.exit_code) == (Outcome.TIME_LIMIT, 3)
        assert each.refused.problems == ("not finished: the whole check took longer than 0 s",)


def test_a_fault_of_our_own_with_one_program_is_reported_as_that(tree, monkeypatch):
    def fail(program):
        raise RuntimeError(program.name)

    monkeypatch.setattr("runner.checking.check.case_files", fail)
    planned = plan(discover([str(tree)]))
    assert [each.refused.exit_code for each in planned] == [4, 4]
    assert "RuntimeError: p" in planned[0].refused.problems[0]


@pytest.mark.parametrize("form", ["human", "json"])
def test_the_whole_report_is_written(tree, monkeypatch, form):
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent")  # nothing of it needs an engine
    deep(made(tree / "m"), 25)
    for name in ("a", "z"):
        pipe(tree / name / "program.yaml")
    report = tree / "report.xml"
    done = CliRunner().invoke(
        cli, ["check", str(tree), "--junit", str(report), "--format", form], standalone_mode=False
    )
    assert done.return_value == 2, done.output
    text = report.read_text()
    assert text.count("<failure") == 3
    assert "File name too long" in text
    if form == "json":
        last = json.loads(done.stdout.splitlines()[-1])
        assert (last["event"], last["cases"], last["failed"]) == ("summary", 3, 3)
