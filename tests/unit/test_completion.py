"""Completion in each shell, asked of the shell itself, and help that is whole at 80 columns."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from runner.cli import cli

PLACE = Path(sys.executable).parent
DEADLINE_S = 60.0

ASKED = [
    ("qrunner ru", "run"),
    ("qrunner run rand", "random_circuits"),
    ("qrunner run --backend gen", "generic_backend_v2"),
    ("qrunner jobs --outcome time", "time_limit"),
    ("qrunner result la", "last"),
    ("qrunner show qa", "qaoa"),
]


@pytest.fixture
def environment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QRUNNER_STORE", str(tmp_path / "jobs.sqlite3"))
    monkeypatch.setenv("PATH", f"{PLACE}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))


def asked(shell: str, script: str) -> str:
    command = [shell, *(["--norc"] if shell == "bash" else ["--no-config"]), "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(("line", "expected"), ASKED)
def test_bash(line, expected):
    words = line.split()
    script = f"""
        eval "$(_QRUNNER_COMPLETE=bash_source qrunner)"
        COMP_WORDS=({line}) COMP_CWORD={len(words) - 1}
        _qrunner_completion qrunner {words[-1]} {words[-2]}
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    assert expected in asked("bash", script).split()


@pytest.mark.usefixtures("environment")
@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
@pytest.mark.parametrize(("line", "expected"), ASKED)
def test_fish(line, expected):
    script = f"_QRUNNER_COMPLETE=fish_source qrunner | source; complete -C '{line}'"
    assert expected in [each.split("\t")[0] for each in asked("fish", script).splitlines()]


@pytest.mark.usefixtures("environment")
@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
@pytest.mark.parametrize(("line", "expected"), ASKED)
def test_zsh(line, expected):
    """Press the key, as zsh completes only in its line editor."""
    setup = (
        "PS1='> '; unsetopt zle_bracketed_paste; autoload -Uz compinit; compinit -u -D; "
        'eval "$(_QRUNNER_COMPLETE=zsh_source qrunner)"; echo rea"dy"\n'
    )
    child, terminal = pty.fork()
    if child == 0:
        os.environ["TERM"] = "dumb"
        os.execvp("zsh", ["zsh", "-f", "-i"])
    try:
        write(terminal, setup)
        assert "ready" in read_until(terminal, "ready")
        write(terminal, f"{line}\t")
        assert expected in read_until(terminal, expected)
    finally:
        os.close(terminal)
        os.waitpid(child, 0)


def write(terminal: int, text: str) -> None:
    os.write(terminal, text.encode())


def read_until(terminal: int, text: str) -> str:
    shown, deadline = "", time.monotonic() + DEADLINE_S
    while text not in shown and time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.5)[0]:
            shown += os.read(terminal, 4096).decode(errors="replace")
    return shown


def test_programs_of_this_directory_are_completed_and_listed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    assert runner.invoke(cli, ["new", "mine", "--from", "vqe"]).exit_code == 0
    (tmp_path / "bare.py").write_text("def main(backend, user_messenger): pass\n")
    (tmp_path / "script.py").write_text("def main(): pass\n")
    (tmp_path / "qaoa").mkdir()
    (tmp_path / "qaoa" / "program.py").write_text("def main(backend, user_messenger): pass\n")
    (tmp_path / "empty").mkdir()
    shown = [line.split()[0] for line in runner.invoke(cli, ["list"]).output.splitlines()]
    assert shown[1:4] == ["bare.py", "mine", "./qaoa"]
    assert "qaoa" in shown
    assert "script.py" not in shown
    assert "empty" not in shown


def test_a_program_made_from_another_has_its_files_and_its_own_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    assert runner.invoke(cli, ["new", "mine", "--from", "vqe"]).exit_code == 0
    assert runner.invoke(cli, ["show", "./mine"]).output.startswith("mine  (mine)")
    assert sorted(each.name for each in (tmp_path / "mine" / "cases").iterdir())
    done = runner.invoke(cli, ["new", "other", "--from", "vqx"])
    assert "did you mean 'vqe'" in str(done.exception)


def test_help_is_whole_at_80_columns():
    runner = CliRunner(env={"COLUMNS": "80"})
    names = ["", *cli.commands]
    for name in names:
        shown = runner.invoke(cli, [*([name] if name else []), "--help"], terminal_width=80).output
        assert "..." not in shown.replace("[PROGRAM]...", "").replace("JOB...", "").replace(
            "[PATH]...", ""
        ).replace("[ARGS]...", "").replace("{...}", ""), name
        assert max(map(len, shown.splitlines())) <= 80, name
