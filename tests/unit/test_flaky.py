"""`make test` tries what failed once more, and says what did not fail again."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = """
import pathlib
import pytest

pathlib.Path("count").open("a").write("x")
COUNT = len(pathlib.Path("count").read_text())

def test_always(): pass
def test_never(): assert False
def test_second(): assert COUNT == 2

def test_skipped():
    if COUNT == 2: pytest.skip("not now")
    assert False

@pytest.fixture
def late():
    yield
    assert COUNT == 2

def test_late(late): pass
"""


@pytest.fixture
def second_try(tmp_path):
    """Run some tests twice, as the Makefile says; return the last output and exit code."""
    makefile = (ROOT / "Makefile").read_text()
    options = re.findall(r"python -m pytest -q (-p tests\.flaky .*?);", makefile)
    assert len(options) == 1

    def run(chosen: str) -> tuple[list[str], int]:
        (tmp_path / "test_it.py").write_text(TESTS)
        for each in ([], options[0].split()):
            done = subprocess.run(
                [sys.executable, "-m", "pytest", "-q", "-k", chosen, *each, "test_it.py"],
                cwd=tmp_path,
                env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
                capture_output=True,
                text=True,
                timeout=120,
            )
        return done.stdout.splitlines(), done.returncode

    return run


def test_what_did_not_fail_again_is_counted_and_named_before_the_closing_line(second_try):
    lines, status = second_try("test")
    assert status == 1  # of what fails again
    assert [line for line in lines if line.startswith("flaky: ")] == [
        "flaky: test_it.py::test_late failed, and at the second try passed",
        "flaky: test_it.py::test_second failed, and at the second try passed",
        "flaky: test_it.py::test_skipped failed, and at the second try skipped",
        "flaky: 3 tests, to be mended in the product or in the test",
    ]
    assert re.match(r"1 failed, 2 passed, 1 skipped, 1 deselected in ", lines[-1])


@pytest.mark.parametrize(("chosen", "status"), [("never", 1), ("second", 0)])
def test_what_fails_twice_fails_and_is_not_called_flaky(second_try, chosen, status):
    lines, code = second_try(chosen)
    assert code == status
    assert any("flaky" in line for line in lines) is (chosen == "second")
