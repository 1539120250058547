"""Reports of a check: every format holds them all, whatever a program wrote or is called."""

from __future__ import annotations

import io
import json
import re
import xml.etree.ElementTree as ET

import junitparser
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.checking import report
from runner.checking.report import (
    CaseReport,
    Summary,
    append_file,
    case_line,
    junit,
    markdown,
    write_file,
)
from runner.errors import RequestError
from runner.job.record import Outcome

HOSTILE = (
    "::error::forged\n##[add-mask]x\n##vso[a]b\n\x1b[31m\u202e\x00\ud800\ufffe]]>\r&<b>"
    "```\n# heading | cell | `code`\n[[ATTACHMENT|/etc/passwd]]\n</failure></testcase>"
)
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=60)
COMMAND = re.compile(r"##\w*\[|^\s*::", re.MULTILINE)


def made(**fields):
    given = {"program": "p", "case": "c", "outcome": Outcome.COMPLETED, "seconds": 0.5}
    return CaseReport(**{**given, "exit_code": 0, **fields})


def failing(**fields):
    given = {"outcome": Outcome.PROGRAM_ERROR, "exit_code": 1, "problems": ("it raised",)}
    return made(**{**given, **fields})


def parsed(content: bytes):
    return junitparser.JUnitXml.fromfile(io.BytesIO(content))


def test_the_exit_code_of_a_check_is_the_highest_of_its_cases():
    reports = [made(), failing(), failing(outcome=Outcome.TIME_LIMIT, exit_code=3), made()]
    summary = Summary.of(reports)
    assert (summary.passed, summary.failed, summary.exit_code) == (2, 2, 3)
    assert Summary.of([]).exit_code == 0


def test_junit_has_a_suite_per_program_and_tells_failures_from_our_faults():
    reports = [
        made(program="a"),
        failing(program="b", log_tail="last words"),
        failing(program="b", case="d", outcome=Outcome.SANDBOX_ERROR, exit_code=4),
    ]
    document = parsed(junit(reports))
    suites = {suite.name: suite for suite in document}
    assert [(each.tests, each.failures, each.errors) for each in suites.values()] == [
        (1, 0, 0),
        (2, 1, 1),
    ]
    assert (document.tests, document.failures, document.errors) == (3, 1, 1)
    first, second = suites["b"]
    assert (first.classname, first.name, first.time) == ("b", "c", 0.5)
    (failure,) = first.result
    assert (failure.message, failure.type) == ("it raised", "program_error")
    assert failure.text == "it raised\n| last words\n"
    assert isinstance(second.result[0], junitparser.Error)


@given(ANY_TEXT, ANY_TEXT, ANY_TEXT)
def test_junit_is_xml_and_keeps_its_shape_whatever_it_reports(program, case, text):
    hostile = failing(program=program, case=case, problems=(text,), log_tail=text)
    root = ET.fromstring(junit([hostile, made()]))
    names = [element.tag for element in root.iter()]
    assert names.count("testcase") == 2
    assert names.count("failure") == 1
    assert set(names) == {"testsuites", "testsuite", "testcase", "failure"}


def test_junit_names_no_file_that_a_ci_system_would_take_along():
    hostile = failing(program=HOSTILE, case=HOSTILE, problems=(HOSTILE,), log_tail=HOSTILE)
    assert b"[[ATTACHMENT|" not in junit([hostile])


@given(ANY_TEXT, ANY_TEXT)
def test_a_line_for_machines_is_strict_ascii_json_with_everything_in_it(name, text):
    line = case_line(failing(case=name, problems=(text,), log_tail=text))
    assert line.isascii()
    assert "\n" not in line
    content = json.loads(line)
    assert (content["case"], content["problems"], content["log_tail"]) == (name, [text], text)
    assert (content["event"], content["outcome"], content["exit_code"]) == (
        "case",
        "program_error",
        1,
    )


def test_hostile_text_forges_no_line_of_the_summary():
    plain = markdown([failing(), made(program="good")]).splitlines()
    hostile = markdown(
        [
            failing(program=HOSTILE, case=HOSTILE, problems=(HOSTILE,), log_tail=HOSTILE),
            made(program="good"),
        ]
    )
    assert not COMMAND.search(hostile)
    lines = hostile.splitlines()
    fences = [number for number, line in enumerate(lines) if line.startswith("```")]
    assert len(fences) == 2
    # Between the fences every line is quoted, and outside there are as many lines as ever.
    assert all(line.startswith("| ") for line in lines[fences[0] + 1 : fences[1]])
    outside = lines[: fences[0]] + lines[fences[1] :]
    assert len(outside) == len(plain) - 2
    table = [line for line in lines if line.startswith("| `")]
    assert [line.count("|") for line in table] == [5, 5]
    assert all(line.count("`") == 2 for line in table)


def test_a_summary_is_bounded_and_says_what_is_left_out():
    many = [failing(case=str(n), log_tail="x" * 20_000) for n in range(200)]
    text = markdown(many)
    assert len(text.encode()) <= report.MAX_SUMMARY_BYTES + 100
    assert re.search(r"and \d+ more, which do not fit", text)


def test_a_report_keeps_a_bounded_part_of_what_a_program_wrote():
    kept = failing(problems=("x" * 10_000,) * 100, log_tail="y" * 10**6 + "end")
    assert len(kept.problems) == report.MAX_PROBLEMS
    assert len(kept.problems[0]) == report.MAX_PROBLEM
    assert kept.log_tail.endswith("end")
    assert len(kept.log_tail) == report.MAX_LOG_TAIL


def test_a_report_replaces_the_earlier_one_and_follows_no_link(tmp_path):
    place = tmp_path / "report.xml"
    write_file(place, b"one")
    write_file(place, b"two")
    assert place.read_bytes() == b"two"
    assert [each.name for each in tmp_path.iterdir()] == ["report.xml"]
    target = tmp_path / "target"
    target.write_text("mine")
    link = tmp_path / "link.xml"
    link.symlink_to(target)
    for write in (write_file, lambda path, content: append_file(path, content.decode())):
        with pytest.raises(RequestError, match=r"link\.xml"):
            write(link, b"theirs")
    assert target.read_text() == "mine"


def test_a_report_needs_a_directory(tmp_path):
    with pytest.raises(RequestError, match="make it first"):
        write_file(tmp_path / "no" / "report.xml", b"")


def test_a_summary_is_appended_to_what_others_have_written(tmp_path):
    place = tmp_path / "summary.md"
    place.write_text("before")
    append_file(place, "after\n")
    assert place.read_text() == "before\nafter\n"
