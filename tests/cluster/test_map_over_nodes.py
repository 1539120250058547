"""`qrunner map random_circuits --cluster ray`, and a node that dies in the middle of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from runner import Supervisor
from runner.engine import OWN_LABEL
from runner.host.processes import HostProcess
from runner.sandboxes.sweep import sweep
from tests.cluster.nodes import ROOT, kill_all, mentioning, wait_until
from tests.cluster.tried import KNOWN_WITHIN_S, doomed_on

PROGRAM = "random_circuits"


class Mapped:
    """The lines that `qrunner map` writes, and what the jobs published, from a store of its own."""

    def __init__(self, directory, name, inputs, *options):
        self._store = directory / f"{name}.db"
        command = [sys.executable, "-m", "runner", "map", PROGRAM, "--store"]
        self._words = (directory / f"{name}.log").open("wb")
        self._process = subprocess.Popen(
            [*command, "--inputs", str(inputs), *options],
            cwd=ROOT,
            env={**os.environ, "QRUNNER_STORE": str(self._store)},
            stdout=subprocess.PIPE,
            stderr=self._words,
        )
        self.lines = []

    def read(self, count=None):
        """Read so many lines more, or all."""
        for line in self._process.stdout:
            self.lines.append(json.loads(line))
            if len(self.lines) == count:
                return
        self.exit_code = self._process.wait(60)

    def close(self):
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        self._words.close()

    def published(self):
        """Return each job's messages, in the order of the lines."""
        with Supervisor(store=str(self._store)) as supervisor:
            return [list(supervisor.job(each["job"]).messages()) for each in self.lines]


@pytest.fixture
def mapped(tmp_path):
    opened = []

    def start(name, inputs, *options):
        opened.append(Mapped(tmp_path, name, inputs, *options))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@doomed_on("ray")
@pytest.mark.parametrize(("count", "retries"), [(24, 0), (200, 1)])
def test_a_map_over_two_nodes_of_which_one_dies(doomed, count, retries, mapped, engine, tmp_path):
    inputs = tmp_path / "inputs.jsonl"
    inputs.write_text("".join(f'{{"seed": {n}, "iterations": 2}}\n' for n in range(count)))
    there = mapped("there", inputs, "--cluster", doomed.cluster, "--retries", str(retries))
    there.read(count // 4)
    killed = datetime.now(UTC)
    kill_all(doomed.processes(node := there.lines[-1]["node"]))
    there.read()

    lost = [each for each in there.lines if each["outcome"] == "interrupted"]
    check_lost(lost, node, killed)
    assert [each["index"] for each in there.lines] == list(range(count))
    assert {each["outcome"] for each in there.lines} <= {"completed", "interrupted"}
    assert {each["attempt"] for each in there.lines} <= {1, 1 + retries}
    assert len(lost) <= (0 if retries else 4)  # what the node had
    assert there.exit_code == (4 if lost else 0)

    here = mapped("here", inputs)
    here.read()
    pairs = zip(there.lines, there.published(), here.lines, here.published(), strict=True)
    for line, messages, expected, counts in pairs:
        if line["outcome"] == "completed":
            assert line["result"] == expected["result"]
            assert messages == counts
            assert len(messages) == 2

    check_left(doomed, engine)


def check_lost(lines, node, killed):
    """Check that each says by name which node was lost, and was told so in time."""
    for each in lines:
        detail = each["evidence"]["detail"]
        if each["node"]:
            assert f"node {node} is lost" in detail
        else:  # it died before it could say hello: the words are Ray's
            assert re.search(
                f"no node has taken the job: .*node ID: {node.rpartition('/')[2]}", detail
            )
        ended = datetime.fromisoformat(each["timestamps"]["finished"])
        assert ended - killed < timedelta(seconds=KNOWN_WITHIN_S)


def check_left(doomed, engine):
    """Check that neither containers nor processes are left, of the dead node too."""
    sweep(engine)  # as the dead node's next supervisor does
    mine = [
        each for each in engine.containers().values() if each.get(f"{OWN_LABEL}.program") == PROGRAM
    ]
    assert not [each for each in mine if HostProcess.parse(each[f"{OWN_LABEL}.owner"]).is_dead()]
    address = doomed.cluster.removeprefix("ray://")
    assert not mentioning("runner.nodes.ray_driver") & mentioning(address)
    doomed.close()
    wait_until(lambda: not mentioning(doomed.base), 15)
