"""Held backends without an engine: their processes, what they answer, and how they end."""

import contextlib
import json
import os
import queue
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("qiskit")

from qiskit import QuantumCircuit
from qiskit.circuit.library import XGate
from qiskit_aer import AerSimulator

from holder.desk import Desk
from runner.backends import device_jobs, holder, holdings, readers
from runner.backends.device_jobs import DeviceJobs
from runner.backends.holders import HELD, Holders
from runner.backends.ledger import Ledger
from runner.backends.table import BackendError
from runner.errors import BackendUnavailableError
from runner.policy.held import Budget, HeldBackend
from sandbox import codec
from sandbox.wire.protocol import Call
from tests.waiting import within

pytestmark = [pytest.mark.qiskit, pytest.mark.slow]

DEVICES = Path(__file__).parent
ROOT = DEVICES.parents[2]
SECRET = "planted-4f1c9a"
PATIENCE_S = 60


def circuit(*, qubits=2, name="mine"):
    made = QuantumCircuit(qubits, qubits, name=name)
    made.x(0)
    made.measure(range(qubits), range(qubits))
    return made


def run_body(*circuits, **options):
    return codec.encode({"circuits": list(circuits), "options": options})


OPEN = []


@pytest.fixture(autouse=True)
def _close_lines():
    yield
    while OPEN:
        OPEN.pop().close()
    for each in threading.enumerate():
        if each.name == "qrunner-cancel":
            each.join(PATIENCE_S)


class Caller:
    """A job's line, as an execution has it."""

    def __init__(self, device, user=""):
        self.replies = queue.Queue()
        self.line = device.open("job-1", user, lambda call, body: self.replies.put((call, body)))
        OPEN.append(self.line)
        self.calls = 0

    def begin(self, verb, body):
        self.calls += 1
        self.line.call(Call(job=0, call=self.calls, verb=verb, signature="", body=body))
        return self.calls

    def take(self):
        call, body = self.replies.get(timeout=PATIENCE_S)
        return call, json.loads(body)

    def ask(self, verb, body):
        call = self.begin(verb, body)
        answered, body = self.take()
        assert answered == call
        return body


@pytest.fixture
def hold(tmp_path):
    """Return what holds a backend of `devices.py`, in a process of its own."""
    opened = []

    def hold(function, *, environment=(), definition=None, **args):
        made = HeldBackend(
            name="lab",
            factory=f"devices:{function}",
            args=args,
            env=("PYTHONPATH", *environment),
            log=tmp_path / "log",
            **(definition or {}),
        )
        variables = {"PYTHONPATH": str(DEVICES), "PLANTED": SECRET}
        holders = Holders([made], variables, tmp_path / "ledger")
        opened.append(holders)
        return holders.find("lab")

    yield hold
    for each in opened:
        each.close()


def test_a_simulator_answers_what_was_asked(hold):
    device = hold("simulator", seed_simulator=1)
    described = device.describe("")
    assert described["name"] == HELD
    assert described["options"]["backend"] == "lab"
    caller = Caller(device)
    reply = caller.ask("run", run_body(circuit(), shots=50, memory=True))
    result = codec.from_data(reply["answer"], trusted=True)
    assert result.get_counts() == {"01": 50}
    assert result.get_memory() == ["01"] * 50
    used = caller.line.used
    assert (used.circuits, used.shots) == (1, 50)
    assert used.device_s > 0


def test_an_object_of_this_process_is_held_as_it_is():
    holders = Holders([], {})
    backend = AerSimulator()
    try:
        device = holders.find(backend)
        assert holders.find(backend) is device
        name = device.describe("")["options"]["backend"]
        assert holders.find({"name": HELD, "options": {"backend": name}}) is device
        reply = Caller(device).ask("run", run_body(circuit(), shots=5))
        assert codec.from_data(reply["answer"], trusted=True).get_counts() == {"01": 5}
    finally:
        holders.close()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (run_body(circuit(qubits=3), shots=5), "has 3 qubits, the backend 2"),
        (
            run_body(circuit(), circuit(), circuit()),
            "3 circuits in one call, and the backend takes",
        ),
        (
            run_body(circuit(), shots=5, rep_delay=1.0),
            "takes no option 'rep_delay'; it takes shots",
        ),
        (run_body(circuit(), shots=5, seed_simulator=1), "takes no option 'seed_simulator'"),
        (run_body(circuit(), shots=0), "shots is 0"),
        (run_body(circuit(), shots=True), "shots is True"),
        (run_body(circuit(), shots=5, memory="no"), "memory is 'no': it must be True or False"),
        (run_body(circuit(), shots=10**9), "1000000000 shots, and the backend takes 100"),
        (run_body(circuit(), shots=[1]), "option 'shots' is a list"),
        (run_body("no circuit"), r"circuits\[0\] is a str"),
        (run_body(XGate()), r"circuits\[0\] is a"),
        (codec.encode({"circuits": []}), "options"),
        (codec.encode([]), ""),
        (codec.encode({"__type__": "QuantumCircuit", "__value__": "x"}), ""),
        ('{"circuits":[{"__type__":"QuantumCircuit","__value__":"x"}],"options":{}}', "call"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_device_sees_it(odd, body, reason):
    device, notes = odd
    reply = Caller(device).ask("run", body)
    assert "answer" not in reply
    assert re.search(reason, reply["refusal"]), reply
    assert "Traceback" not in reply["refusal"]
    assert not notes.exists()


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    directory = tmp_path_factory.mktemp("odd")
    notes = directory / "notes"
    made = HeldBackend(
        name="lab",
        factory="devices:odd",
        args={"how": "lies", "notes": str(notes)},
        env=("PYTHONPATH",),
        max_shots=100,
    )
    holders = Holders([made], {"PYTHONPATH": str(DEVICES)}, directory / "ledger")
    try:
        yield holders.find("lab"), notes
    finally:
        holders.close()


@pytest.mark.parametrize("verb", ["sampler", "estimator", "explode"])
def test_what_a_device_has_not_is_refused(odd, verb):
    device, _ = odd
    assert "refusal" in Caller(device).ask(verb, codec.encode({"pubs": [], "options": {}}))


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("raises", r"failed \(RuntimeError\)"),
        ("lies", "answered 0 of 1 circuits"),
        ("prints", "answered 0 of 1 circuits"),
        ("dies", "did not answer: its process has ended"),
        ("tells", "withheld"),
    ],
)
def test_no_device_can_say_its_secret_or_take_the_supervisor_along(hold, how, reason):
    device = hold("odd", how=how, environment=("PLANTED",))
    caller = Caller(device)
    reply = caller.ask("run", run_body(circuit(), shots=10))
    assert re.search(reason, reply["refusal"]), reply
    assert SECRET not in json.dumps(reply)
    assert SECRET not in json.dumps(device.describe(""))
    again = Caller(device).ask("run", run_body(circuit(), shots=10))
    assert again == reply, "the next job meets the same, from a new process if the old one died"


def test_a_name_with_a_secret_is_no_description(hold):
    device = hold("odd", how="named", environment=("PLANTED",))
    with pytest.raises(BackendUnavailableError, match="describes itself with a value of its env"):
        device.describe("")


def test_a_factory_that_fails_says_why_without_its_secret(hold):
    with pytest.raises(BackendUnavailableError, match="cannot be held: ValueError: cannot log in"):
        hold("broken", environment=("PLANTED",)).describe("")
    with pytest.raises(BackendUnavailableError) as found:
        hold("broken", environment=("PLANTED",)).describe("")
    assert SECRET not in str(found.value)


def test_a_factory_that_is_not_there_is_named(hold):
    with pytest.raises(BackendUnavailableError, match="AttributeError.*'missing'"):
        hold("missing").describe("")


def test_a_start_has_a_deadline(hold, monkeypatch):
    monkeypatch.setattr(holder, "START_S", 1.0)
    monkeypatch.setattr("runner.backends.holdings.CLOSE_S", 1.0)
    with pytest.raises(BackendUnavailableError, match="silent for 1 s"):
        hold("slow_to_start").describe("")


def test_a_variable_that_is_not_set_is_named():
    made = HeldBackend(name="lab", factory="devices:odd", env=("NOWHERE",))
    with pytest.raises(BackendUnavailableError, match="environment variable NOWHERE is not set"):
        Holders([made], {}).find("lab")


def test_the_process_has_no_other_variables_and_no_modules_of_this_environment(hold, tmp_path):
    os.environ["UNRELATED_TOKEN"] = SECRET
    try:
        device = hold("odd", how="hangs")
        device.describe("")
        found = [
            (each / "environ").read_bytes()
            for each in Path("/proc").iterdir()
            if each.name.isdigit() and b"holder.process" in (each / "cmdline").read_bytes()
        ]
    finally:
        del os.environ["UNRELATED_TOKEN"]
    ours = [each for each in found if str(DEVICES).encode() in each]
    assert ours
    for each in ours:
        names = {line.partition(b"=")[0].decode() for line in each.split(b"\0") if line}
        assert names <= {"PYTHONPATH", "RUST_BACKTRACE", *holdings._PASSED_ON}


def test_the_end_of_a_job_cancels_what_it_has_on_the_device(hold, tmp_path):
    notes = tmp_path / "notes"
    device = hold("odd", how="hangs", notes=str(notes))
    caller = Caller(device)
    call = caller.begin("run", run_body(circuit(), shots=10))
    assert within(PATIENCE_S, lambda: notes.exists() and "run 1" in notes.read_text())
    status = caller.ask("status", codec.encode({"of": call}))["answer"]
    assert status == {"status": "QUEUED", "job_id": "device-job-1", "queue": 3}
    caller.line.close()
    assert within(PATIENCE_S, lambda: "cancelled" in notes.read_text())
    assert caller.replies.empty()


def test_a_program_can_cancel_its_own_call_only(hold, tmp_path):
    notes = tmp_path / "notes"
    device = hold("odd", how="hangs", notes=str(notes))
    one, other = Caller(device), Caller(device)
    call = one.begin("run", run_body(circuit(), shots=10))
    assert within(PATIENCE_S, lambda: notes.exists() and "run 1" in notes.read_text())
    assert other.ask("cancel", codec.encode({"of": call})) == {"answer": None}
    assert "cancelled" not in notes.read_text()
    one.begin("cancel", codec.encode({"of": call}))
    replies = dict(one.take() for _ in range(2))
    assert replies[call] == {"refusal": "the job was cancelled"}
    assert notes.read_text().count("cancelled") == 1


def test_the_end_of_the_supervisor_cancels_everything(hold, tmp_path):
    notes = tmp_path / "notes"
    device = hold("odd", how="hangs", notes=str(notes))
    Caller(device).begin("run", run_body(circuit(), shots=10))
    assert within(PATIENCE_S, lambda: notes.exists() and "run 1" in notes.read_text())
    device.close()
    assert "cancelled" in notes.read_text()


DIES = """
import os, signal, sys, time
from pathlib import Path
from tests.unit.held.test_holders import Caller, Holders, circuit, far_away, run_body
caller = Caller(Holders([far_away({device!r})], {variables!r}, Path({ledger!r})).find("lab"))
caller.begin("run", run_body(circuit(), shots=10))
caller.begin("run", run_body(circuit(), shots=10))
print("begun", flush=True)
sys.stdin.read()
"""


def far_away(directory):
    return HeldBackend(
        name="lab", factory="devices:far", args={"directory": str(directory)}, env=("PYTHONPATH",)
    )


def test_jobs_of_a_host_that_died_are_cancelled_by_the_next_holder(tmp_path):
    device, ledger = tmp_path / "device", tmp_path / "ledger"
    device.mkdir()
    variables = {"PYTHONPATH": str(DEVICES)}
    code = DIES.format(device=str(device), variables=variables, ledger=str(ledger))
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    try:
        assert process.stdout.readline() == b"begun\n"
        assert within(PATIENCE_S, lambda: len(kept_in(ledger)) == 2)
        tasks = Path(f"/proc/{process.pid}/task").iterdir()
        children = [pid for each in tasks for pid in (each / "children").read_text().split()]
        for each in [*children, process.pid]:  # as a power cut does: no holder can cancel
            os.kill(int(each), signal.SIGSTOP)
        for each in [*children, process.pid]:
            os.kill(int(each), signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
    states = lambda: sorted(each.read_text() for each in device.iterdir())  # noqa: E731
    assert states() == ["running", "running"]
    (device / "job-0").unlink()  # the provider has forgotten this one
    holders = Holders([far_away(device)], variables, ledger)
    try:
        assert within(PATIENCE_S, lambda: states() == ["cancelled"]), "no job need ask for it"
        assert within(PATIENCE_S, lambda: kept_in(ledger) == ["job-0"])
    finally:
        holders.close()


def test_a_job_that_cannot_be_cancelled_saves_no_other():
    cancelled = []

    class Ended:
        def cancel(self):
            raise RuntimeError("it has ended")

    class Running:
        def cancel(self):
            cancelled.append(self)

    desk = Desk(AerSimulator())
    desk._jobs.update({1: Ended(), 2: Running()})
    desk.cancel_all()
    assert len(cancelled) == 1


def test_a_job_that_is_never_found_is_given_up(tmp_path, monkeypatch):
    jobs = DeviceJobs(Ledger(tmp_path / "ledger"))
    jobs.keep("lab", "job-0")
    other = DeviceJobs(Ledger(tmp_path / "ledger"))
    assert other.with_left_behind() == [], "its process lives"
    assert jobs.left_behind("lab") == ["job-0"]
    monkeypatch.setattr(device_jobs, "TRIED_S", -10)
    assert other.left_behind("lab") == []
    assert kept_in(tmp_path / "ledger") == ["job-0"]
    assert jobs.left_behind("lab") == []
    assert kept_in(tmp_path / "ledger") == []


def kept_in(ledger):
    with contextlib.closing(sqlite3.connect(ledger, timeout=10)) as connection:
        has_jobs = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'jobs'").fetchone()
        return [job for (job,) in connection.execute("SELECT job FROM jobs")] if has_jobs else []


def test_a_job_that_has_an_answer_is_not_kept(tmp_path):
    device, ledger = tmp_path / "device", tmp_path / "ledger"
    device.mkdir()
    holders = Holders([far_away(device)], {"PYTHONPATH": str(DEVICES)}, ledger)
    try:
        caller = Caller(holders.find("lab"))
        call = caller.begin("run", run_body(circuit(), shots=10))
        assert within(PATIENCE_S, lambda: kept_in(ledger) == ["job-0"])
        caller.begin("cancel", codec.encode({"of": call}))
        replies = dict(caller.take() for _ in range(2))
        assert replies[call] == {"refusal": "the job was cancelled"}
        assert within(PATIENCE_S, lambda: kept_in(ledger) == [])
    finally:
        holders.close()


def test_budgets_are_refused_before_the_device_sees_the_call(hold, tmp_path):
    bounds = {"per_job": Budget(shots=15), "per_day": Budget(circuits=3)}
    device = hold("odd", how="lies", notes=str(tmp_path / "notes"), definition=bounds)
    first = Caller(device)
    first.ask("run", run_body(circuit(), shots=10))
    reply = first.ask("run", run_body(circuit(), shots=10))
    assert reply["refusal"] == "the budget of the job is 15 shots: 10 used, 10 asked for"
    second = Caller(device)
    second.ask("run", run_body(circuit(), circuit(), shots=1))
    reply = second.ask("run", run_body(circuit(), shots=1))
    assert reply["refusal"] == "the budget today is 3 circuits: 3 used, 1 asked for"
    assert (tmp_path / "notes").read_text().count("run") == 2


def test_only_named_users_may_call(hold):
    device = hold("odd", how="lies", definition={"users": ("ann",)})
    assert device.describe("ann")
    with pytest.raises(BackendError, match="'lab' is not for user 'bob'"):
        device.describe("bob")


# --- the reader ---------------------------------------------------------------------------------


def test_a_reader_that_dies_costs_one_call(hold):
    device = hold("simulator")
    caller = Caller(device)
    caller.ask("run", run_body(circuit(), shots=5))
    reader = caller.line._reader
    reader._kill()
    assert "ends the process that reads them" in caller.ask("run", run_body(circuit()))["refusal"]
    assert "answer" in caller.ask("run", run_body(circuit(), shots=5))


def test_a_reader_that_takes_too_long_is_killed(hold, monkeypatch):
    device = hold("simulator")
    caller = Caller(device)
    caller.ask("run", run_body(circuit(), shots=5))
    monkeypatch.setattr(readers, "READ_S", 0.0)
    long = circuit()
    for _ in range(3000):  # or the answer might be there already
        long.h(0)
    assert "memory or time" in caller.ask("run", run_body(long, shots=5))["refusal"]
    monkeypatch.undo()
    assert "answer" in caller.ask("run", run_body(circuit(), shots=5))


def test_readers_are_thrown_away_with_their_jobs(hold):
    device = hold("simulator")
    callers = [Caller(device) for _ in range(3)]
    for each in callers:
        each.ask("run", run_body(circuit(), shots=5))
    processes = [_pid_of(each.line._reader._process) for each in callers]
    assert len(set(processes)) == 3
    for each in callers:
        each.line.close()
    assert within(PATIENCE_S, lambda: not any(Path(f"/proc/{pid}").exists() for pid in processes))


def _pid_of(descriptor):
    (line,) = [
        line
        for line in Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines()
        if line.startswith("Pid:")
    ]
    return int(line.split()[1])


def test_closing_is_quick_and_for_good(hold):
    device = hold("simulator")
    Caller(device).ask("run", run_body(circuit(), shots=5))
    started = time.monotonic()
    device.close()
    assert time.monotonic() - started < 10
    assert (
        "closed with their supervisor" in Caller(device).ask("run", run_body(circuit()))["refusal"]
    )
