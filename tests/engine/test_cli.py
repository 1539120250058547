"""The command line as users and scripts meet it: streams, formats and exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from runner.cli import main
from tests.engine.traces import containers_of

pytestmark = pytest.mark.engine

QRUNNER = [sys.executable, "-m", "runner"]


def qrunner(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [*QRUNNER, *(str(each) for each in arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


@pytest.fixture
def in_process(monkeypatch, capfd):
    """Run the command line without a process of its own, where that makes no difference."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", ["qrunner", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return subprocess.CompletedProcess(arguments, ended.value.code, *capfd.readouterr())

    return run


def events(done: subprocess.CompletedProcess[str]) -> list[dict]:
    def strict(name: str) -> None:
        raise AssertionError(name)

    return [json.loads(line, parse_constant=strict) for line in done.stdout.splitlines()]


def test_stdout_is_the_bare_result_and_the_rest_goes_to_stderr():
    done = qrunner("run", "hello_world")
    assert done.returncode == 0, done.stderr
    assert isinstance(json.loads(done.stdout), str)
    assert "#0 " in done.stderr
    assert "completed" in done.stderr


def test_json_events_are_one_strict_object_per_line_the_last_is_finished():
    done = qrunner("run", "random_circuits", "-i", "iterations=2", "--format", "json")
    assert done.returncode == 0, done.stderr
    found = events(done)
    assert [each["event"] for each in found if each["event"] != "log"] == [
        "started",
        "message",
        "message",
        "finished",
    ]
    started, finished = found[0], found[-1]
    assert set(started) == {"event", "job", "program", "image"}
    messages = [each for each in found if each["event"] == "message"]
    assert [each["seq"] for each in messages] == [0, 1]
    assert all(set(each) == {"event", "seq", "time", "body"} for each in messages)
    assert finished["outcome"] == "completed"
    assert finished["result"] == "All done!"
    assert finished["traceback"] is None
    assert finished["evidence"] is None
    assert finished["job"] == started["job"]
    assert set(finished["usage"]) >= {
        "wall_s",
        "cpu_s",
        "memory_peak_bytes",
        "oom_kills",
        "messages",
        "stdout_bytes",
        "stderr_bytes",
    }


def test_a_program_that_raises_exits_1_with_its_own_traceback_only(program):
    path = program("def main(backend, user_messenger):\n    raise RuntimeError('mine')\n")
    done = qrunner("run", path, "--backend", "none")
    assert done.returncode == 1
    assert done.stdout == ""
    assert f'File "{path}", line 2, in main' in done.stderr
    assert "RuntimeError: mine" in done.stderr
    assert done.stderr.count("File ") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing_like_this"], "no program 'nothing_like_this'"),
        (["random_circuits", "-i", "iterations=many"], "iterations"),
        (["random_circuits", "-i", "colour=1"], "unknown input 'colour'"),
        (["random_circuits", "-i", "iterations"], "KEY=VALUE"),
        (["random_circuits", "--inputs", "[1]"], "must be a JSON object"),
        (["random_circuits", "--inputs", "{"], "not readable as JSON"),
        (["random_circuits", "--inputs", "@/nowhere.json"], "/nowhere.json"),
        (["random_circuits", "--inputs", "@/dev/zero"], "/dev/zero: longer than 67108864 bytes"),
        (["random_circuits", "--backend", "moon"], "unknown backend 'moon'"),
        (["random_circuits", "--timeout", "-1"], "timeout_s"),
        (["random_circuits", "--memory", "lots"], "'lots'"),
    ],
)
def test_what_is_refused_says_why_exits_2_and_still_finishes_in_json(in_process, arguments, said):
    done = in_process("run", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    as_json = in_process("run", *arguments, "--format", "json")
    assert as_json.returncode == 2
    (finished,) = events(as_json)
    assert (finished["event"], finished["outcome"]) == ("finished", "invalid_inputs")
    assert said in finished["evidence"]["detail"]


def test_a_bad_manifest_exits_2_and_names_file_and_key(tmp_path):
    (tmp_path / "program.yaml").write_text("name: mine\nmax_execution_time: soon\n")
    (tmp_path / "program.py").write_text("def main(b, m): ...\n")
    done = qrunner("run", tmp_path)
    assert done.returncode == 2
    assert "program.yaml, line 2: max_execution_time: 'soon'" in done.stderr


def test_inputs_come_from_text_file_stdin_and_pairs(program, tmp_path):
    path = program("def main(backend, user_messenger, **kwargs):\n    return kwargs\n")
    text = json.dumps({"quote": 'it\'s "$HOME" $(x)', "n": 1})
    (tmp_path / "inputs.json").write_text(text)
    pairs = ["-i", "n=[2]", "-i", "t=plain text", "--backend", "none"]
    for arguments, stdin in (
        (["--inputs", text], None),
        (["--inputs", f"@{tmp_path / 'inputs.json'}"], None),
        (["--inputs", "-"], text),
    ):
        done = qrunner("run", path, *arguments, *pairs, input=stdin)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == {
            "quote": 'it\'s "$HOME" $(x)',
            "n": [2],
            "t": "plain text",
        }


def test_limits_come_from_the_flags_and_end_with_exit_code_3(program):
    path = program("import time\ndef main(b, m):\n    time.sleep(60)\n")
    done = qrunner("run", path, "--backend", "none", "--timeout", "1", "--format", "json")
    assert done.returncode == 3
    finished = events(done)[-1]
    assert finished["outcome"] == "time_limit"
    assert finished["evidence"]["limit"] == "timeout_s"
    assert finished["evidence"]["value"] == 1


def test_hostile_output_is_escaped_and_never_starts_a_line(program):
    path = program(
        r"""
        def main(backend, user_messenger):
            print("::error::forged\n\x1b[2J\x1b]0;title\x07\r::add-mask::x\u2028::x")
            user_messenger.publish("\x1b[31m\u202e")
            raise ValueError("::stop-commands::y\n::error::z")
        """
    )
    done = qrunner("run", path, "--backend", "none")
    assert "\x1b" not in done.stderr
    assert "\x07" not in done.stderr
    assert "\u202e" not in done.stderr
    assert not [line for line in done.stderr.splitlines() if line.lstrip().startswith("::")]
    assert "| ::error::forged" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupting_cancels_and_leaves_nothing(program, engine, number):
    path = program("import time\ndef main(b, m):\n    m.publish('up')\n    time.sleep(60)\n")
    command = [*QRUNNER, "run", str(path), "--backend", "none", "--format", "json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as child:
        try:
            while '"message"' not in child.stdout.readline():
                pass
            started = time.monotonic()
            os.killpg(child.pid, number)
            out, _ = child.communicate(timeout=20)
        finally:
            child.kill()
    assert child.returncode == 130
    assert json.loads(out.splitlines()[-1])["outcome"] == "cancelled"
    assert time.monotonic() - started < 10
    assert not containers_of(engine, child.pid)


def test_a_reader_that_leaves_early_is_no_traceback():
    command = f"{sys.executable} -m runner run random_circuits --format json | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout)["event"] == "started"
    assert "Traceback" not in done.stderr


def test_check_reports_every_case_and_exits_with_the_highest_code(tmp_path):
    def write(name: str, source: str, cases: dict | None = None) -> None:
        directory = tmp_path / name
        (directory / "cases").mkdir(parents=True)
        (directory / "program.yaml").write_text(f"name: {name}\n")
        (directory / "program.py").write_text(source)
        for case, content in (cases or {}).items():
            text = json.dumps({"backend": "none", **content})
            (directory / "cases" / f"{case}.json").write_text(text)

    write("plain", "def main(b, m): return 1\n")
    write(
        "squares",
        "def main(b, m, n):\n    m.publish(n)\n    return n * n\n",
        {
            "right": {"inputs": {"n": 3}, "expect": {"result": 9, "messages": [3]}},
            "wrong": {"inputs": {"n": 3}, "expect": {"result": 10}},
            "missing": {"expect": {"outcome": "invalid_inputs"}},
        },
    )
    write(
        "slow", "import time\ndef main(b, m): time.sleep(60)\n", {"x": {"limits": {"timeout_s": 1}}}
    )
    report = tmp_path / "report.xml"
    done = qrunner("check", tmp_path, "--junit", report)
    assert done.returncode == 3, done.stderr
    assert "3 passed, 2 failed" in done.stdout
    assert "result is 9, expected 10" in done.stdout
    suites = {suite.get("name").rsplit("/")[-1]: suite for suite in ET.parse(report).getroot()}
    assert {name: suite.get("failures") for name, suite in suites.items()} == {
        "plain": "0",
        "squares": "1",
        "slow": "1",
    }


def test_check_of_a_broken_program_is_a_report_not_an_end(tmp_path):
    (tmp_path / "program.yaml").write_text("nothing: here\n")
    done = qrunner("check", tmp_path)
    assert done.returncode == 2
    assert "0 passed, 1 failed" in done.stdout


def test_an_engine_that_is_not_there_is_a_few_lines_and_exit_code_4():
    environment = {**os.environ, "DOCKER_HOST": "unix:///nowhere.sock"}
    for command in (["run", "hello_world"], ["doctor"]):
        done = qrunner(*command, env=environment)
        assert done.returncode == 4
        assert "Traceback" not in done.stderr
    as_json = qrunner("run", "hello_world", "--format", "json", env=environment)
    (finished,) = events(as_json)
    assert (as_json.returncode, finished["outcome"]) == (4, "sandbox_error")
    done = qrunner("run", "hello_world", env=environment)
    assert len(done.stderr.strip().splitlines()) <= 3
    assert "unix:///nowhere.sock" in done.stderr


def test_new_makes_a_program_that_runs(tmp_path):
    made = qrunner("new", "mine", cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(Path.cwd())})
    assert made.returncode == 0, made.stderr
    done = qrunner("run", tmp_path / "mine")
    assert done.returncode == 0, done.stderr
