"""Which programs and cases a check finds, and what it refuses by name before anything is run."""

from __future__ import annotations

import os
import socket

import pytest

from runner.checking.check import MANIFEST_CASE, Check, Observer, discover, plan
from runner.errors import RequestError
from runner.job.record import Outcome
from runner.programs.manifest import MANIFEST_NAMES


@pytest.mark.parametrize("name", MANIFEST_NAMES)
def test_a_program_is_found_by_any_form_of_its_manifest(tmp_path, name):
    directory = tmp_path / "deep" / "inside"
    directory.mkdir(parents=True)
    (directory / name).write_text("{}")
    assert list(discover([str(tmp_path)])) == [str(directory)]


def test_a_directory_with_two_manifests_is_one_program(tmp_path):
    for name in MANIFEST_NAMES:
        (tmp_path / name).write_text("{}")
    assert list(discover([str(tmp_path)])) == [str(tmp_path)]


METADATA = '{"name": "x", "spec": {}}'


@pytest.mark.parametrize(
    ("files", "programs"),
    [
        ({"a/program.py": ""}, ["a"]),
        ({"a/program.py": "", "a/inside/program.py": ""}, ["a"]),
        ({"a/program.yaml": "", "a/src/program.py": ""}, ["a"]),
        ({"a/program.py": "", "a/b/program.yaml": ""}, ["a", "a/b"]),
        ({"program.py": "", "cases/program.py": ""}, ["."]),
        ({"a/solver.py": "", "a/solver.json": METADATA}, ["a"]),
        ({"a/solver.py": "", "a/solver_metadata.json": "{"}, ["a"]),
        ({f"a/{n}.{e}": METADATA for n in "xy" for e in ("py", "json")}, ["a/x.py", "a/y.py"]),
        ({"a/tool.py": "", "a/tool.json": "[1]", "b/program.py": ""}, ["b"]),
    ],
)
def test_programs_without_a_manifest_are_found_too(tmp_path, files, programs):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    found = discover([str(tmp_path)])
    assert [os.path.relpath(each, tmp_path) for each in found] == programs


class Counting(Observer):
    def __init__(self):
        self.cases, self.said = 0, []

    def planned(self, cases):
        self.cases = cases

    def ended(self, case, report):
        self.said.append(report.holds)


def test_every_case_is_counted_also_those_that_are_refused_or_not_run(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "program.yaml").write_text(
            "name: x\nentry: none.py\n" if name == "a" else ""
        )
    observer = Counting()
    checking = Check(None, plan(discover([str(tmp_path)])), jobs=2, observer=observer)
    checking.stop(Outcome.CANCELLED, "it was interrupted")
    reports = checking.run()
    assert observer.cases == len(reports) == len(observer.said) == 3
    assert not any(observer.said)


def test_names_files_and_trees_without_a_manifest_are_passed_on(tmp_path):
    given = ["hello_world", "mine.py", str(tmp_path)]
    assert list(discover(given)) == given


def test_links_to_directories_are_not_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "program.yaml").write_text("name: x\n")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "tree" / "loop").symlink_to(tmp_path / "tree")
    assert list(discover([str(tmp_path / "tree")])) == [str(tmp_path / "tree")]


def test_the_order_is_that_of_the_names(tmp_path):
    for name in ("b", "a", "c/d", "a/z"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "program.yaml").write_text("name: x\n")
    found = [each.removeprefix(f"{tmp_path}/") for each in discover([str(tmp_path)])]
    assert found == ["a", "a/z", "b", "c/d"]


def made(directory):
    (directory / "cases").mkdir(parents=True)
    (directory / "program.yaml").write_text("name: p\n")
    (directory / "program.py").write_text("def main(b, m): ...\n")
    return directory


def test_each_case_is_planned_and_a_program_without_cases_is_one(tmp_path):
    with_two, without = made(tmp_path / "a"), made(tmp_path / "b")
    for name in ("two", "one"):
        (with_two / "cases" / f"{name}.json").write_text("{}")
    planned = plan(discover([str(tmp_path)]))
    assert [(each.program, each.case) for each in planned] == [
        (str(with_two), "one"),
        (str(with_two), "two"),
        (str(without), "default"),
    ]
    assert all(each.refused is None for each in planned)


def link(path):
    path.symlink_to("/etc/passwd")


def directory_link(path):
    path.symlink_to("/etc")


def listening(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))


@pytest.mark.parametrize("place", ["", "cases"])
@pytest.mark.parametrize("make", [link, directory_link, os.mkfifo, listening])
def test_links_and_special_files_are_refused_by_name(tmp_path, monkeypatch, place, make):
    program = made(tmp_path / "p")
    monkeypatch.chdir(program)  # a socket's path must be short
    make(program / place / "odd.json")
    (planned,) = plan([str(program)])
    assert (planned.case, planned.refused.outcome) == (MANIFEST_CASE, Outcome.INVALID_INPUTS)
    assert planned.refused.exit_code == 2
    assert "odd.json: a symbolic link or special file" in planned.refused.problems[0]


@pytest.mark.parametrize("given", ["link", "link/p", "tree/p.py"])
def test_a_path_that_leads_through_a_link_is_refused(tmp_path, monkeypatch, given):
    made(tmp_path / "elsewhere" / "p")
    (tmp_path / "tree").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "tree" / "p.py").symlink_to(tmp_path / "elsewhere" / "p" / "program.py")
    monkeypatch.chdir(tmp_path)
    (planned,) = plan(discover([given]))
    assert f"{given}: leads through a symbolic link" in planned.refused.problems[0]


def test_a_link_in_place_of_the_cases_or_the_manifest_is_refused(tmp_path):
    first, second = made(tmp_path / "a"), made(tmp_path / "b")
    (first / "cases").rmdir()
    (first / "cases").symlink_to("/etc")
    (second / "program.yaml").unlink()
    (second / "program.yaml").symlink_to("/etc/passwd")
    reports = [each.refused for each in plan(discover([str(tmp_path)]))]
    assert "cases: must be a directory, not a link" in reports[0].problems[0]
    assert "program.yaml: a symbolic link" in reports[1].problems[0]


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[2J", "a\u202eb", b"a\xff", "##[group]x"])
@pytest.mark.parametrize("place", ["file", "case", "directory", "program"])
def test_names_that_cannot_be_printed_are_refused_escaped(tmp_path, name, place):
    odd = os.fsdecode(name)
    program = made(tmp_path / odd if place == "program" else tmp_path / "p")
    if place == "file":
        (program / odd).write_text("")
    elif place == "case":
        (program / "cases" / f"{odd}.json").write_text("{}")
    elif place == "directory":
        (program / odd).mkdir()
    (planned,) = plan(discover([str(tmp_path)]))
    (problem,) = planned.refused.problems
    assert "a name that cannot be printed" in problem
    assert problem.isprintable()


def test_too_many_of_anything_is_refused(tmp_path, monkeypatch):
    program = made(tmp_path / "p")
    for number in range(4):
        (program / "cases" / f"{number}.json").write_text("{}")
    monkeypatch.setattr("runner.checking.cases.MAX_CASES", 3)
    (planned,) = plan([str(program)])
    assert "4 cases: at most 3" in planned.refused.problems[0]
    monkeypatch.setattr("runner.checking.check.MAX_PROGRAMS", 0)
    with pytest.raises(RequestError, match="more than 0 programs"):
        list(discover([str(tmp_path)]))
