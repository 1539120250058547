"""A held backend lives next to the caller, wherever the job runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("qiskit_aer")

from qiskit_aer import AerSimulator

from runner import Limits, Outcome
from runner.policy.held import HeldBackend
from tests.cluster.nodes import mentioning
from tests.cluster.tried import on
from tests.engine.bare import Supervisor
from tests.engine.test_held_backends import BELL, RECORDED
from tests.unit.held.devices import Odd
from tests.waiting import within

pytestmark = [pytest.mark.engine, pytest.mark.qiskit]

SECRET = "planted-value-52c8d1"
DEVICES = Path(__file__).parents[1] / "unit" / "held"
KINDS = ["stdio", "ray", "slurm"]
LARGE = """
from qiskit import QuantumCircuit
def main(backend, user_messenger):
    circuit = QuantumCircuit(20, 20)
    circuit.x(range(0, 20, 2))
    circuit.measure(range(20), range(20))
    jobs = [backend.run(circuit, shots=20_000, memory=True) for _ in range(10)]
    memories = [job.result().get_memory() for job in jobs]
    return [len(memories), sorted({each for memory in memories for each in memory})]
"""
HANGS = """
from qiskit import QuantumCircuit
def main(backend, user_messenger):
    circuit = QuantumCircuit(1, 1)
    circuit.measure(0, 0)
    job = backend.run(circuit, shots=10)
    while job.status().name != "QUEUED":
        pass
    user_messenger.publish(job.device_job_id())
    job.result()
"""


@on(*KINDS)
def test_a_job_calls_the_backend_that_its_caller_holds(supervisor, program):
    job = supervisor.run(program(BELL), backend=AerSimulator(), user="ann")
    result = job.result(timeout=180)
    assert sum(result["counts"].values()) == result["memory"] == result["sampled"] == 200
    assert result["zz"] == 1
    assert (job.usage.circuits, job.usage.sources["circuits"]) == (3, "holder")
    assert job.usage.device_s > 0
    assert 0 < job.usage.device_wait_s < job.usage.wall_s


@on(*KINDS)
def test_large_answers_arrive_whole(supervisor, program):
    job = supervisor.run(program(LARGE), backend=AerSimulator())
    assert job.result(timeout=240) == [10, ["01" * 10]]


@on(*KINDS)
@pytest.mark.parametrize("how", ["cancel", "limit"])
def test_whatever_ends_a_job_cancels_what_it_has_on_the_device(supervisor, program, tmp_path, how):
    notes = tmp_path / "notes"
    limits = Limits(device_wait_s=5.0 if how == "limit" else 300.0)
    job = supervisor.run(program(HANGS), backend=Odd("hangs", str(notes)), limits=limits)
    assert next(job.messages()) == "device-job-1"
    if how == "cancel":
        job.cancel()
    record = job.wait(60)
    assert within(20, lambda: "cancelled" in notes.read_text())
    if how == "limit":
        assert (record.outcome, record.evidence.limit) == (Outcome.TIME_LIMIT, "device_wait_s")
    else:
        assert record.outcome is Outcome.CANCELLED


@on("stdio", "slurm")
def test_no_node_gets_the_variables_of_a_holder(cluster, program, monkeypatch):
    """Both start a node's part with the environment of the caller."""
    monkeypatch.setenv("PLANTED", SECRET)
    monkeypatch.setenv("PYTHONPATH", str(DEVICES))
    held = HeldBackend(
        name="lab", factory="devices:simulator", env=("PLANTED", "PYTHONPATH"), options=()
    )
    source = "def main(backend, user_messenger):\n    user_messenger.publish(backend.name)\n"
    source += "    import time\n    time.sleep(60)\n"
    with Supervisor(cluster=cluster.cluster, backends=[held]) as supervisor:
        job = supervisor.run(program(source), backend="lab")
        assert next(job.messages()) == "lab"
        assert mentioning("runner.nodes.node")
        assert mentioning(SECRET) - {os.getpid()} <= mentioning("from holder.process")
        job.cancel()


@on("stdio")
def test_what_was_answered_is_kept_here_and_played_on_any_node(cluster, program, tmp_path):
    path, inputs = program(RECORDED), {"angles": [0.5, 1.5, 0.5]}
    with Supervisor(cluster=cluster.cluster, store=tmp_path / "jobs") as supervisor:
        first = supervisor.run(path, inputs, backend=AerSimulator())
        counts = first.result(timeout=180)
        again = supervisor.replay(first.id, recorded=True)
        assert again.result(timeout=180) == counts
        assert again.wait(0).exceptions == ("recorded",)
        assert (again.usage.circuits, again.usage.sources["circuits"]) == (0, "recording")
