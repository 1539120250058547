"""Hints behind the errors of real programs, in the sandbox's own words."""

from __future__ import annotations

import pytest

from runner.errors import JobFailedError
from tests.engine.test_cli import qrunner

pytestmark = pytest.mark.engine

PROGRAMS = {
    "import helpers\ndef main(b, m): pass": "only one.py itself is packaged",
    "import networkx\ndef main(b, m): pass": "qrunner lock DIRECTORY",
    "from qiskit import execute\ndef main(b, m): pass": "backend.run(transpile",
    "def main(b, m): open('data.csv')": "only one.py itself is packaged",
    "def main(b, m): open('/program/x', 'w')": "qrunner files JOB",
    "import urllib.request\n"
    "def main(b, m): urllib.request.urlopen('http://example.invalid')": "no network",
}


@pytest.mark.parametrize(("source", "said"), PROGRAMS.items())
def test_a_program_that_fails_is_followed_by_what_to_do(tmp_path, source, said):
    (tmp_path / "helpers.py").touch()
    (tmp_path / "data.csv").touch()
    (tmp_path / "one.py").write_text(source)
    done = qrunner("run", tmp_path / "one.py", "--backend", "none", "--no-store")
    assert done.returncode == 1
    (hint,) = [line for line in done.stderr.splitlines() if line.startswith("→")]
    assert said in hint


def test_the_exception_in_python_has_it_too(supervisor, program):
    job = supervisor.run(program("import networkx\ndef main(b, m): pass"), backend="none")
    with pytest.raises(JobFailedError, match="→ name the package of networkx"):
        job.result()


@pytest.mark.parametrize(
    "body",
    [
        "multiprocessing.Manager()",
        "multiprocessing.get_context('forkserver').Pool(1)",
        "multiprocessing.connection.Listener()",
    ],
)
def test_multiprocessing_without_its_server_is_said_to_be_refused_on_purpose(
    supervisor, program, body
):
    source = f"import multiprocessing, multiprocessing.connection\ndef main(b, m): {body}"
    job = supervisor.run(program(source), backend="none")
    record = job.wait()
    assert record.outcome == "program_error"
    assert "refuses servers on purpose" in record.error
