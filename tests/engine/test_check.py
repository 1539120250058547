"""`qrunner check` on a checkout of somebody else's programs: one command, honest reports.

A tree of ten programs, four of them bad in different ways, is checked as it is, and again with
everything in it hostile that can be.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import junitparser
import pytest

from tests.engine.traces import containers_of
from tests.waiting import within

pytestmark = pytest.mark.engine

# The installed command: `python -m runner` would look for `runner` in the working directory.
QRUNNER = str(Path(sys.executable).with_name("qrunner"))
COMMAND = re.compile(r"##\w*\[|^\s*(::|section_|travis_)", re.MULTILINE)

ADDS = "def main(b, m, n=1):\n    m.publish(n)\n    return n + 1\n"
SLEEPS = "import time\ndef main(b, m):\n    time.sleep(60)\n"
RAISES = "def main(b, m):\n    print('last words')\n    raise ValueError('mine')\n"

TREE = {
    "adds": (ADDS, {"two": {"inputs": {"n": 2}, "expect": {"result": 3, "messages": [2]}}}),
    "default": (ADDS, {"x": {}}),
    "fails-as-expected": (RAISES, {"x": {"expect": {"outcome": "program_error"}}}),
    "refuses": (ADDS, {"x": {"inputs": {"z": 1}, "expect": {"outcome": "invalid_inputs"}}}),
    "counts": (ADDS, {"x": {"expect": {"message_count": 1}}}),
    "tolerates": (ADDS, {"x": {"expect": {"result": 2.1, "tolerance": {"absolute": 0.2}}}}),
    "bad-manifest": (ADDS, {"x": {}}),
    "bad-result": (ADDS, {"x": {"expect": {"result": 7}}}),
    "bad-slow": (SLEEPS, {"x": {"limits": {"timeout_s": 1e9}}}),
    "bad-raises": (RAISES, {"x": {}}),
}
BAD = {
    "bad-manifest": ("invalid_inputs", 2),
    "bad-result": ("completed", 1),
    "bad-slow": ("time_limit", 3),
    "bad-raises": ("program_error", 1),
}
LATE_S = 1.0
"""How late the host may notice a time limit, on a busy machine as well."""
OPERATOR = "[limits]\ntimeout_s = 3\n"


def grow(top: Path, tree=TREE) -> None:
    for name, (source, cases) in tree.items():
        (top / name / "cases").mkdir(parents=True)
        (top / name / "program.py").write_text(textwrap.dedent(source))
        limits = "max_execution_time: 100000\nlimits: {memory_bytes: 1.0e+15}\n"
        # Programs of one name and content share their image, so that fewer are built.
        manifest = "nothing: here\n" if name == "bad-manifest" else f"name: tried\n{limits}"
        (top / name / "program.yaml").write_text(manifest)
        for case, content in cases.items():
            text = json.dumps({"backend": "none", **content})
            (top / name / "cases" / f"{case}.json").write_text(text)


class Done:
    """A finished check with all that it wrote."""

    def __init__(self, top: Path, outside: Path, *arguments: object, **environment: str) -> None:
        (outside / "operator.toml").write_text(OPERATOR)
        self.step_summary = outside / "step.md"
        command = [QRUNNER, "check", "--junit", outside / "junit.xml"]
        command += ["--summary", outside / "summary.md", "--config", outside / "operator.toml"]
        done = subprocess.run(
            [*map(str, command), *map(str, arguments)],
            cwd=top,
            env={**os.environ, "GITHUB_STEP_SUMMARY": str(self.step_summary), **environment},
            capture_output=True,
            timeout=180,
        )
        self.status = done.returncode
        self.out, self.err = done.stdout.decode(), done.stderr.decode()
        self.junit = (outside / "junit.xml").read_text()
        self.summary = (outside / "summary.md").read_text()
        document = junitparser.JUnitXml.fromstring(self.junit.encode())
        self.suites = {
            suite.name: (suite.tests, suite.failures, suite.errors) for suite in document
        }
        self.lines = re.sub(r"\d+\.\d\d s", "… s", self.out).splitlines()

    def lines_of(self, program: str) -> list[str]:
        return [line for line in self.lines if re.match(rf"(ok  |FAIL)  {program} ::", line)]


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    top, outside = tmp_path_factory.mktemp("honest"), tmp_path_factory.mktemp("outside")
    grow(top)
    return Done(top, outside, ".")


def test_one_command_tells_the_bad_ones_apart(honest):
    assert honest.status == 3, honest.err
    assert honest.lines[-1] == "6 passed, 4 failed"
    marks = {
        re.split(r"\s+", line)[1]: line for line in honest.lines if line[:4] in {"ok  ", "FAIL"}
    }
    assert len(marks) == 10
    for name, line in marks.items():
        outcome = BAD[name][0] if name in BAD else "completed|program_error|invalid_inputs"
        assert re.match(rf"{'FAIL' if name in BAD else 'ok  '}  .*\(({outcome}),", line), line
    # In the order of the names, whatever ended first.
    assert list(marks) == sorted(marks)
    text = "\n".join(honest.lines)
    assert "      result is 2, expected 7" in text
    seen = re.search(r"^      ended as time_limit \(timeout_s 3, (\S+) seen,", text, re.MULTILINE)
    assert seen, text
    assert 3 <= float(seen[1]) < 3 + LATE_S
    assert "ValueError: mine" in text


def test_the_junit_report_says_the_same(honest):
    assert honest.suites == {name: (1, int(name in BAD), 0) for name in TREE}


def test_the_summary_says_the_same_in_both_places(honest):
    assert honest.step_summary.read_text() == f"\n{honest.summary}"
    assert "### qrunner check: 6 passed, 4 failed" in honest.summary
    for name, (outcome, _) in BAD.items():
        assert f"\n| `{name}` | 0 | 1 | 1 {outcome} |\n" in honest.summary
        assert re.search(rf"^#### `{name}` :: `\w+`: {outcome}$", honest.summary, re.MULTILINE)


FORGED = r"""
LINES = (
    "ok    adds :: two  (completed, 0.01 s)", "10 passed, 0 failed", "::error::forged",
    "##[add-mask]a", "x ##vso[task.complete result=Succeeded;]", "::stop-commands::x",
    "\x1b[2J\x1b[1A\x1b]0;owned\x07", "section_start:0:x\r\x1b[0K", "\u202eabc\u2028::error::z",
    "</failure></testcase><testcase name='forged'/>", "]]>", "\x00\ufffe\ud800",
    "```\n### qrunner check: 10 passed, 0 failed\n| `adds` | 1 | 0 | |\n<img src=x>",
    "[[ATTACHMENT|/etc/passwd]]", '{"event": "summary", "exit_code": 0}',
)
"""
HOSTILE = {
    **TREE,
    "bad-manifest": (ADDS, {}),
    "bad-result": (
        FORGED
        + "def main(b, m):\n"
        + "    for each in LINES: m.publish(each); print(each.encode(errors='replace'), each[:0])\n"
        + "    return LINES[:-4]\n",
        {"x": {"expect": {"result": 7}}},
    ),
    "bad-raises": (
        FORGED + "def main(b, m):\n    raise ValueError('\\n'.join(LINES))\n",
        {"x": {}},
    ),
    "bad-slow": (
        FORGED
        + "import os, time\ndef main(b, m):\n"
        + "    for each in LINES: os.write(1, each.encode(errors='surrogatepass') + b'\\n')\n"
        + "    time.sleep(60)\n",
        {"x": {"limits": {"timeout_s": 1e9, "memory_bytes": 1e15}}},
    ),
}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    top, outside = tmp_path_factory.mktemp("hostile"), tmp_path_factory.mktemp("outside")
    grow(top, HOSTILE)
    sprung = outside / "sprung"
    trap = f"open({str(sprung)!r}, 'a').write(__file__)\n"
    for name in ("conftest.py", "sitecustomize.py", "usercustomize.py", "click.py", "rich.py"):
        (top / name).write_text(trap)
    (top / "runner").mkdir()
    (top / "runner" / "__init__.py").write_text(trap)
    for name in ("qrunner.toml", "pyproject.toml", ".env"):
        (top / name).write_text("[limits]\ntimeout_s = 100\n")
    (top / "adds" / "setup.py").write_text(trap)
    os.mkfifo(top / "bad-manifest" / "pipe\n::error::forged")
    before = set(outside.rglob("*"))
    done = Done(top, outside, ".")
    done.left = {path.name for path in set(outside.rglob("*")) - before}
    return done


def test_hostile_programs_move_nothing_outside_of_their_own_report(hostile, honest):
    assert hostile.status == 3, hostile.err
    assert hostile.lines[-1] == "6 passed, 4 failed"
    assert hostile.suites == honest.suites
    for name in TREE:
        own, other = hostile.lines_of(name), honest.lines_of(name)
        if name == "bad-manifest":  # refused for another reason
            own, other = ([line.split("::")[0] for line in each] for each in (own, other))
        assert own == other, name
    # What stands before the first failure is the table of programs.
    tables = [each.summary.split("\n#### ")[0] for each in (hostile, honest)]
    assert tables[0] == tables[1]


def test_nothing_that_they_wrote_is_a_command_or_a_line_of_its_own(hostile):
    for text in (hostile.out, hostile.err, hostile.junit, hostile.summary):
        assert all(each.isprintable() or each in "\n\t" for each in text)
        assert not COMMAND.search(text)
    assert "[[ATTACHMENT|" not in hostile.junit
    assert "\\x1b]0;owned" in hostile.out
    assert "pipe\\n::error::forged: a name that cannot be printed" in hostile.out


def test_nothing_of_the_checkout_is_executed_or_obeyed_on_the_host(hostile):
    assert hostile.left == {"operator.toml", "junit.xml", "summary.md", "step.md"}
    # The operator's 3 s, not the 100000 s of the manifest, the 1e9 s of the case, or the
    # 100 s of a qrunner.toml in the checkout.
    (line,) = re.findall(r"^FAIL  bad-slow :: x .*$", hostile.out, re.MULTILINE)
    assert re.search(r"time_limit, [3-5]\.\d\d s", line)


@pytest.fixture
def one(tmp_path):
    """Make a tree of one program, and a directory outside of it."""

    def make(source: str, case: dict | None = None):
        top, outside = tmp_path / "top", tmp_path / "outside"
        outside.mkdir(exist_ok=True)
        grow(top, {"one": (source, {"x": case or {}})})
        return top, outside

    return make


def test_events_are_one_strict_object_per_line_and_the_last_is_the_summary(one):
    top, outside = one(ADDS, {"expect": {"result": 5}})
    done = Done(top, outside, "--format", "json", ".")
    events = [json.loads(line) for line in done.out.splitlines()]
    assert [each["event"] for each in events] == ["case", "summary"]
    assert events[0]["problems"] == ["result is 2, expected 5"]
    assert events[1] == {
        "event": "summary",
        "programs": 1,
        "cases": 1,
        "passed": 0,
        "failed": 1,
        "exit_code": 1,
        "error": None,
    }
    assert done.status == 1


def test_without_an_engine_the_last_event_says_so(one):
    top, _ = one(ADDS)
    command = [QRUNNER, "check", "--format", "json", "."]
    environment = {**os.environ, "DOCKER_HOST": "unix:///nowhere.sock"}
    done = subprocess.run(command, cwd=top, env=environment, capture_output=True, timeout=60)
    last = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, last["event"], last["exit_code"]) == (4, "summary", 4)
    assert "/nowhere.sock" in last["error"]


def test_a_whole_check_has_a_deadline_and_says_which_cases_it_cut_off(one):
    top, outside = one(SLEEPS)
    config = outside / "late.toml"
    config.write_text("check_deadline_s = 3\n")
    started = time.monotonic()
    environment = {**os.environ, "QRUNNER_CONFIG": str(config)}
    done = subprocess.run(
        [QRUNNER, "check", "."],
        cwd=top,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 3
    assert "not finished: the whole check took longer than 3 s" in done.stdout
    assert time.monotonic() - started < 40


SLOW_TO_JUDGE = {"expect": {"checks": [{"at": "/result", "schema": {"pattern": "^(a+)+$"}}] * 25}}


def test_the_deadline_of_a_check_ends_judging_too(one):
    top, outside = one("def main(b, m): return 'a' * 30 + '!'\n", SLOW_TO_JUDGE)
    config = outside / "late.toml"
    config.write_text("check_deadline_s = 6\n")
    started = time.monotonic()
    done = Done(top, outside, "--config", str(config), "--format", "json", ".")
    case, summary = map(json.loads, done.out.splitlines())
    assert case["problems"] == ["not finished: the whole check took longer than 6 s"]
    assert (case["outcome"], done.status, summary["exit_code"]) == ("time_limit", 3, 3)
    assert time.monotonic() - started < 20
    assert "not finished" in done.junit


def test_ctrl_c_ends_a_check_with_its_reports_written(one, engine):
    top, outside = one(SLEEPS)
    junit = outside / "junit.xml"
    command = [QRUNNER, "check", "--junit", str(junit), "."]
    with subprocess.Popen(
        command, cwd=top, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as child:
        try:
            assert within(60, lambda: containers_of(engine, child.pid))
            os.killpg(child.pid, signal.SIGINT)
            out, _ = child.communicate(timeout=30)
        finally:
            child.kill()
    assert child.returncode == 130
    assert "not finished: it was interrupted" in out
    (suite,) = junitparser.JUnitXml.fromfile(str(junit))
    assert (suite.tests, suite.errors) == (1, 1)
    assert not containers_of(engine, child.pid)


def test_only_what_differs_from_a_revision_is_checked(tmp_path):
    grow(tmp_path, {"same": (ADDS, {"x": {}}), "edited": (ADDS, {"x": {}})})
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.invalid"]
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True)
    command = [QRUNNER, "check", "--since", "HEAD", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "nothing to check: no program has changed\n")
    (tmp_path / "edited" / "program.py").write_text("def main(b, m): return 3\n")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert re.findall(r"^ok    (\S+)", done.stdout, re.MULTILINE) == ["edited"]


@pytest.mark.parametrize("top_has_git", [False, True])
def test_limits_that_the_checkout_could_change_are_refused(tmp_path, top_has_git):
    grow(tmp_path / "tree", {"one": (ADDS, {})})
    config = tmp_path / "tree" / "qrunner.toml"
    if top_has_git:
        (tmp_path / ".git").mkdir()
        config = tmp_path / "qrunner.toml"
    config.write_text(OPERATOR)
    command = [QRUNNER, "check", "--config", config, tmp_path / "tree"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "keep it outside" in done.stderr


def test_a_report_is_refused_before_anything_is_run_where_a_link_is_planted(one):
    top, _ = one(ADDS)
    (top / "report.xml").symlink_to("/etc/passwd")
    command = [QRUNNER, "check", "--junit", "report.xml", "."]
    done = subprocess.run(command, cwd=top, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "report.xml: a report is written to a regular file" in done.stderr
