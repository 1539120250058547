"""Clusters for the tests, one for a session, and the eyes that see what is left of their jobs."""

from __future__ import annotations

import contextlib
import os
import textwrap
import time

import pytest

from runner.engine import OWN_LABEL
from runner.host.processes import HostProcess
from runner.sandboxes import residence
from tests.cluster.nodes import KINDS, UnavailableError, why_not
from tests.engine.bare import Supervisor

MUST_WORK = "QRUNNER_CLUSTER_MUST_WORK"


def open_kind(kind, **arguments):
    """Return a running cluster; where there can be none, skip, or fail if it must work."""
    if reason := why_not(kind):
        pytest.skip(reason)
    try:
        return KINDS[kind](**arguments)
    except UnavailableError as error:
        return (pytest.fail if os.environ.get(MUST_WORK) == "1" else pytest.skip)(str(error))


@pytest.fixture(scope="session")
def cluster(request):
    """A cluster of the kind that the test is for, one for the session."""
    found = open_kind(request.param)
    yield found
    found.close()


@pytest.fixture
def doomed(request):
    """A cluster of its own for a test that destroys it."""
    found = open_kind(request.param)
    yield found
    found.close()


@pytest.fixture(scope="session")
def supervisor(cluster):
    """A supervisor on that cluster, one for the session; its programs get no backend."""
    with Supervisor(cluster=cluster.cluster) as running:
        yield running


@pytest.fixture
def program(tmp_path):
    """Write a bare program of a name that no other test has, and return its path."""

    def write(source, name="tried"):
        path = tmp_path / f"{name}-{os.getpid()}-{time.monotonic_ns() % 10**9}.py"
        path.write_text(textwrap.dedent(source))
        return path

    return write


@pytest.fixture
def watch(engine):
    """Watch the sandboxes of programs: who owns them, and that nothing is left of them."""
    seen = Watch(engine)
    yield seen
    seen.nothing_left()


class Watch:
    def __init__(self, engine):
        self._engine = engine
        self._processes = set()
        self._paths = set()

    def of(self, path):
        """Return the processes of the program's containers, by container."""
        self._paths.add(path)
        found = {
            container: HostProcess.parse(labels[f"{OWN_LABEL}.owner"])
            for container, labels in self._engine.containers().items()
            if labels.get(f"{OWN_LABEL}.program") == path.stem
        }
        self._processes |= set(found.values())
        return found

    def gone_within(self, path, seconds):
        """Return after how long no container of the program runs any more."""
        began = time.monotonic()
        while any(self._runs(each) for each in self.of(path)):
            assert time.monotonic() - began < seconds, f"still there after {seconds} s"
            time.sleep(0.02)
        return time.monotonic() - began

    def _runs(self, container):
        with contextlib.suppress(Exception):
            return self._engine._client.inspect_container(container)["State"]["Running"]
        return False

    def nothing_left(self, within_s=15):
        """Fail if a container or a directory of what was watched is still there."""
        deadline = time.monotonic() + within_s
        while True:
            left = [each for path in self._paths for each in self.of(path)]
            # A living process has directories for the sandboxes to come.
            left += [
                str(each) for each in residence.processes() & self._processes if each.is_dead()
            ]
            if not left:
                return
            assert time.monotonic() < deadline, f"left behind: {left}"
            time.sleep(0.2)
