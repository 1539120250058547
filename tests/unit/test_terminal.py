"""What a terminal shows: progress, counts as bars, colours where they are wanted, tables."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from runner.cli import cli, main, terminal
from runner.cli.live import MAX_BARS, MAX_EXPERIMENTS, histogram, progress_of
from runner.cli.output import arrow
from runner.encoded.counts import counts_in_text
from tests.recording import MARKED


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"progress": 0.25}, (0.25, True)),
        ({"progress": 1}, (1.0, True)),
        ({"progress": {"done": 3, "total": 4}}, (0.75, True)),
        ({"progress": 0.5, "energy": -1}, (0.5, False)),
        ({"progress": 1.5}, (None, False)),
        ({"progress": -0.1}, (None, False)),
        ({"progress": True}, (None, False)),
        ({"progress": "half"}, (None, False)),
        ({"progress": {"done": 1, "total": 0}}, (None, False)),
        ({"progress": {"done": 5, "total": 4}}, (None, False)),
        ({"progress": {"done": 1, "total": 2, "more": 3}}, (None, False)),
        ({"progress": {"done": 10**400, "total": 10**400}}, (None, False)),
        ({"energy": 0.5}, (None, False)),
        (["progress"], (None, False)),
        ({"progress": 0.5, "long": "x" * 5000}, (None, False)),
    ],
)
def test_what_counts_as_progress(message, expected):
    assert progress_of(json.dumps(message)) == expected


@pytest.mark.parametrize(
    ("result", "number"),
    [
        ({"00": 512, "11": 512}, 1),
        ({"0 1": 3}, 1),
        ({"0x1f": 3}, 1),
        ([{"0": 1}, {"1": 2}], 2),
        ({"counts": {"0": 1}, "seed": 7}, 1),
        ({"counts": [{"0": 1}] * 9}, 4),
        ({"a": 1}, 0),
        ({"0": 0.5}, 0),
        ({"0": True}, 0),
        ({"0": -1}, 0),
        ({"0": 0}, 0),
        ({"0": 10**4299}, 0),
        ({}, 0),
        ([], 0),
        ("00", 0),
        (None, 0),
    ],
)
def test_which_results_are_counts(result, number):
    assert len(counts_in_text(json.dumps(result), MAX_EXPERIMENTS)) == number
    assert counts_in_text(None, 1) == []


def test_a_number_of_thousands_of_digits_is_no_count():
    assert counts_in_text(f'{{"0": {"9" * 5000}}}', 1) == []


def test_bars_are_as_long_as_the_counts_say():
    shown = histogram({"00": 100, "01": 50, "11": 1}, 60).plain.split("\n")
    assert [line.count("█") for line in shown] == [40, 20, 0]
    assert [line.split()[:3] for line in shown] == [
        ["00", "100", "66.2%"],
        ["01", "50", "33.1%"],
        ["11", "1", "0.7%"],
    ]


def test_bars_are_ascii_where_nothing_else_can_be_shown():
    assert histogram({"0": 1}, 60, unicode=False).plain.isascii()


@given(
    st.dictionaries(
        st.text("01 ", min_size=1, max_size=200), st.integers(1, 1 << 62), min_size=1, max_size=40
    ),
    st.integers(20, 200),
)
def test_a_histogram_keeps_within_its_columns_and_names_the_rest(counts, columns):
    lines = histogram(counts, columns).plain.split("\n")
    assert len(lines) == min(len(counts), MAX_BARS) + (len(counts) > MAX_BARS)
    widest = max(columns, columns // 2 + 20 + len("   100.0%  "))  # a number is never cut
    assert all(len(line) <= widest for line in lines)


@pytest.mark.parametrize(
    ("environment", "on_terminal", "in_pipe"),
    [
        ({"TERM": "xterm"}, True, False),
        ({"TERM": "dumb"}, False, False),
        ({}, False, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False, False),
        ({"TERM": "xterm", "FORCE_COLOR": "1"}, True, True),
        ({"TERM": "dumb", "FORCE_COLOR": "1"}, True, True),
        ({"TERM": "xterm", "FORCE_COLOR": "1", "NO_COLOR": "1"}, False, False),
        ({"TERM": "xterm", "NO_COLOR": ""}, True, False),
    ],
)
def test_colours_follow_the_environment(monkeypatch, environment, on_terminal, in_pipe):
    for name in ("TERM", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert terminal.wants_colour(Terminal()) == on_terminal
    assert terminal.wants_colour(io.StringIO()) == in_pipe
    assert terminal.can_move_cursor(Terminal()) == (environment.get("TERM") == "xterm")
    assert not terminal.can_move_cursor(io.StringIO())
    assert ("\x1b[" in terminal.styled("x", "red", io.StringIO())) == in_pipe


def test_a_table_in_a_pipe_is_aligned_and_never_cut(capsys):
    terminal.table(("name", "what"), [("a", "x" * 200), ("longer", "[bold]y[/bold]")])
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["NAME    WHAT", f"a       {'x' * 200}", "longer  [bold]y[/bold]"]


@pytest.mark.parametrize("columns", [40, 60])
def test_what_a_row_is_called_stays_whole_on_a_narrow_terminal(monkeypatch, columns):
    shown = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys, "stdout", shown)
    terminal.table(("job", "program", "outcome"), [("job-0123456789abcde", "p" * 30, "completed")])
    assert "job-0123456789abcde" in shown.getvalue()


def test_nothing_of_a_table_is_markup_on_a_terminal(monkeypatch):
    shown = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(sys, "stdout", shown)
    terminal.table(("name",), [("[red]x[/red] :smile: http://example.invalid",)])
    assert "[red]x[/red] :smile: http://example.invalid" in shown.getvalue()


def test_a_hint_is_one_line_or_nothing():
    assert arrow("") == ""
    assert arrow("more\ntime") == "→ more\\ntime\n"


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (["--iterations", "3"], "→ inputs of the program are given with -i: -i iterations=3"),
        (["--max-steps=3"], "-i max_steps=3"),
        (["--verbose"], "-i verbose=VALUE"),
        (["--timeot", "1"], None),
    ],
)
def test_an_option_that_is_an_input_is_answered_with_minus_i(monkeypatch, capsys, option, said):
    monkeypatch.setattr(sys, "argv", ["qrunner", "run", "hello_world", *option])
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    shown = capsys.readouterr().err
    assert said in shown if said else "→" not in shown


def test_a_mistyped_command_or_option_is_answered_with_the_right_one():
    for arguments, meant in ((["chek"], "check"), (["run", "x", "--timeot", "1"], "--timeout")):
        done = CliRunner().invoke(cli, arguments)
        assert done.exit_code == 2
        assert meant in done.output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_gets_its_completion(shell):
    done = complete(f"{shell}_source", shell)
    assert "_QRUNNER_COMPLETE" in done


def complete(instruction, shell, line="", position=0):
    # As the installed command does: click knows its name from what was started.
    script = "import sys; sys.argv[0] = 'qrunner'; from runner.cli import main; main()"
    environment = {
        **os.environ,
        "_QRUNNER_COMPLETE": instruction,
        "COMP_WORDS": line,
        "COMP_CWORD": str(position),
    }
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60
    )
    assert "Traceback" not in done.stderr
    return done.stdout


def test_program_names_are_completed():
    shown = complete("zsh_complete", "zsh", "qrunner run rand", 2)
    assert "random_circuits" in shown
    assert "hello_world" not in shown


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["check", "--help"]])
def test_help_waits_for_no_library(arguments):
    code = (
        "import sys; from runner.cli import cli\n"
        f"try: cli({arguments!r})\n"
        "except SystemExit: pass\n"
        "heavy = {'rich', 'docker', 'yaml', 'jsonschema', 'requests', 'junitparser'}\n"
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_run_in_a_pipe_imports_nothing_that_draws():
    code = (
        "import sys\n"
        "import runner.cli.output, runner.supervisor, runner.cli.terminal, runner.cli.watching\n"
        "import runner.checking.check\n"
        "sys.exit('rich' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_every_recording_of_the_document_is_there_and_shows_its_command():
    text = (Path(__file__).parents[2] / "docs" / "terminal.md").read_text()
    shown = list(MARKED.finditer(text))
    assert len(shown) >= 7
    for match in shown:
        for command in match["command"].split("; "):
            assert f"$ {command}\n" in match[0]
        assert len(match[0].splitlines()) >= 6
