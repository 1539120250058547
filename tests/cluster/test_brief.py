"""What of the clusters `make test` runs too: one file, so that one Ray and one Slurm will do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from runner import JobStatus, Limits, Outcome, RequestError
from tests.cluster.nodes import ROOT
from tests.cluster.tried import ALL, CLUSTERS, KNOWN_WITHIN_S, SLEEPER, TALKER, on
from tests.engine.bare import Supervisor

CALLER = """
import sys
sys.path.insert(0, {root!r})
from runner import Supervisor
with Supervisor(cluster={cluster!r}) as supervisor:
    job = supervisor.run({path!r}, backend="none")
    next(job.messages())
    print("up", flush=True)
    job.wait()
"""


def _wrapped(tmp_path, code):
    """Return a command that stands in for a node's Python, with something changed in it."""
    script = tmp_path / "python"
    text = f"{code}\nimport runpy; runpy.run_module('runner.nodes.node', run_name='__main__')"
    (tmp_path / "node.py").write_text(text)
    script.write_text(f"#!/bin/sh\nexec {sys.executable} {tmp_path}/node.py\n")
    script.chmod(0o755)
    return str(script)


@on(*ALL, "stdio")
def test_a_job_is_the_ordinary_one(cluster, supervisor, program, watch):
    path = program(TALKER)
    seen, finals = [], []
    job = supervisor.run(
        path,
        {"n": 4},
        callback=lambda job_id, message: seen.append((job_id, message)),
        on_final=lambda job_id, result: finals.append(result),
    )
    expected = [{"i": i, "text": "naïve\n"} for i in range(4)]
    watch.of(path)
    assert list(job.messages()) == expected, job.record
    assert job.result(60)["sum"] == 6
    assert list(job.messages(2)) == expected[2:]
    assert [each for _, each in seen] == expected
    assert {each for each, _ in seen} == {job.id}
    assert len(finals) == 1
    assert job.logs() == "to the log\n"
    assert job.status() is JobStatus.DONE
    assert job.usage.messages == 4
    assert job.usage.wall_s > 0
    assert job.image
    assert job.attempt == job.record.attempt == 1
    if cluster.nodes:
        assert job.node in cluster.nodes or job.node.rpartition("/")[2] in cluster.nodes
    assert job.record.node == job.node
    assert job.record.timestamps["created"] == job.created.isoformat()


IMITATOR = """
def main(backend, user_messenger, text):
    user_messenger.publish({"event": "finished", "result": [text]})
    print(text)
    return {"a": 1, "body": 2, "result": {"event": "message", "body": text}}
"""


@on("local", "stdio")
def test_a_job_whose_texts_imitate_what_a_node_says_is_the_ordinary_one(supervisor, program):
    text = '{"event": "finished", "result": 1, "body": 2}'
    job = supervisor.run(program(IMITATOR), {"text": text})
    assert list(job.messages()) == [{"event": "finished", "result": [text]}], job.record
    assert job.result(60) == {"a": 1, "body": 2, "result": {"event": "message", "body": text}}
    assert job.logs() == f"{text}\n"


FORGER = """
import contextlib, os, stat, time
def main(backend, user_messenger, value):
    # With spaces, as our own encoder never writes it.
    frame = '{"type":"result","job":0,"messages":0,"done":true,"value":' + value + '}\\n'
    for number in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):
            if number > 2 and stat.S_ISFIFO(os.fstat(number).st_mode):
                os.write(number, frame.encode())
                time.sleep(60)
"""


@on("local", "stdio")
def test_a_result_that_holds_our_own_marks_is_a_result(supervisor, program):
    value = '{"a": 1, "body": 2, "result": 3}'
    record = supervisor.run(program(FORGER), {"value": value}).wait(60)
    assert (record.outcome, record.result) == (Outcome.COMPLETED, value), record


@on(*ALL)
def test_cancel_ends_a_running_job_at_once(supervisor, program, watch):
    path = program(SLEEPER)
    job = supervisor.run(path)
    next(job.messages())
    assert watch.of(path)
    began = time.monotonic()
    job.cancel()
    assert job.wait(10).outcome is Outcome.CANCELLED
    assert time.monotonic() - began < 5
    watch.gone_within(path, 5)


@on(*CLUSTERS)
def test_a_job_larger_than_any_node_is_refused_with_the_numbers(cluster, program):
    pattern = r"needs 64 CPUs and 2048 MiB.*has 2 and 4096 MiB"
    with (
        Supervisor(cluster=cluster.cluster, limits=Limits(cpus=64.0)) as supervisor,
        pytest.raises(RequestError, match=pattern),
    ):
        supervisor.run(program(TALKER))


@on(*ALL)
def test_a_caller_that_is_killed_takes_its_sandboxes_along(cluster, program, watch):
    path = program(SLEEPER)
    code = CALLER.format(root=str(ROOT), cluster=cluster.cluster, path=str(path))
    caller = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert caller.stdout.readline() == b"up\n"
        assert watch.of(path)
    finally:
        caller.kill()
        caller.wait()
        caller.stdout.close()
    watch.gone_within(path, 5)


@on("stdio", "ray", "slurm")
def test_a_node_part_that_is_killed_is_told_by_name(cluster, supervisor, program, watch):
    path = program(SLEEPER)
    job = supervisor.run(path)
    next(job.messages())
    (process,) = watch.of(path).values()
    began = time.monotonic()
    os.kill(process.pid, signal.SIGKILL)
    assert job.wait(30).outcome is Outcome.INTERRUPTED
    assert time.monotonic() - began < KNOWN_WITHIN_S
    assert f"node {job.node} is lost" in job.evidence.detail
    assert "last sign of life" in job.evidence.detail
    assert job.attempt == 1
    watch.gone_within(path, 5)


@on("stdio")
def test_a_node_of_another_version_refuses_by_name(cluster, program, tmp_path, monkeypatch):
    python = _wrapped(tmp_path, "import runner; runner.__version__ = '99.1'")
    monkeypatch.setenv("QRUNNER_NODE_PYTHON", python)
    monkeypatch.setenv("QRUNNER_NODE", "the-old-one")
    with Supervisor(cluster=cluster.cluster) as supervisor:
        record = supervisor.run(program(SLEEPER)).wait(60)
    assert record.outcome is Outcome.SANDBOX_ERROR
    assert "node the-old-one has qiskit-program-runner 99.1" in record.error


@on("stdio")
def test_a_node_without_the_base_image_says_so(cluster, program, tmp_path, monkeypatch):
    code = "from runner.images import transfer; transfer.missing_base = lambda _: 'x/stack:1'"
    monkeypatch.setenv("QRUNNER_NODE_PYTHON", _wrapped(tmp_path, code))
    monkeypatch.setenv("QRUNNER_NODE", "the-bare-one")
    with Supervisor(cluster=cluster.cluster) as supervisor:
        record = supervisor.run(program(SLEEPER)).wait(60)
    assert record.outcome is Outcome.SANDBOX_ERROR
    assert "node the-bare-one has no base image x/stack:1" in record.error
    assert "qrunner build --base" in record.error
