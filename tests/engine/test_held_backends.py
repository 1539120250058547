"""Programs call backends that the host holds: over each carrier, in sessions, and to their end."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

pytest.importorskip("qiskit_aer")

from qiskit.providers.fake_provider import GenericBackendV2
from qiskit_aer import AerSimulator

from runner import Limits
from runner.backends.recording import Recording
from runner.checking.check import check
from runner.errors import RequestError
from runner.job.record import Outcome
from tests.engine.bare import Supervisor
from tests.unit.held.devices import Odd
from tests.waiting import within

pytestmark = [pytest.mark.engine, pytest.mark.qiskit]

BELL = """
from qiskit import QuantumCircuit, transpile
from qiskit.primitives import BackendEstimatorV2, BackendSamplerV2
from qiskit.quantum_info import SparsePauliOp

def main(backend, user_messenger, shots=200):
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    measured = transpile(circuit.measure_all(inplace=False), backend, seed_transpiler=1)
    job = backend.run(measured, shots=shots, memory=True, seed_simulator=7)
    user_messenger.publish(backend.name)
    result = job.result()
    sampled = BackendSamplerV2(backend=backend).run([measured], shots=shots).result()[0]
    plain = transpile(circuit, backend, seed_transpiler=1)
    zz = SparsePauliOp("ZZ").apply_layout(plain.layout)
    value = BackendEstimatorV2(backend=backend).run([(plain, zz)]).result()[0].data.evs
    return {
        "counts": result.get_counts(),
        "memory": len(result.get_memory()),
        "sampled": sum(sampled.data.meas.get_counts().values()),
        "zz": float(value),
        "status": job.status().name,
    }
"""


@pytest.mark.under_runsc
def test_a_program_runs_on_what_the_host_holds(supervisor, program):
    job = supervisor.run(program(BELL), backend=AerSimulator())
    result = job.result(timeout=120)
    assert sum(result["counts"].values()) == result["memory"] == result["sampled"] == 200
    assert set(result["counts"]) <= {"00", "11"}
    assert result["zz"] == 1
    assert result["status"] == "DONE"
    assert job.usage.circuits == 3
    assert job.usage.shots > 400
    assert job.usage.device_s > 0
    assert job.usage.sources["device_s"] == "device"
    assert 0 < job.usage.device_wait_s < job.usage.wall_s


@pytest.mark.under_runsc
def test_large_replies_and_many_calls_arrive_whole(supervisor, program):
    source = """
from qiskit import QuantumCircuit
def main(backend, user_messenger):
    circuit = QuantumCircuit(20, 20)
    circuit.x(range(0, 20, 2))
    circuit.measure(range(20), range(20))
    jobs = [backend.run(circuit, shots=20_000, memory=True) for _ in range(20)]
    user_messenger.publish("x" * 500_000)  # while replies wait that nobody reads
    memories = [job.result().get_memory() for job in jobs]
    seen = {each for memory in memories for each in memory}
    return [len(memories), sorted({len(each) for each in memories}), sorted(seen)]
"""
    job = supervisor.run(program(source), backend=AerSimulator())
    assert job.result(timeout=240) == [20, [20_000], ["01" * 10]]


def test_jobs_of_a_session_have_their_own_calls(engine, program):
    with (
        Supervisor(engine=engine) as supervisor,
        supervisor.session(program(BELL), backend=AerSimulator()) as session,
    ):
        jobs = [session.run({"shots": shots}) for shots in (10, 20, 30)]
        found = [job.result(timeout=120) for job in jobs]
    assert [each["memory"] for each in found] == [10, 20, 30]
    assert [job.usage.circuits for job in jobs] == [3, 3, 3]


def test_a_warm_job_calls_from_its_cell(engine, program):
    path = program(BELL)
    with Supervisor(engine=engine, warm={path: 1}) as supervisor:
        assert supervisor.wait_until_warm(120)
        job = supervisor.run(path, backend=AerSimulator())
        assert job.result(timeout=120)["memory"] == 200
    assert job.usage.circuits == 3


def test_waiting_for_a_device_is_not_the_programs_time(supervisor, program):
    device = Odd("waits")
    source = """
from qiskit import QuantumCircuit
def main(backend, user_messenger):
    circuit = QuantumCircuit(1, 1)
    circuit.measure(0, 0)
    return backend.run(circuit, shots=10).result().get_counts()
"""
    job = supervisor.run(program(source), backend=device, limits={"timeout_s": 6})
    assert job.result(timeout=120) == {"0": 10}
    assert job.usage.device_wait_s > 6
    assert job.usage.wall_s > 7


@pytest.mark.parametrize("how", ["limit", "cancel", "end"])
def test_whatever_ends_a_job_cancels_what_it_has_on_the_device(supervisor, program, tmp_path, how):
    notes = tmp_path / "notes"
    device = Odd("hangs", str(notes))
    source = f"""
from qiskit import QuantumCircuit
def main(backend, user_messenger):
    circuit = QuantumCircuit(1, 1)
    circuit.measure(0, 0)
    job = backend.run(circuit, shots=10)
    while job.status().name != "QUEUED":
        pass
    if {how == "end"}:
        return [job.queue_position(), job.device_job_id()]
    job.result()
"""
    limits = Limits(device_wait_s=8.0 if how == "limit" else 60.0)
    job = supervisor.run(program(source), backend=device, limits=limits)
    assert within(60, lambda: notes.exists() and "run 1" in notes.read_text())
    if how == "cancel":
        job.cancel()
    record = job.wait(60)
    assert within(20, lambda: "cancelled" in notes.read_text())
    if how == "end":
        assert job.result() == [3, "device-job-1"]
    elif how == "cancel":
        assert record.outcome is Outcome.CANCELLED
    else:
        assert record.outcome is Outcome.TIME_LIMIT
        assert (record.evidence.limit, record.evidence.value) == ("device_wait_s", 8.0)
        assert record.evidence.observed >= 8


def test_what_a_device_refuses_is_an_error_of_the_program(supervisor, program):
    source = """
from qiskit import QuantumCircuit
def main(backend, user_messenger):
    circuit = QuantumCircuit(1, 1, name="wrong")
    circuit.h(0)
    circuit.measure(0, 0)
    backend.run(circuit, shots=10).result()
"""
    backend = GenericBackendV2(2, basis_gates=["rz", "sx", "cx"], seed=1)
    record = supervisor.run(program(source), backend=backend).wait(120)
    assert record.outcome is Outcome.PROGRAM_ERROR
    assert (
        "circuit 0 ('wrong'), instruction 0: 'h' on qubits (0,): the backend has no such gate"
        in (record.error)
    )
    assert "/holder/" not in record.traceback


def test_a_fork_of_the_program_is_told_where_to_call(supervisor, program):
    source = """
import os
from qiskit import QuantumCircuit
def main(backend, user_messenger):
    circuit = QuantumCircuit(1, 1)
    circuit.measure(0, 0)
    child = os.fork()
    if child == 0:
        try:
            backend.run(circuit)
        except RuntimeError as error:
            user_messenger.publish(str(error))
        os._exit(0)
    os.waitpid(child, 0)
    return backend.run(circuit, shots=1).result().get_counts()
"""
    job = supervisor.run(program(source), backend=AerSimulator())
    assert job.result(timeout=120) == {"0": 1}
    (said,) = job.messages()
    assert "was forked" in said


def test_floods_of_calls_and_calls_after_the_end_harm_nobody(supervisor, program):
    flood = """
import os
def main(backend, user_messenger):
    for number in range(500, 520):
        try:
            kind = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
        if kind.startswith("socket"):
            for call in range(10_000):
                start = b'{"type":"call","job":0,"call":%d,"verb":"run",' % call
                os.write(number, start + b'"signature":"","body":{}}\\n')
"""
    record = supervisor.run(program(flood), backend=AerSimulator()).wait(60)
    assert record.outcome is Outcome.PROTOCOL_VIOLATION
    assert "a call more than the 16 that may be without a reply" in record.evidence.detail


def test_a_call_without_a_held_backend_violates_the_protocol(supervisor, program):
    source = """
import os
def main(backend, user_messenger):
    for number in range(500, 520):
        try:
            if os.readlink(f"/proc/self/fd/{number}").startswith("socket"):
                start = b'{"type":"call","job":0,"call":1,"verb":"run",'
                os.write(number, start + b'"signature":"","body":{}}\\n')
        except OSError:
            pass
    while True:
        pass
"""
    record = supervisor.run(program(source), backend="none").wait(60)
    assert record.outcome is Outcome.PROTOCOL_VIOLATION
    assert "the job has no held backend" in record.evidence.detail


def test_a_description_cannot_be_forged(supervisor, program):
    forged = {"name": "held", "options": {"backend": "mine"}}
    with pytest.raises(RequestError, match="'mine' is not held by this supervisor"):
        supervisor.run(program(BELL), backend=forged)


RECORDED = """
from qiskit import QuantumCircuit, transpile
from qiskit.circuit import Parameter

def main(backend, user_messenger, angles, again=0):
    counts = []
    for angle in angles:
        circuit = QuantumCircuit(1, 1)
        circuit.rx(angle, 0)
        circuit.measure(0, 0)
        measured = transpile(circuit, backend, seed_transpiler=1)
        counts.append(backend.run(measured, shots=1000).result().get_counts())
        user_messenger.publish(counts[-1])
    return counts
"""


def test_a_recording_gives_the_same_answers_without_the_device(engine, program, tmp_path):
    path, store = program(RECORDED), tmp_path / "jobs.sqlite3"
    inputs = {"angles": [0.5, 1.5, 0.5]}
    with Supervisor(engine=engine, store=store) as supervisor:
        first = supervisor.run(path, inputs, backend=AerSimulator())
        counts = first.result(timeout=120)
        messages = list(first.messages())
    assert counts[0] != counts[2], "the device draws anew"
    with Supervisor(engine=engine, store=store) as supervisor:
        with pytest.raises(RequestError, match="is not held by this supervisor"):
            supervisor.replay(first.id)
        again = supervisor.replay(first.id, recorded=True)
        assert again.result(timeout=120) == counts
        assert list(again.messages()) == messages
        record = again.wait(0)
        assert record.exceptions == ("recorded",)
        assert (record.usage.circuits, record.usage.sources["circuits"]) == (0, "recording")
        with pytest.raises(RequestError, match="has no recording"):
            supervisor.replay(
                supervisor.run(path, inputs, backend="aer_simulator").id, recorded=True
            )


def test_a_case_names_a_recording_instead_of_a_device(engine, program, tmp_path):
    path, store = program(RECORDED), tmp_path / "jobs.sqlite3"
    inputs = {"angles": [0.5, 1.5, 0.5]}
    with Supervisor(engine=engine, store=store) as supervisor:
        first = supervisor.run(path, inputs, backend=AerSimulator())
        counts = first.result(timeout=120)
    environment = {**os.environ, "QRUNNER_STORE": str(store)}
    command = [sys.executable, "-m", "runner", "recording", first.id]
    written = subprocess.run(command, env=environment, capture_output=True, check=True).stdout
    checked = tmp_path / "checked"
    (checked / "cases").mkdir(parents=True)
    (checked / "program.py").write_text(path.read_text())
    (checked / "program.yaml").write_text("name: checked\n")
    (checked / "cases" / "aer.recording").write_bytes(written)
    (checked / "cases" / "forged.recording").write_text(
        '{"recording": 1, "backend": {"name": "held", "options": {}}, "answers": []}'
    )
    played = {"recording": "aer.recording", "expect": {"result": counts, "message_count": 3}}
    cases = {
        "forged": {"inputs": inputs, "recording": "forged.recording"},
        "otherwise": {**played, "inputs": {"angles": [0.5, 1.6]}},
        "same": {**played, "inputs": inputs},
    }
    for name, content in cases.items():
        (checked / "cases" / f"{name}.json").write_text(json.dumps(content))
    with Supervisor(engine=engine) as supervisor:
        forged, otherwise, same = check(supervisor, [str(checked)], jobs=3)
        again = supervisor.run(
            path, inputs, backend=Recording.from_text(written.decode(), "aer.recording")
        )
        assert again.result(timeout=120) == counts
    assert (same.outcome, same.problems) == (Outcome.COMPLETED, ())
    assert otherwise.outcome is Outcome.PROGRAM_ERROR
    assert "asks for something else than then (1 of 3 answers are used)" in otherwise.problems[0]
    assert forged.exit_code in {1, 2}, "it is the program's fault, not ours"


def test_a_program_that_asks_otherwise_than_recorded_is_told(engine, program, tmp_path):
    source = """
import os
from qiskit import QuantumCircuit
def main(backend, user_messenger):
    circuit = QuantumCircuit(1, 1)
    circuit.measure(0, 0)
    shots = int.from_bytes(os.urandom(3), "big") % 1000 + 1
    return backend.run(circuit, shots=shots).result().get_counts()
"""
    with Supervisor(engine=engine, store=tmp_path / "jobs.sqlite3") as supervisor:
        first = supervisor.run(program(source), backend=AerSimulator())
        first.result(timeout=120)
        record = supervisor.replay(first.id, recorded=True).wait(120)
    assert record.outcome is Outcome.PROGRAM_ERROR
    assert "has no answer left for this run: the program asks for something else" in record.error


def test_nothing_is_left(engine, program):
    threads, processes = set(threading.enumerate()), _holders()
    with Supervisor(engine=engine) as supervisor:
        supervisor.run(program(BELL), backend=AerSimulator()).result(timeout=120)
        assert _holders() > processes
    assert within(20, lambda: set(threading.enumerate()) <= threads), threading.enumerate()
    assert _holders() == processes


def _holders():
    """Return the processes of holders and their readers that this process has started."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {pid for pid in children if b"from holder." in Path(f"/proc/{pid}/cmdline").read_bytes()}
