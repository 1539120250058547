"""The part on a node, without a cluster and without an engine."""

import json

import pytest

from runner.cluster import node
from runner.cluster.boundary import identity
from runner.cluster.node import NodeJob
from runner.cluster.wire import End, Ended, Heartbeat, Hello, JobSpec, event_of
from runner.isolation import Isolation
from runner.job import Job
from runner.policy import Limits
from runner.registry import find
from sandbox import protocol


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "p.py"
    path.write_text("def main(backend, user_messenger):\n    pass\n")
    limits = Limits(timeout_s=0.1, startup_s=0.1)
    request = protocol.Run(
        job=0, entry="main", inputs={}, backend={}, options={}, limits=limits.for_guest()
    )
    return JobSpec(
        job="j",
        attempt=1,
        version=identity(),
        program=find(path),
        request=request,
        limits=limits,
        isolation=Isolation.RUNC,
    )


class Stuck:
    """A supervisor whose jobs never end."""

    def accept(self, order, **_):
        return Job("j", order.program.name, decode=json.loads, on_cancel=lambda: None)


def test_signs_of_life_end_when_the_job_is_long_overdue(spec, monkeypatch):
    monkeypatch.setattr(node, "_supervisor_for", lambda _: Stuck())
    monkeypatch.setattr(node, "HEARTBEAT_S", 0.1)
    monkeypatch.setattr(node, "SPARE_S", 0.3)
    monkeypatch.setattr(node, "_CLOSE_S", 0.1)
    hello, *signs, last = [event_of(each) for each in NodeJob(spec.to_line(), "n1").batches()]
    assert hello == Hello(node="n1", version=identity())
    assert set(signs) == {Heartbeat()}
    assert last == Ended(how=End.LOST, reason="its supervisor does not end the job")


def test_a_specification_that_is_none_is_refused():
    line = json.dumps({"version": identity()}).encode()
    _, last = [event_of(each) for each in NodeJob(line, "n1").batches()]
    assert last.how is End.REFUSED
    assert "node n1 refuses the job: not the specification of a job" in last.reason
