"""The GitHub Action, by the scripts that its steps run, and the pytest plugin, by pytest."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path

import junitparser
import pytest
import yaml

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.engine

ROOT = Path(__file__).parents[2]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
STEPS = {step["name"]: step for step in ACTION["runs"]["steps"]}
SHELL = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c"]  # as GitHub runs it

GOOD = "def main(b, m): return 1\n"
BAD = "def main(b, m):\n    print('::error::forged')\n    raise ValueError('mine')\n"


def grow(top: Path, **sources: str) -> None:
    for name, source in sources.items():
        (top / name / "cases").mkdir(parents=True)
        (top / name / "program.yaml").write_text(f"name: {name}\n")
        (top / name / "program.py").write_text(source)
        case = {"backend": "none", "expect": {"result": 1}}
        (top / name / "cases" / "one.json").write_text(json.dumps(case))


# --- the action ----------------------------------------------------------------------------------


def run_step(name: str, inputs: dict[str, str], cwd: Path, temporary: Path):
    """Run one step as GitHub does: inputs fill its environment, files take outputs and summary."""
    step = STEPS[name]
    assert step["shell"] == "bash"
    assert "${{" not in step["run"], "no input is ever part of a script"
    given = {key: each["default"] for key, each in ACTION["inputs"].items()} | inputs
    filled = {
        key: re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda match: given[match[1]], value)
        for key, value in step["env"].items()
    }
    environment = {
        **os.environ,
        **filled,
        "GITHUB_ACTION_PATH": str(ROOT),
        "GITHUB_OUTPUT": str(temporary / "output"),
        "GITHUB_STEP_SUMMARY": str(temporary / "summary"),
        "RUNNER_TEMP": str(temporary),
    }
    command = [*SHELL, step["run"]]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120
    )


def test_every_input_of_the_action_reaches_a_step_and_every_output_is_set():
    used = set(re.findall(r"inputs\.([\w-]+)", json.dumps(ACTION["runs"])))
    assert used == set(ACTION["inputs"])
    script = (ROOT / "tools" / "action-check").read_text()
    for name, output in ACTION["outputs"].items():
        assert output["value"] == f"${{{{ steps.check.outputs.{name} }}}}"
        assert f'echo "{name}=' in script
    for step in STEPS.values():
        for variable in step["env"]:
            assert variable in "".join(
                (ROOT / "tools" / name).read_text() for name in ("action-setup", "action-check")
            )


def test_the_check_of_the_action_reports_and_fails_as_it_must(tmp_path):
    top, temporary = tmp_path / "checkout", tmp_path / "temporary"
    temporary.mkdir()
    grow(top, good=GOOD, bad=BAD, other=BAD)
    paths = "good\n\nbad; touch sprung\nbad\n$(touch sprung)\n"
    done = run_step("Check programs", {"paths": paths}, top, temporary)
    assert done.returncode == 2, done.stderr  # the two that are no programs are refused
    assert not list(top.rglob("sprung"))
    outputs = dict(line.split("=", 1) for line in (temporary / "output").read_text().splitlines())
    assert outputs == {"exit-code": "2", "junit": str(temporary / "qrunner-junit.xml")}
    suites = {
        suite.name: suite.failures for suite in junitparser.JUnitXml.fromfile(outputs["junit"])
    }
    assert suites == {"good": 0, "bad": 1, "bad; touch sprung": 1, "$(touch sprung)": 1}
    assert "1 passed, 3 failed" in (temporary / "summary").read_text()
    # The runner obeys nothing between the first line and the last, whose word nobody can know.
    first, *between, last = done.stdout.splitlines()
    word = re.fullmatch(r"::stop-commands::([0-9a-f]{32})", first)[1]
    assert last == f"::{word}::"
    assert not [line for line in between if word in line or line.lstrip().startswith("::")]


def test_the_set_up_of_the_action_leaves_an_environment_and_an_engine(tmp_path):
    stamp = ROOT / ".venv" / "setup-dev"
    inputs = f"{ROOT}\n" + (ROOT / "pyproject.toml").read_text().split("[tool.ruff]")[0]
    if not stamp.exists() or not stamp.read_text().startswith(inputs):
        pytest.skip("the environment is older than pyproject.toml: make venv-dev")
    done = run_step("Set up qrunner", {}, tmp_path, tmp_path)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


# --- the plugin ----------------------------------------------------------------------------------


@pytest.fixture
def plugin(pytester, monkeypatch, tmp_path):
    """Have pytest find the plugin by its entry point, also where none is installed."""
    if not list(metadata.entry_points(group="pytest11", name="qrunner")):
        information = tmp_path / "site" / "qrunner_entry-0.dist-info"
        information.mkdir(parents=True)
        (information / "METADATA").write_text("Metadata-Version: 2.1\nName: x\nVersion: 0\n")
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        line = project["entry-points"]["pytest11"]["qrunner"]
        (information / "entry_points.txt").write_text(f"[pytest11]\nqrunner = {line}\n")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    return pytester


def test_cases_are_tests_and_a_failure_says_what_differs(plugin):
    grow(plugin.path, good=GOOD, bad=BAD)
    (plugin.path / "broken").mkdir()
    (plugin.path / "broken" / "program.yaml").write_text("nothing: here\n")
    plugin.makepyfile(
        test_mine="def test_mine(supervisor):\n"
        "    assert supervisor.run('good', backend='none').result(timeout=60) == 1\n"
    )
    done = plugin.runpytest_subprocess("--qrunner", "-v", "-W", "error", "--junitxml=report.xml")
    done.assert_outcomes(passed=2, failed=2)
    done.stdout.fnmatch_lines(
        [
            "bad/program.yaml::one FAILED*",
            "broken/program.yaml::manifest FAILED*",
            "good/program.yaml::one PASSED*",
            "test_mine.py::test_mine PASSED*",
            "*_ bad :: one _*",
            "*ended as program_error (ValueError: mine), expected completed",
            "*| Traceback (most recent call last):",
            "*broken/program.yaml*nothing*unknown key*",
        ]
    )
    assert "::error::forged" not in done.stdout.str().replace("| ::error::forged", "")
    assert "runner/checking/pytest_plugin.py" not in done.stdout.str()
    assert done.ret == 1


def test_without_its_option_the_plugin_collects_and_imports_nothing(plugin):
    grow(plugin.path, good=GOOD)
    plugin.makepyfile(
        test_mine="import sys\n"
        "def test_light():\n"
        "    heavy = {'runner.supervisor', 'runner.checking.check', 'docker', 'yaml', 'click'}\n"
        "    assert not heavy & set(sys.modules)\n"
        "def test_asks_for_it(supervisor):\n"
        "    raise AssertionError\n"
    )
    done = plugin.runpytest_subprocess("-rs", "-W", "error")
    done.assert_outcomes(passed=1, skipped=1)
    done.stdout.fnmatch_lines(["*enable it with --qrunner*"])


def test_what_the_operator_says_reaches_the_plugin(plugin):
    grow(plugin.path, slow="import time\ndef main(b, m): time.sleep(60)\n")
    (plugin.path / "operator.toml").write_text("[limits]\ntimeout_s = 1\n")
    done = plugin.runpytest_subprocess("--qrunner", "--qrunner-config", "operator.toml")
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*ended as time_limit*"])
