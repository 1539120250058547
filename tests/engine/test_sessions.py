"""Many jobs in one sandbox: each ends as it would alone, and leaves nothing for the next.

Most of this is about jobs that are forks in one container; `each_way` runs what holds for a session
of cells as well.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import warnings

import pytest

from runner import InputsError, RequestError, Supervisor
from tests.engine import bare
from tests.engine.traces import containers_of
from tests.waiting import within

pytestmark = pytest.mark.engine

ANYTHING = """
def main(backend, user_messenger, code, **inputs):
    names = {"backend": backend, "messenger": user_messenger, "value": None, **inputs}
    exec(code, names)
    return names["value"]
"""
WHO = "value = open(f'/proc/{__import__(\"os\").getppid()}/stat').read().split()[21]"
"""When the parent process was started: the same in the same sandbox only."""


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    written = tmp_path_factory.mktemp("programs") / "anything.py"
    written.write_text(ANYTHING)
    return written


@pytest.fixture(scope="module")
def supervisor(sandboxing):
    """As everywhere, but without cells."""
    with bare.Supervisor(**sandboxing, cells=False) as running:
        yield running


@pytest.fixture(scope="module")
def session(supervisor, path):
    with supervisor.session(path, limits={"memory_bytes": 500 << 20, "processes": 40}) as running:
        yield running


@pytest.fixture(scope="module")
def plain(path):
    """A session for what does not depend on carrier or isolation."""
    with (
        Supervisor(cells=False) as supervisor,
        supervisor.session(path, limits={"memory_bytes": 500 << 20, "processes": 40}) as running,
    ):
        yield running


@pytest.fixture(scope="module", params=[True, False], ids=["cells", "forks"])
def each_way(request):
    """A supervisor whose sessions have cells, where there are any, and one whose have none."""
    with Supervisor(cells=request.param) as running:
        yield running


def do(session, code, **arguments):
    """Run a job to its end."""
    job = session.run({"code": code, **arguments.pop("inputs", {})}, **arguments)
    job.wait(60)
    return job


@pytest.mark.under_runsc
def test_each_job_has_its_own_messages_log_result_and_files(session):
    code = """
import os
open("/tmp/left", "x"); open("/dev/shm/left", "x")
messenger.publish([number]); print("log of", number, end="")
value = [number, sorted(os.listdir("/tmp"))]
"""
    jobs = [session.run({"code": code, "number": number}) for number in range(5)]
    assert [job.result(60) for job in jobs] == [[number, ["left", "out"]] for number in range(5)]
    assert [list(job.messages()) for job in jobs] == [[[number]] for number in range(5)]
    assert [job.logs() for job in jobs] == [f"log of {number}" for number in range(5)]
    usage = jobs[-1].usage
    assert (usage.sources["cpu_s"], usage.sources["memory_peak_bytes"]) == ("guest", "guest")
    assert usage.cpu_s > 0
    assert usage.memory_peak_bytes > 10 << 20
    assert "session" in jobs[-1].record.exceptions


TIMES = """
import os
devices = "full", "null", "random", "tty", "urandom", "zero"
paths = ["/tmp", "/dev/shm", *(f"/dev/{name}" for name in devices)]
if touch: os.utime("/dev/null"); os.utime("/dev/shm")
found = {path: os.stat(path) for path in paths}
value = {path: max(each.st_atime_ns, each.st_mtime_ns) for path, each in found.items()}
"""


@pytest.mark.under_runsc
def test_the_times_of_devices_do_not_tell_which_of_them_a_job_has_touched(session):
    before = do(session, TIMES, inputs={"touch": True}).result()
    after = do(session, TIMES, inputs={"touch": False}).result()
    assert all(time > max(before.values()) for time in after.values())


ENDS = {
    "1 / 0": "program_error",
    "import os; os._exit(0)": "no_result",
    "import os; os.kill(os.getpid(), 9)": "no_result",
    "value = object()": "result_error",
    "messenger.publish('x' * (2 << 20))": "message_limit",
}


@pytest.mark.under_runsc
def test_a_job_that_fails_is_an_outcome_and_the_sandbox_stays(session):
    before = do(session, WHO).result()
    assert {code: do(session, code).outcome for code in ENDS} == ENDS
    assert do(session, WHO).result() == before


@pytest.mark.under_runsc
def test_the_time_limit_ends_the_job_and_not_the_session(session):
    before = do(session, WHO).result()
    code = """
import os, signal
for number in (signal.SIGTERM, signal.SIGINT): signal.signal(number, signal.SIG_IGN)
if os.fork() == 0: os.setsid()
print("started")
while True: pass
"""
    record = do(session, code, limits={"timeout_s": 1}).record
    assert (record.outcome, record.evidence.limit) == ("time_limit", "timeout_s")
    assert 1 <= record.evidence.observed < 5
    assert do(session, WHO).result() == before


def test_floods_are_cut_and_their_rest_reaches_nobody(plain):
    before = do(plain, WHO).result()
    code = "import os\nwhile True: os.write(1, b'flood' * 10000)"
    job = do(plain, code, limits={"log_bytes": 1 << 20, "log_kept_bytes": 1000})
    assert job.outcome == "output_limit"
    job = do(plain, "while True: messenger.publish(1)", limits={"messages": 100})
    assert (job.outcome, len(list(job.messages()))) == ("message_limit", 100)
    after = do(plain, WHO)
    assert (after.result(), after.logs(), list(after.messages())) == (before, "", [])


@pytest.mark.outcomes
def test_memory_and_processes_are_limited_and_counted_per_job(plain):
    before = do(plain, WHO).result()
    job = do(plain, "x = bytearray(600 << 20)")
    assert (job.outcome, job.usage.oom_kills) == ("memory_limit", 1)
    job = do(plain, WHO)
    assert (job.result(), job.usage.oom_kills) == (before, 0)
    job = do(plain, "import os, time\nwhile True:\n    if not os.fork(): time.sleep(60)")
    assert job.outcome == "process_limit"
    # In the same sandbox, or in a new one where a busy machine takes too long for forty processes.
    assert do(plain, "value = 1").outcome == "completed"


@pytest.mark.under_runsc
def test_cancel_ends_a_running_and_a_queued_job(session):
    code = "import time; messenger.publish('up'); time.sleep(60)"
    running, queued, last = (session.run({"code": each}) for each in (code, code, WHO))
    assert next(running.messages()) == "up"
    queued.cancel()
    assert queued.wait(5).outcome == "cancelled"
    running.cancel()
    assert running.wait(10).outcome == "cancelled"
    assert last.result(60)
    assert list(queued.messages()) == []


@pytest.mark.outcomes
def test_a_job_that_ends_the_parent_ends_honestly_and_the_next_has_a_new_sandbox(plain):
    before = do(plain, WHO).result()
    kill = "import os, time; os.kill(os.getppid(), 9); time.sleep(9)"
    queued = [plain.run({"code": each}) for each in (kill, WHO, WHO)]
    assert queued[0].wait(60).outcome == "no_result"
    after = [job.result(60) for job in queued[1:]]
    assert after[0] == after[1] != before
    stopped = "import os, time; os.kill(os.getppid(), 19); value = 'stopped'"
    assert do(plain, stopped).result() == "stopped"  # complete, but never cleared
    assert do(plain, WHO).result() != after[0]


FORGERIES = [
    b'{"type":"cleared","token":"00","job":1,"status":0,"cpu_us":1,"memory_peak_bytes":1}\n',
    b'{"type":"result","job":99999,"messages":0,"done":true,"value":1}\n',
]


@pytest.mark.parametrize("line", FORGERIES)
def test_nobody_but_the_parent_can_report_the_end_of_a_job(plain, line):
    # Only to pipes: on the socket of its messages it is a violation whatever it says.
    code = """
import os, stat, time
for number in range(500, 520):
    try:
        if stat.S_ISFIFO(os.fstat(number).st_mode): os.write(number, line)
    except OSError: pass
time.sleep(60)
"""
    job = do(plain, code, inputs={"line": line}, limits={"timeout_s": 20})
    assert job.outcome == "protocol_violation"
    assert do(plain, "value = 'alive'").result() == "alive"


def test_what_a_job_does_to_shared_pipes_or_to_its_parent_does_not_reach_the_next(plain):
    code = """
import fcntl, os, resource
for number in (1, *range(500, 520)):
    try: fcntl.fcntl(number, fcntl.F_SETFL, os.O_NONBLOCK | os.O_DIRECT)
    except OSError: pass
os.sched_setaffinity(os.getppid(), {max(os.sched_getaffinity(0))})
"""
    before = do(plain, "import os; value = sorted(os.sched_getaffinity(0))").result()
    assert do(plain, code).outcome == "completed"
    text = "x" * 100_000
    job = do(plain, "print(text); value = text", inputs={"text": text})
    assert (job.result(), job.logs()) == (text, f"{text}\n")
    assert do(plain, "import os; value = sorted(os.sched_getaffinity(0))").result() == before
    assert do(plain, "import os; os.fchmod(1, 0)").outcome == "completed"
    assert do(plain, "value = open('/dev/stderr', 'w').write('x')").result() == 1
    lower = "import os, resource; resource.prlimit(os.getppid(), resource.RLIMIT_FSIZE, (0, 0))"
    assert do(plain, lower).record.error == "PermissionError: [Errno 1] Operation not permitted"


def test_a_program_may_fork_after_a_transpile_in_a_session(each_way, path):
    code = """
import os
from qiskit import QuantumCircuit, transpile
def work():
    circuit = QuantumCircuit(3); circuit.h(0); circuit.cx(0, 1); circuit.cx(0, 2)
    return transpile(circuit, backend).size()
value = work()
child = os.fork()
if child == 0:
    work(); os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
    with each_way.session(path) as session:
        for _ in range(2):  # without QISKIT_IN_PARALLEL=TRUE the child hangs
            assert do(session, code, limits={"timeout_s": 30}).result() == 3


def test_callbacks_and_limits_are_as_elsewhere(each_way, path):
    seen, final = [], threading.Event()
    with each_way.session(path) as session:
        job = session.run(
            {"code": "messenger.publish(1); messenger.publish(2, final=True)"},
            callback=lambda job_id, message: seen.append((job_id, message)),
            on_final=lambda *_: final.set(),
        )
        assert job.result(60) == 2
        assert final.wait(5)
        assert seen == [(job.id, 1)]
        with pytest.raises(InputsError, match="missing input 'code'"):
            session.run({})
        with pytest.raises(RequestError, match="give the limit to the session"):
            session.run({"code": ""}, limits={"memory_bytes": 300 << 20})


def test_a_job_that_fails_or_floods_leaves_nothing_for_the_next_in_either_way(each_way, path):
    limits = {"memory_bytes": 500 << 20, "processes": 40}
    flood = {"log_bytes": 1 << 20, "log_kept_bytes": 1000}
    with each_way.session(path, limits=limits) as session:
        assert {code: do(session, code).outcome for code in ENDS} == ENDS
        code = "import os\nwhile True: os.write(1, b'flood' * 10000)"
        assert do(session, code, limits=flood).outcome == "output_limit"
        job = do(session, "x = bytearray(600 << 20)")
        assert (job.outcome, job.usage.oom_kills) == ("memory_limit", 1)
        code = "import os\nvalue = os.listdir('/tmp'), len(os.listdir('/proc/self/fd'))"
        one, other = (do(session, code) for _ in range(2))
        assert one.result() == other.result()
        assert (other.logs(), list(other.messages()), other.usage.oom_kills) == ("", [], 0)


@pytest.mark.under_runsc
def test_closing_a_session_cancels_and_leaves_nothing(supervisor, engine, path):
    before = set(containers_of(engine, os.getpid()))
    with supervisor.session(path) as session:
        running = session.run({"code": "import time; messenger.publish(1); time.sleep(60)"})
        queued = session.run({"code": ""})
        assert next(running.messages()) == 1
        assert len(containers_of(engine, os.getpid())) == len(before) + 1
    assert (running.outcome, queued.outcome) == ("cancelled", "cancelled")
    assert within(5, lambda: set(containers_of(engine, os.getpid())) == before)
    with pytest.raises(RequestError, match="closed"):
        session.run({"code": ""})


def test_a_forgotten_session_warns_and_its_jobs_go_on_until_the_supervisor_is_closed(engine, path):
    before = set(containers_of(engine, os.getpid()))
    with Supervisor() as supervisor:
        session = supervisor.session(path, backend="none")
        jobs = [do(session, f"value = {number}") for number in range(3)]
        with pytest.warns(ResourceWarning, match=f'unclosed session of {path.stem}: use "with"'):
            del session
        assert [job.result(60) for job in jobs] == [0, 1, 2]
        assert len(containers_of(engine, os.getpid())) == len(before) + 1
        closed = supervisor.session(path, backend="none")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del closed
    assert within(5, lambda: set(containers_of(engine, os.getpid())) == before)


def test_an_idle_session_is_gone_when_its_supervisor_is_closed_or_killed(engine, path):
    with Supervisor() as supervisor:
        session = supervisor.session(path)
        assert do(session, "value = 1").result() == 1
    with pytest.raises(RequestError, match="closed"):
        session.run({"code": ""})
    code = f"""
from runner import Supervisor
supervisor = Supervisor()
session = supervisor.session({str(path)!r})
print(session.run({{"code": "value = 'up'"}}).result(), flush=True)
import time; time.sleep(60)
"""
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline() == "up\n"
        assert len(containers_of(engine, child.pid)) == 1
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    assert within(10, lambda: not containers_of(engine, child.pid))


def test_a_resting_sandbox_counts_in_the_budget_and_gives_way_to_a_job_that_waits(path):
    limits = {"memory_bytes": 300 << 20}
    with (
        Supervisor(memory_budget_bytes=400 << 20, cells=False) as supervisor,
        supervisor.session(path, backend="none", limits=limits, sandboxes=2) as session,
    ):
        first = [session.run({"code": WHO}) for _ in range(3)]
        assert len({job.result(60) for job in first}) == 1  # no room for another
        other = supervisor.run(path, {"code": "value = 1"}, backend="none", limits=limits)
        assert other.result(60) == 1
        assert do(session, WHO).result() != first[0].result()


SEEDED = """
from qiskit import transpile
from qiskit.circuit.random import random_circuit
def main(backend, user_messenger, seed: int):
    circuit = random_circuit(4, 3, measure=True, seed=seed)
    circuit = transpile(circuit, backend, optimization_level=0, seed_transpiler=seed)
    user_messenger.publish(backend.run(circuit, seed_simulator=seed).result().get_counts())
    return seed
"""


def test_map_keeps_the_order_and_equals_single_jobs_with_equal_seeds(each_way, program):
    path = program(SEEDED, "seeded.py")
    inputs = [{"seed": seed} for seed in range(60)]
    inputs[7] = {"sead": 7}
    jobs = list(each_way.map(path, iter(inputs)))
    assert [job.outcome for job in jobs].count("completed") == 59
    assert jobs[7].outcome == "invalid_inputs"
    assert [job.result() for number, job in enumerate(jobs) if number != 7] == [
        seed for seed in range(60) if seed != 7
    ]
    for number in (0, 59):
        single = each_way.run(path, inputs[number])
        assert single.result(60) == number
        assert list(jobs[number].messages()) == list(single.messages())
    counts = [next(job.messages()) for number, job in enumerate(jobs) if number != 7]
    assert len({json.dumps(each, sort_keys=True) for each in counts}) > 30


def test_map_is_lazy_and_stops_when_nobody_wants_more(each_way, path):
    taken = []

    def inputs():
        for number in range(10**9):
            taken.append(number)
            yield {"code": "1 / 0" if number % 2 else "value = number", "number": number}

    jobs = each_way.map(path, inputs(), sandboxes=1)
    first = [next(jobs) for _ in range(6)]
    assert [job.outcome for job in first] == ["completed", "program_error"] * 3
    assert [job.result() for job in first[::2]] == [0, 2, 4]
    jobs.close()
    assert len(taken) < 200
    assert list(jobs) == []

    with each_way.map(path, inputs(), sandboxes=1) as jobs:
        assert next(jobs).result() == 0
    assert list(jobs) == []

    jobs = each_way.map(path, inputs(), sandboxes=1)
    assert next(jobs).result() == 0
    with pytest.warns(ResourceWarning, match=f'unclosed map of {path.stem}: use "with" or close'):
        del jobs


def test_map_ends_with_what_its_inputs_raise_and_leaves_nothing_open(each_way, path):
    def inputs():
        yield {"code": "value = 1"}
        yield 1 / 0

    jobs = each_way.map(path, inputs(), sandboxes=1)
    with pytest.raises(ZeroDivisionError):
        list(jobs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del jobs


@pytest.mark.parametrize(("cells", "exceptions"), [("on", []), ("off", ["session"])])
def test_the_command_writes_a_line_for_each_input_in_order(program, cells, exceptions):
    path = program("def main(b, m, n):\n    print('log')\n    return 12 // n\n", "divide.py")
    lines = ['{"n": 3}', '{"n": 0}', "", "no JSON", '{"m": 1}', '{"n": 4}']
    done = subprocess.run(
        [sys.executable, "-m", "runner", "map", str(path), "--inputs", "-", "--sandboxes", "1"],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "QRUNNER_CELLS": cells},
    )
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["index"] for event in events] == [0, 1, 2, 3, 4]
    assert [event["result"] for event in events] == [4, None, None, None, 3]
    assert [event["outcome"] for event in events] == [
        "completed",
        "program_error",
        "invalid_inputs",
        "invalid_inputs",
        "completed",
    ]
    assert events[1]["traceback"].endswith(
        "ZeroDivisionError: integer division or modulo by zero\n"
    )
    assert "line 4 of the inputs is not JSON" in events[2]["error"]
    assert all(event["exceptions"] == exceptions for event in (events[0], events[4]))
    assert "5 jobs: 2 completed, 2 invalid_inputs, 1 program_error" in done.stderr
    assert done.returncode == 2
