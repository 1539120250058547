"""Finding programs: names, directories, files, and everything that is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runner.errors import ManifestError, RequestError, UnknownProgramError
from runner.programs import program as finding

SOURCE = "def main(backend, user_messenger): return 1\n"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    directory = tmp_path / "mine"
    directory.mkdir()
    (directory / "program.yaml").write_text("name: mine\n")
    (directory / "program.py").write_text(SOURCE)
    return directory


def test_example_programs_are_found_by_name_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = finding.find("random_circuits")
    assert found.name == "random_circuits"
    assert "random_circuits" in finding.names()
    assert finding.TEMPLATE not in finding.names()


def test_the_users_own_programs_come_first(tmp_path, monkeypatch):
    own = tmp_path / "images/programs/hello_world"
    own.mkdir(parents=True)
    (own / "program.yaml").write_text("name: hello_world\ndescription: mine\n")
    (own / "program.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    found = finding.find("hello_world")
    assert found.manifest.description == "mine"
    assert found.path == Path("images/programs/hello_world")


def test_of_a_bare_file_only_that_file_is_taken(tmp_path):
    (tmp_path / "My Program.py").write_text(SOURCE)
    (tmp_path / "secret.txt").write_text("x")
    found = finding.find(tmp_path / "My Program.py")
    assert found.name == "my-program"
    assert dict(found.files) == {"program.py": SOURCE.encode()}
    assert found.shown_path("program.py") == str(tmp_path / "My Program.py")


def test_cases_and_caches_are_not_part_of_a_program(program):
    for name in ("cases", "__pycache__", ".git"):
        (program / name).mkdir()
        (program / name / "x.json").write_text("{}")
    (program / "data").mkdir()
    (program / "data" / "table.csv").write_text("1")
    assert sorted(finding.find(program).files) == ["data/table.csv", "program.py", "program.yaml"]


def test_a_mistyped_name_gets_a_suggestion():
    with pytest.raises(UnknownProgramError, match="no program ''"):
        finding.find("")  # which is no name of this directory
    with pytest.raises(UnknownProgramError, match="did you mean 'random_circuits'"):
        finding.find("random_circuit")


def test_a_directory_without_a_program_says_what_is_missing(tmp_path):
    with pytest.raises(ManifestError, match=r"neither program.yaml nor program.py"):
        finding.find(tmp_path)


def test_a_missing_entry_is_named(program):
    (program / "program.yaml").write_text("name: mine\nentry: other.py\n")
    with pytest.raises(ManifestError, match="no file 'other.py'"):
        finding.find(program)


@pytest.mark.parametrize("kind", ["symlink", "directory symlink", "fifo"])
def test_odd_files_are_refused_by_name(program, kind):
    odd = program / "odd"
    if kind == "symlink":
        odd.symlink_to("/etc/hostname")
    elif kind == "directory symlink":
        odd.symlink_to("/etc")
    else:
        os.mkfifo(odd)
    with pytest.raises(ManifestError, match="odd: a symbolic link or special file"):
        finding.find(program)


def test_number_and_size_of_files_are_bounded(program, monkeypatch):
    monkeypatch.setattr(finding, "MAX_FILES", 5)
    for number in range(5):
        (program / f"{number}.txt").write_text("x")
    with pytest.raises(ManifestError, match="more than 5 files"):
        finding.find(program)


def test_new_copies_the_template_under_its_own_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    directory = finding.create("my_first")
    found = finding.find(directory)
    assert found.name == "my_first"
    assert found.signature is not None
    with pytest.raises(ManifestError, match="exists already"):
        finding.create("my_first")
    with pytest.raises(ManifestError, match="cannot be a program's name"):
        finding.create("../evil")


def test_a_new_program_that_cannot_be_written_is_refused_with_the_reason(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(RequestError, match="my_first/.*: cannot be written: No such file"):
        finding.create("my_first")


def test_metadata_beside_a_bare_file_is_its_manifest(tmp_path):
    (tmp_path / "sampling.py").write_text(SOURCE)
    (tmp_path / "sampling.json").write_text('{"name": "sampling", "max_execution_time": 7}')
    assert finding.find(tmp_path / "sampling.py").manifest.limits == {"timeout_s": 7}
    (tmp_path / "sampling.json").write_text('{"name": "sampling", "max_execution_time": "x"}')
    with pytest.raises(ManifestError, match="sampling.json, line 1: max_execution_time"):
        finding.find(tmp_path / "sampling.py")


@pytest.mark.parametrize("name", ["solver.json", "solver_metadata.json"])
def test_a_directory_in_ibms_layout_is_a_program(tmp_path, name):
    (tmp_path / "__init__.py").write_text("")
    (tmp_path / "solver.py").write_text(SOURCE)
    (tmp_path / name).write_text('{"name": "PATH-Solver", "max_execution_time": 7}')
    for found in (finding.find(tmp_path), finding.find(tmp_path / "solver.py")):
        assert (found.name, found.manifest.limits) == ("PATH-Solver", {"timeout_s": 7})
    assert finding.find(tmp_path).manifest.entry == "solver.py"
    assert finding.find(tmp_path).shown_path("solver.py") == str(tmp_path / "solver.py")
    (tmp_path / "other.py").write_text(SOURCE)
    (tmp_path / "other_metadata.json").write_text("{}")
    with pytest.raises(ManifestError, match=r"it has 2 \(other.py, solver.py\): name one of"):
        finding.find(tmp_path)
    assert finding.find(tmp_path / "other.py").name == "other"


def test_metadata_beside_the_program_of_a_directory_are_read(tmp_path):
    (tmp_path / "program.py").write_text(SOURCE)
    (tmp_path / "program_metadata.json").write_text('{"name": "Mine", "cost": 7}')
    assert finding.find(tmp_path).name == "Mine"


def test_metadata_in_two_files_are_one_too_many(tmp_path):
    (tmp_path / "solver.py").write_text(SOURCE)
    for name in ("solver.json", "solver_metadata.json"):
        (tmp_path / name).write_text('{"name": "mine", "cost": 7}')
    with pytest.raises(ManifestError, match="in solver.json and in solver_metadata.json: keep one"):
        finding.find(tmp_path / "solver.py")


def test_any_other_json_beside_a_bare_file_is_left_alone(tmp_path):
    (tmp_path / "sampling.py").write_text(SOURCE)
    (tmp_path / "sampling.json").write_text('{"counts": [1, 2]}')
    assert finding.find(tmp_path / "sampling.py").manifest.limits == {}


def test_two_manifests_are_one_too_many(program):
    (program / "program.json").write_text('{"name": "mine"}')
    with pytest.raises(ManifestError, match="both program.yaml and program.json"):
        finding.find(program)
