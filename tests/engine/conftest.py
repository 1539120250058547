"""A supervisor on the real engine, and programs written down where they are tested."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import docker
import pytest

from runner.images import ImageStore
from tests.engine.bare import Supervisor

ROOT = Path(__file__).resolve().parents[2]

SANDBOXING = {
    "socket": {"isolation": "runc", "carrier": "socket"},
    "stdio": {"isolation": "runc", "carrier": "stdio"},
    "runsc": {"isolation": "runsc", "carrier": None},
    "warm": {"isolation": "runc", "carrier": "socket", "warm": True, "cells": False},
    "cell": {"isolation": "runc", "carrier": "socket", "warm": True},
    "session": {"isolation": "runc", "carrier": "socket", "in_sessions": True, "cells": False},
}
"""What a supervisor is made with; the carrier None is the default, which a probe finds."""


def pytest_generate_tests(metafunc):
    """Run a test over the socket, and where marked over stdio and under runsc as well.

    QRUNNER_TEST_EVERYWHERE=1 runs every one over stdio, in warm sandboxes, in cells and in sessions
    of forks too; it takes some minutes more.
    """
    if "sandboxing" in metafunc.fixturenames:
        names = ["socket"]
        if metafunc.definition.get_closest_marker("under_runsc"):
            names += ["stdio", "runsc"]
        if os.environ.get("QRUNNER_TEST_EVERYWHERE"):
            names = [
                each for each in SANDBOXING if each in {"stdio", "warm", "cell", "session", *names}
            ]
        metafunc.parametrize("sandboxing", names, indirect=True, scope="module")


@pytest.fixture(scope="module")
def sandboxing(request):
    """Return the arguments of a supervisor that choose isolation and carrier."""
    if request.param == "runsc":
        request.getfixturevalue("runsc")
    return SANDBOXING[request.param]


@pytest.fixture(scope="module")
def supervisor(sandboxing):
    """One supervisor per module, isolation and carrier."""
    with Supervisor(**sandboxing) as running:
        yield running


@pytest.fixture(scope="module")
def client():
    """A docker-py connection of the tests' own, to look past our seam."""
    with contextlib.closing(docker.from_env(timeout=300)) as connection:
        yield connection


@pytest.fixture(scope="module")
def guest(engine):
    """The guest image on whatever root there is here; built first if it is missing."""
    return ImageStore(engine).guest()


@pytest.fixture
def program(tmp_path):
    """Write a bare program and return its path."""

    def write(source: str, name: str = "tried.py"):
        path = tmp_path / name
        path.write_text(textwrap.dedent(source))
        return path

    return write


SLEEPER = "import time\ndef main(b, m):\n    m.publish('up')\n    time.sleep(120)\n"
TRIVIAL = "def main(b, m, n=0):\n    return n + 1\n"
CHILD = """
import os, sys, time
sys.path.insert(0, {root!r})
from tests.engine.bare import Supervisor
from tests.engine.faulty_engine import KillingEngine
path = {path!r}
"""


@pytest.fixture
def sleeper(program):
    """A program that publishes once and then sleeps longer than any test."""
    return program(SLEEPER, "sleeper.py")


@pytest.fixture
def trivial(program):
    """A program that returns its `n` and one more."""
    return program(TRIVIAL, "trivial.py")


@pytest.fixture
def unbuilt(program):
    """The same, in an image that no engine has."""
    return program(f"# {time.time()}\n{TRIVIAL}", "unbuilt.py")


@pytest.fixture
def child():
    """Start a Python process that has `path`, and kill it at the end of the test."""
    started = []

    def start(code, path):
        text = CHILD.format(root=str(ROOT), path=str(path)) + textwrap.dedent(code)
        process = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for each in started:
        each.kill()
        each.wait()
        each.stdout.close()
