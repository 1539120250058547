"""The lines of a map: in order, whole whenever somebody reads them, and gone on with."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from runner.cli.resume import KEY, Lines, Resumed, identity
from runner.errors import InputsError, RequestError
from runner.job.record import JobRecord, Outcome
from runner.programs import Program, values
from runner.programs.manifest import Manifest

PROGRAM = Program(
    name="p",
    path=Path("p.py"),
    manifest=Manifest(name="p"),
    files={"program.py": b"def main(b, m, n): ..."},
    signature=None,
)
LATER = replace(PROGRAM, files={"program.py": b"def main(b, m, n): pass"})


def run(lines, rows, *, program=PROGRAM, fails=(), stop=None):
    """Map the rows as the command does; return which were run, and how many were not again."""
    text_of = partial(values.check_inputs, program, limit_bytes=100)
    resumed = Resumed(lines, identity(program, {"name": "none"}), text_of, iter(rows))
    ran = []
    for row in list(resumed):
        if stop is not None and len(ran) == stop:
            return ran, resumed.again
        refused = isinstance(row, InputsError)
        failed = refused or row["n"] in fails
        ran.append(None if refused else row["n"])
        record = JobRecord(
            job="job-1",
            program="p",
            outcome=Outcome.PROGRAM_ERROR if failed else Outcome.COMPLETED,
            result=None if failed else json.dumps(row["n"]),
        )
        inputs = "{}" if refused else text_of(row)
        request = SimpleNamespace(inputs=inputs)
        resumed.write(SimpleNamespace(wait=lambda r=record: r, mismatches=list, request=request))
    resumed.finish()
    return ran, resumed.again


def rows(*numbers):
    return [{"n": number} for number in numbers]


def read(path):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [(each["index"], each["result"]) for each in lines]


def test_only_what_has_not_completed_is_run_again_and_all_lines_are_in_order(tmp_path):
    path = tmp_path / "r.jsonl"
    with Lines(path, resume=False) as lines:
        assert run(lines, rows(1, 2, 3), fails={2}) == ([1, 2, 3], 0)
    assert read(path) == [(0, 1), (1, None), (2, 3)]
    with Lines(path, resume=True) as lines:
        assert run(lines, rows(0, 1, 2, 3, 1)) == ([0, 2, 1], 2)
    assert read(path) == [(0, 0), (1, 1), (2, 2), (3, 3), (4, 1)]
    assert [each.name for each in tmp_path.iterdir()] == ["r.jsonl"]


def test_a_map_that_was_killed_is_gone_on_with_any_number_of_times(tmp_path):
    path = tmp_path / "r.jsonl"
    for stop, ran in ((1, [1]), (1, [2]), (0, [])):
        with Lines(path, resume=True) as lines:
            assert run(lines, rows(1, 2, 3), stop=stop)[0] == ran
        assert not path.exists()
    with (tmp_path / "r.jsonl.part-2").open("ab") as file:
        file.write(b'{"event": "fini')
    with Lines(path, resume=True) as lines:
        assert run(lines, rows(1, 2, 3)) == ([3], 2)
    assert read(path) == [(0, 1), (1, 2), (2, 3)]
    assert [each.name for each in tmp_path.iterdir()] == ["r.jsonl"]


def test_another_program_or_backend_is_run_again(tmp_path):
    path = tmp_path / "r.jsonl"
    with Lines(path, resume=False) as lines:
        run(lines, rows(1))
    assert len(json.loads(path.read_text())[KEY]) == 64
    with Lines(path, resume=True) as lines:
        assert run(lines, rows(1), program=LATER) == ([1], 0)


def test_refused_rows_keep_their_place(tmp_path):
    path = tmp_path / "r.jsonl"
    for again in (0, 2):
        with Lines(path, resume=bool(again)) as lines:
            assert run(lines, [{"n": 1}, InputsError("no"), {"n": 2}])[1] == again
        assert read(path) == [(0, 1), (1, None), (2, 2)]


def test_no_file_is_overwritten_by_accident_and_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "r.jsonl").write_text("mine")
    with pytest.raises(RequestError, match="--resume"):
        Lines(tmp_path / "r.jsonl", resume=False)
    with pytest.raises(RequestError, match="none"), Lines(tmp_path / "none" / "r", resume=False):
        pass
