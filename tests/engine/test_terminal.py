"""The live view, on a terminal that can be read."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from tests.recording import record

pytestmark = pytest.mark.engine

QRUNNER = str(Path(sys.executable).with_name("qrunner"))
RUN = [QRUNNER, "run", "--backend", "none"]
COLOUR = re.compile(rb"\x1b\[[\d;]*3\dm")

COUNTS = """
import time

def main(backend, user_messenger):
    for done in range(1, 5):
        user_messenger.publish({"progress": {"done": done, "total": 4}})
        user_messenger.publish({"energy": -done})
        time.sleep(0.3)
    print("\\x1b]0;owned\\x07[red]not markup[/red]")
    return {"00": 30, "11": 10}
"""


@pytest.fixture
def counting(program):
    return program(COUNTS, "counting.py")


def test_a_run_shows_what_comes_what_it_uses_and_its_counts(counting):
    seen = record([*RUN, str(counting), "--timeout", "30"], pipe_stdout=True)
    assert seen.status == 0, seen.text
    # stdout has the result and nothing else.
    assert json.loads(seen.stdout) == {"00": 30, "11": 10}
    live = [moment for moment in seen.moments if re.search(r"\d s of 30 s", moment)]
    assert any(re.search(r"MiB of 2 GiB", moment) for moment in live)
    assert any(re.search(r"█+░+ +50 %", moment) for moment in live)
    assert any('{"energy":-1}' in moment for moment in live)
    # What was live is gone, what came stays, and a message that is only progress was a bar.
    assert "of 30 s" not in seen.text
    assert seen.text.count("energy") == 4
    assert "progress" not in seen.text
    assert "| \\x1b]0;owned\\x07[red]not markup[/red]" in seen.text
    assert b"\x1b]0;" not in seen.raw
    assert re.search(r"counting: completed after \d\.\d\d s, at most \d+ MiB of memory", seen.text)
    assert re.search(r"^00  30  75\.0% █{40}$", seen.text, re.MULTILINE)
    assert re.search(r"^11  10  25\.0% █{13}$", seen.text, re.MULTILINE)
    assert COLOUR.search(seen.raw)


def test_a_narrow_terminal_without_colours_loses_parts_but_no_line(counting):
    seen = record([*RUN, str(counting)], columns=30, environment={"NO_COLOR": "1"})
    assert seen.status == 0
    assert not COLOUR.search(seen.raw)
    live = [moment for moment in seen.moments if "░" in moment]
    assert live
    assert seen.text.count("energy") == 4
    assert "░" not in seen.text


def test_a_dumb_terminal_gets_plain_lines(program):
    path = program("def main(b, m):\n    m.publish('ψ')\n    raise ValueError('mine')\n")
    seen = record([*RUN, str(path)], environment={"TERM": "dumb", "LC_ALL": "C"})
    assert seen.status == 1
    assert b"\x1b" not in seen.raw
    assert "started as job-" in seen.text
    assert "ValueError: mine" in seen.text


def test_a_failing_run_says_why_and_what_to_do(program):
    path = program("import time\ndef main(b, m):\n    time.sleep(60)\n")
    seen = record([*RUN, str(path), "--timeout", "1"])
    assert seen.status == 3
    assert re.search(r"tried: time_limit after 1\.\d\d s.*\(timeout_s 1", seen.text)
    assert "→ more time: --timeout S" in seen.text


def test_ctrl_c_ends_a_run_and_leaves_a_clean_screen(sleeper):
    seen = record([*RUN, str(sleeper)], interrupt_at='#0 "up"')
    assert seen.status == 130
    assert "sleeper: cancelled" in seen.text
    assert "of 300 s" not in seen.text
    assert seen.raw.rindex(b"\x1b[?25h") > seen.raw.rindex(b"\x1b[?25l")  # the cursor is back


def test_a_check_shows_how_far_it_is_and_leaves_its_report(tmp_path):
    for name, source in {"good": "return 1", "slow": "import time; time.sleep(1)"}.items():
        (tmp_path / name / "cases").mkdir(parents=True)
        (tmp_path / name / "cases" / "one.json").write_text('{"backend": "none"}')
        (tmp_path / name / "program.yaml").write_text(f"name: {name}\n")
        (tmp_path / name / "program.py").write_text(f"def main(b, m): {source}\n")
    seen = record([QRUNNER, "check", str(tmp_path)], columns=120)
    assert seen.status == 0, seen.text
    assert any(re.search(r"█+░+ 1 of 2", moment) for moment in seen.moments)
    assert any(re.search(r"\d\.\d s  .*slow :: one", moment) for moment in seen.moments)
    assert seen.text.splitlines()[-1] == "2 passed, 0 failed"
    assert re.search(r"^ok    .*/good :: one  \(completed, ", seen.text, re.MULTILINE)
    assert "1 of 2" not in seen.text


def test_tables_are_drawn_on_a_terminal():
    seen = record([QRUNNER, "list"], columns=50)
    assert seen.status == 0
    assert re.search(r"^program +.*what it does$", seen.text, re.MULTILINE)
    assert "hello_world" in seen.text
