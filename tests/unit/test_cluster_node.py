"""The part on a node, without a cluster and without an engine."""

import dataclasses
import json
import subprocess

import pytest

from runner.errors import RequestError
from runner.job import Job
from runner.job.life import Life
from runner.job.request import Request
from runner.nodes import node
from runner.nodes.node import NodeJob
from runner.policy import Limits
from runner.policy.isolation import Isolation
from runner.programs import find
from runner.sites import cluster, ray_trust
from runner.sites import ray as ray_engine
from runner.sites.cluster import identity
from runner.sites.stdio import node_command
from runner.sites.wire import WIRE_VERSION, End, Ended, Heartbeat, Hello, JobSpec, event_of


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "p.py"
    path.write_text("def main(backend, user_messenger):\n    pass\n")
    limits = Limits(timeout_s=0.1, startup_s=0.1)
    return JobSpec(
        job="j",
        attempt=1,
        version=identity(),
        program=find(path),
        request=Request(program="p", limits=limits),
        isolation=Isolation.RUNC,
    )


class Stuck:
    """A supervisor whose jobs never end."""

    def accept(self, program, request, **_):
        return Job(Life("j", program.name, decode=json.loads, on_cancel=lambda: None))


def test_signs_of_life_end_when_the_job_is_long_overdue(spec, monkeypatch):
    monkeypatch.setattr(node, "_supervisor_for", lambda _: Stuck())
    monkeypatch.setattr(node, "HEARTBEAT_S", 0.1)
    monkeypatch.setattr(cluster, "SPARE_S", 0.3)
    monkeypatch.setattr(node, "_CLOSE_S", 0.1)
    hello, *signs, last = [event_of(each) for each in NodeJob(spec.to_line(), "n1").batches()]
    assert hello == Hello(node="n1", version=identity())
    assert set(signs) == {Heartbeat()}
    assert last == Ended(how=End.LOST, reason="its supervisor does not end the job")


def test_a_caller_whose_lines_have_another_form_is_refused_with_both_versions(spec):
    """As the first version of the wire wrote it, and as a later one may."""
    assert f"(wire {WIRE_VERSION}, guest " in identity()
    first = identity().replace(f"wire {WIRE_VERSION}, ", "")
    later = identity().replace(f"wire {WIRE_VERSION}", f"wire {WIRE_VERSION + 1}")
    inputs = ', "request": {"inputs": {"n": 1}}, "version": '
    for version, line in (
        (first, f'{{"job": "j", "program": {{}}{inputs}"{first}"}}\n'.encode()),
        (later, dataclasses.replace(spec, version=later).to_line()),
        (later, f'{{"version": "{later}", "unheard of": []}}\n'.encode()),
    ):
        _, last = [event_of(each) for each in NodeJob(line, "n1").batches()]
        assert last.how is End.REFUSED
        assert f"has qiskit-program-runner {identity()}, the caller {version}" in last.reason


def test_a_specification_that_is_none_is_refused():
    line = json.dumps({"version": identity()}).encode()
    _, last = [event_of(each) for each in NodeJob(line, "n1").batches()]
    assert last.how is End.REFUSED
    assert "node n1 refuses the job: not the specification of a job" in last.reason


def test_no_process_of_ours_runs_what_lies_in_the_working_directory(tmp_path, monkeypatch):
    """`qrunner check` is called in strangers' repositories."""
    marker = tmp_path / "was-run"
    planted = f"open({str(marker)!r}, 'w').close()\n"
    (tmp_path / "runner").mkdir()
    for name in ("runner/__init__.py", "ipaddress.py", "ray.py", "json.py"):
        (tmp_path / name).write_text(planted)
    monkeypatch.chdir(tmp_path)

    said = subprocess.run(node_command(), input=b"{}\n", capture_output=True, timeout=60).stdout
    kinds = [type(event_of(line)) for line in said.splitlines()]
    assert kinds == [Hello, Ended]

    with pytest.raises(RequestError, match="nobody answers at 127.0.0.1:1 "):
        ray_engine._Driver("127.0.0.1:1")

    commands = []
    done = subprocess.CompletedProcess([], 77)
    monkeypatch.setattr(ray_trust.subprocess, "run", lambda run, **_: commands.append(run) or done)
    assert ray_trust.asks_for_a_token("127.0.0.1:1")
    assert commands[0][1] == "-P"  # to run it takes Ray, and a minute where no head is
    assert not marker.exists()
