"""A session: many jobs in forks of one warm process, of which nothing is left for the next."""

import json
import os
import secrets
import signal
import time
from pathlib import Path

import pytest

from sandbox.processes import worker
from sandbox.wire import protocol
from tests.contract.guest import ANYTHING, Session, is_alive, run
from tests.waiting import within


def test_jobs_share_no_memory_environment_or_directory(session):
    code = """
import builtins, os, random, sys
value = [hasattr(builtins, "left"), os.environ.get("LEFT"), "left" in sys.modules, os.getcwd()]
builtins.left = 1; os.environ["LEFT"] = "1"; sys.modules["left"] = sys; os.chdir("/usr")
"""
    assert session.do(code) == session.do(code) == [False, None, False, "/"]


def test_each_job_has_random_numbers_of_its_own(session):
    code = """
import random, numpy, uuid
value = [random.random(), numpy.random.random(), numpy.random.default_rng().random()]
value.append(uuid.uuid4().hex)
"""
    jobs = [session.do(code) for _ in range(3)]
    assert all(len(set(numbers)) == 3 for numbers in zip(*jobs, strict=True))


def test_the_simulator_is_seeded_for_each_job_and_equal_seeds_are_equal(session):
    code = """
from qiskit import QuantumCircuit
from qiskit_aer import AerSimulator
circuit = QuantumCircuit(8)
circuit.h(range(8)); circuit.measure_all()
options = {"seed_simulator": seed} if seed else {}
value = AerSimulator().run(circuit, shots=5, memory=True, **options).result().get_memory()
"""
    unseeded = {json.dumps(session.do(code, seed=0)) for _ in range(3)}
    assert len(unseeded) == 3
    assert session.do(code, seed=7) == session.do(code, seed=7)


def test_the_simulators_executor_is_as_in_a_single_job_and_new_in_a_fork(session):
    code = """
import concurrent.futures, os
from qiskit_aer.jobs import utils
executor = utils.DEFAULT_EXECUTOR
value = [utils.ThreadPoolExecutor is concurrent.futures.ThreadPoolExecutor, type(executor).__name__]
value += [len(executor._threads), executor.submit(os.getpid).result() == os.getpid()]
child = os.fork()
if child == 0:
    other = utils.DEFAULT_EXECUTOR
    os._exit(not (other is not executor and other.submit(os.getpid).result() == os.getpid()))
value += [len(executor._threads), os.waitpid(child, 0)[1]]
"""
    expected = [True, "ThreadPoolExecutor", 0, True, 1, 0]
    assert session.do(code) == session.do(code) == expected


def test_a_job_holds_what_a_single_one_would_and_nothing_of_its_parent(session):
    code = """
import os, re
value = []
for number in sorted(os.listdir("/proc/self/fd"), key=int):
    try: value.append([int(number), re.sub(r"[0-9]+", "#", os.readlink(f"/proc/self/fd/{number}"))])
    except OSError: pass
"""
    single = run(ANYTHING, carrier=session.carrier, inputs={"code": code})
    assert session.do(code) == json.loads(single.value)


def test_signals_session_and_dumpability_are_those_of_a_single_job(session):
    code = """
import ctypes, os, signal
odd = [int(n) for n in signal.valid_signals() if signal.getsignal(n) is not signal.SIG_DFL]
prctl = ctypes.CDLL(None).prctl
value = [sorted(odd), os.getsid(0) == os.getpid() == os.getpgrp(), prctl(3, 0, 0, 0, 0)]
"""
    usual = [int(signal.SIGINT), int(signal.SIGPIPE), int(signal.SIGXFSZ)]
    assert session.do(code) == [sorted(usual), True, 1]


@pytest.mark.skipif(os.getuid() == 0, reason="root opens every process")
def test_the_parent_is_closed_to_the_job(session):
    assert session.do("import os; value = os.stat(f'/proc/{os.getppid()}/mem').st_uid") == 0


def test_the_parent_cannot_be_traced_and_ignores_what_can_be_ignored(session):
    session.do("""
import os, signal
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
    os.kill(os.getppid(), number)
""")
    assert session.do("value = 1") == 1


SCAN = """
import mmap, re
value = 0  # a text that must not be here is looked for in two halves, never put together

def written(start, end):  # what has never been written is skipped: there is a GiB of it
    pages.seek(start // mmap.PAGESIZE * 8)
    flags = memoryview(pages.read((end - start) // mmap.PAGESIZE * 8)).cast("Q")
    runs = re.finditer(b"1+", bytes(48 + (each >> 62 > 0) for each in flags))
    return [[start + each * mmap.PAGESIZE for each in run.span()] for run in runs]

with open("/proc/self/mem", "rb", 0) as memory, open("/proc/self/pagemap", "rb", 0) as pages:
    for line in open("/proc/self/maps"):
        ends = [int(each, 16) for each in line.split()[0].split("-")]
        try: contents = [memory.seek(a) and memory.read(b - a) for a, b in written(*ends)]
        except (OSError, OverflowError, ValueError): continue
        for match in re.finditer(re.escape(head.encode()), b"".join(contents)):
            value += match.string[match.end() : match.end() + 16] == tail.encode()
"""


def test_a_job_has_never_held_the_token_of_its_end_nor_other_jobs_inputs(session):
    secret = secrets.token_hex(16)
    head, tail = secret[:16], secret[16:]
    assert session.do("value = len(text)", text=secret) == 32
    assert session.do(SCAN + "text = head + tail", head=head, tail=tail) == 0
    assert session.do("text = head + tail\n" + SCAN, head=head, tail=tail) > 0  # it can be found
    token = secrets.token_hex(16)
    assert session.do(SCAN, token=token, head=token[:16], tail=token[16:]) == 0


ENDS = {
    "import os; os._exit(3)": 3,
    "import os, signal; os.kill(os.getpid(), signal.SIGKILL)": -signal.SIGKILL,
    "import ctypes; ctypes.string_at(0)": -signal.SIGSEGV,
    "import os; os.abort()": -signal.SIGABRT,
}


@pytest.mark.parametrize("code", ENDS)
def test_a_crash_ends_its_job_and_not_the_session(session, code):
    session.start(code)
    cleared, last = session.end()
    assert (cleared.status, last) == (ENDS[code], None)
    assert session.do("value = 'alive'") == "alive"


def test_an_exception_is_the_fault_of_its_job(session):
    session.start("1 / 0")
    _, fault = session.end()
    assert fault.error == "ZeroDivisionError: division by zero"
    assert session.do("value = 1") == 1


def test_a_stopped_job_is_gone_within_a_second_and_the_next_one_runs(session):
    code = """
import os, signal, subprocess, time
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "60"])
messenger.publish([os.getpid(), child.pid])
while True: pass
"""
    session.start(code)
    pids = json.loads(session.wait_for_frame(protocol.Message).body)
    started = time.monotonic()
    session.stop()
    cleared, last = session.end()
    assert time.monotonic() - started < 5
    assert (cleared.status, last) == (-signal.SIGKILL, None)
    assert within(5, lambda: not any(map(is_alive, pids)))
    assert session.do("value = 1") == 1


def test_a_stop_that_comes_too_late_stops_nobody(session):
    session.do("value = 1")
    session.stop()
    session.start("import time; time.sleep(0.2); value = 2")
    session.stop(session.number - 1)
    cleared, last = session.end()
    assert (cleared.status, last.value) == (0, "2")


def test_what_a_job_has_started_does_not_outlive_it(session):
    pid = session.do("import subprocess; value = subprocess.Popen(['sleep', '60']).pid")
    assert within(5, lambda: not is_alive(pid))


def test_files_are_gone_whatever_their_names_depth_and_permissions(session):
    code = """
import os
os.chdir(path)
for depth in range(300):
    os.mkdir("d" * 200); os.chdir("d" * 200)
os.mkdir(path + "/closed"); os.mkdir(path + "/closed/inner"); open(path + "/closed/file", "w")
os.chmod(path + "/closed/inner", 0); os.chmod(path + "/closed", 0)
open(os.fsencode(path) + b"/\\xff\\n -rf", "w")
os.symlink("/usr", path + "/link"); os.mkfifo(path + "/pipe"); os.symlink("loop", path + "/loop")
value = len(os.listdir(path))
""".replace("for _ in range(2):", "for _ in range(1):")
    assert session.do(code, path=str(session.wiped)) == 6
    assert list(session.wiped.iterdir()) == []
    assert Path("/usr/bin").exists()


LOOK_AT_PIPES = """
import fcntl, os, struct
value = []
for pipe in (1, 500, 501):
    status = os.fstat(pipe)
    value.append([oct(status.st_mode), status.st_mtime_ns])
    value[-1] += [fcntl.fcntl(pipe, each) for each in (fcntl.F_GETOWN, fcntl.F_GETSIG)]
    value[-1] += fcntl.fcntl(pipe, 1035, bytes(8))
    again = os.open(f"/proc/self/fd/{pipe}", os.O_WRONLY)
    value[-1] += fcntl.fcntl(again, fcntl.F_OFD_GETLK, struct.pack("hhqqi", 1, 0, 0, 0, 0))
"""

CHANGE_PIPES = """
import fcntl, os, struct
for pipe in (500, 501):
    fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getppid()); fcntl.fcntl(pipe, fcntl.F_SETSIG, 40)
    fcntl.fcntl(pipe, 1036, struct.pack("Q", 3))
    fcntl.fcntl(pipe, fcntl.F_OFD_SETLK, struct.pack("hhqqi", 1, 0, 77, 1, 0))
    os.utime(pipe, ns=(7, 7)); os.fchmod(pipe, 0)
    value = "changed"
"""


def test_what_a_job_sets_of_its_pipes_does_not_reach_the_next(session):
    def look():  # writing may change a pipe's times, too: not to what the job sets
        return [each[:1] + each[2:] + [each[1] > 7] for each in session.do(LOOK_AT_PIPES)]

    before = look()
    assert session.do(CHANGE_PIPES) == "changed"
    assert look() == before


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core cannot be given up")
def test_the_cores_that_a_job_takes_from_its_parent_are_there_for_the_next(session):
    cores = "import os; value = sorted(os.sched_getaffinity(0))"
    before = session.do(cores)
    session.do("import os; os.sched_setaffinity(os.getppid(), {max(os.sched_getaffinity(0))})")
    assert session.do(cores) == before


def test_a_job_that_changes_the_limits_of_the_first_process_is_the_last_of_its_session(tmp_path):
    with Session("stdio", tmp_path) as session:
        limits = "(resource.RLIMIT_CORE, (0, 0))"
        session.start(f"import resource; resource.prlimit({session.process.pid}, *{limits})")
        assert session.wait_for_frame(protocol.Exited).status == worker.OUR_FAULT
        session.process.stdin.close()
        assert session.process.wait(10) == 0
        assert session.log.endswith("the job has changed the resource limits of the session\n")
        assert "Traceback" not in session.log


def test_the_log_of_a_job_ends_at_its_token_and_its_messages_are_its_own(session):
    session.start("print('first', end=''); messenger.publish(1); messenger.publish(2); value = 3")
    session.end()
    assert session.wait_for(lambda: f"first\x1e{session.token}\n".encode() in session.raw["stderr"])

    def messages():  # by another connection than the report: it may be read later
        return [each for each in session.frames if isinstance(each, protocol.Message)]

    assert session.wait_for(lambda: len(messages()) == 2)
    assert [(each.job, each.body) for each in messages()] == [
        (session.number, "1"),
        (session.number, "2"),
    ]


def test_the_report_follows_half_a_frame(session):
    session.start("""
import os
for number in range(500, 520):
    try: os.write(number, b"half a fra")
    except OSError: continue
os.kill(os.getpid(), 9)
""")
    cleared, last = session.end()
    assert (cleared.status, last) == (-signal.SIGKILL, None)
    assert b'half a fra{"type":"cleared","token":"%s"' % session.token.encode() in bytes(
        session.raw["stdout"]
    )


def test_usage_is_that_of_the_job(session):
    session.do("value = 1")
    small, _ = session.end()
    session.start("data = bytearray(300 << 20)\nfor _ in range(10**6): pass")
    large, _ = session.end()
    assert large.memory_peak_bytes - small.memory_peak_bytes > 200 << 20
    assert large.cpu_us > 0


def test_hanging_up_ends_parent_job_and_children(tmp_path, carrier):
    with Session(carrier, tmp_path) as session:
        session.start("""
import os, subprocess, time
messenger.publish([os.getpid(), os.getppid(), subprocess.Popen(["sleep", "60"]).pid])
time.sleep(60)
""")
        pids = json.loads(session.wait_for_frame(protocol.Message).body)
        session.process.stdin.close()
        assert session.process.wait(2) == 0
        # Outside a container the first process reaches only the parent's own group.
        os.kill(pids[0], signal.SIGKILL)
        os.kill(pids[2], signal.SIGKILL)
        assert within(5, lambda: not any(map(is_alive, pids)))
