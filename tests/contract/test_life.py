"""The two processes: who guards whom, what is reported, and that nothing stays."""

import json
import os
import signal
import time

import pytest

from sandbox.processes import counters, init
from sandbox.wire import protocol
from tests.contract.guest import Guest, is_alive, kill, run
from tests.waiting import within


@pytest.mark.parametrize(
    ("statement", "status"),
    [
        ("os._exit(0)", 0),
        ("os._exit(70)", 70),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)", -signal.SIGTERM),
        ("os.abort()", -signal.SIGABRT),
        ("ctypes.string_at(0)", -signal.SIGSEGV),
        ("ctypes.CDLL(None).exit(3)", 3),
        ("os.execvp('false', ['false'])", 1),
    ],
)
def test_a_worker_that_ends_without_a_word_is_reported(carrier, statement, status):
    source = f"""
        import ctypes, os, signal, time
        def main(backend, user_messenger):
            user_messenger.publish(1)
            {statement}
    """
    report = run(source, carrier=carrier)
    assert len(report.messages) == 1
    assert report.last == []
    assert (report.exited.job, report.exited.status) == (7, status)


def test_the_deadline_of_the_first_process(monkeypatch):
    source = """
        import time
        def main(backend, user_messenger):
            user_messenger.publish(1)
            time.sleep(60)
    """
    with Guest(source, carrier="stdio") as guest:
        started = time.monotonic()
        guest.send(limits={"wall_s": -4.5})  # with the grace of 5 s: half a second from now
        guest.wait_for_frame(protocol.Message)
        assert guest.process.wait(5) == 124
        assert time.monotonic() - started < 3
        assert not [each for each in guest.frames if isinstance(each, protocol.Exited)]


REQUEST = protocol.Run(job=7, entry="program.py", inputs={}, backend={"name": "none"})
RUN = protocol.encode(REQUEST)
SLEEPER = """
    import time
    def main(backend, user_messenger):
        user_messenger.publish(1)
        time.sleep(60)
"""


def test_the_host_alone_pauses_the_first_process_s_clock():
    with Guest(SLEEPER, carrier="stdio") as guest:
        guest.send(limits={"wall_s": -4})  # with the grace of 5 s: a second from now
        guest.say(protocol.Pause(job=7, at_most_s=60))
        guest.wait_for_frame(protocol.Message)
        time.sleep(1.5)
        assert guest.process.poll() is None
        guest.say(protocol.Resume(job=6))  # of no job that runs
        time.sleep(0.5)
        assert guest.process.poll() is None
        guest.say(protocol.Resume(job=7))
        assert guest.process.wait(5) == 124


def test_a_pause_that_the_host_forgets_ends_by_itself():
    with Guest(SLEEPER, carrier="stdio") as guest:
        started = time.monotonic()
        guest.send(limits={"wall_s": -4.5})
        guest.say(protocol.Pause(job=7, at_most_s=1))
        assert guest.process.wait(5) == 124
        assert time.monotonic() - started >= 1.4


def test_the_host_stops_a_job(carrier):
    with Guest(FAMILY, carrier=carrier) as guest:
        guest.listen()
        guest.send()
        pids = json.loads(guest.wait_for_frame(protocol.Message).body)
        try:
            guest.say(protocol.Stop(job=6))  # not this one
            guest.say(protocol.Stop(job=7))
            assert guest.wait_for_frame(protocol.Exited).status == -signal.SIGKILL
            assert within(1, lambda: not any(map(is_alive, pids)))
        finally:
            for pid in pids:
                kill(pid)


def test_the_program_holds_nothing_of_the_hosts_stream(carrier):
    source = """
        import os
        def main(backend, user_messenger):
            paths = [f"/proc/self/fd/{each}" for each in os.listdir("/proc/self/fd")]
            own = [os.stat(path).st_ino for path in paths if os.path.exists(path)]
            user_messenger.publish([os.readlink("/proc/self/fd/0"), own])
    """
    with Guest(source, carrier=carrier) as guest:
        guest.listen()
        guest.send()
        null, own = json.loads(guest.wait_for_frame(protocol.Message).body)
        assert null == os.devnull
        assert os.fstat(guest.process.stdin.fileno()).st_ino not in own


def test_what_is_read_beyond_the_request_reaches_the_first_process():
    with Guest(SLEEPER, carrier="stdio") as guest:
        guest.say(REQUEST, protocol.Stop(job=7))  # one write, and so one read
        assert guest.wait_for_frame(protocol.Exited).status == -signal.SIGKILL


def test_a_long_request_arrives_whole(carrier):
    source = "def main(backend, user_messenger, text): return [len(text), text[-3:]]"
    text = "x" * (8 << 20) + "end"
    assert run(source, carrier=carrier, inputs={"text": text}).value == '[8388611,"end"]'


def test_the_first_process_waits_for_the_host_but_not_for_ever():
    source = "def main(backend, user_messenger): return 1"
    with Guest(source, carrier="stdio") as guest:
        guest.send()
        guest.wait_for_frame(protocol.Exited)
        time.sleep(0.3)
        assert guest.process.poll() is None
        guest.process.stdin.close()
        assert guest.process.wait(1) == 0
    assert init.LINGER_S == 5


FAMILY = """
    import os, signal, subprocess, sys, time
    def main(backend, user_messenger):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        children = [subprocess.Popen(["sleep", "60"]).pid for _ in range(3)]
        user_messenger.publish([os.getpid(), *children])
        while True: pass
"""


@pytest.mark.parametrize("end", ["hang up", "killed"])
def test_the_whole_tree_goes_within_a_second(carrier, end):
    with Guest(FAMILY, carrier=carrier) as guest:
        guest.listen()
        guest.send()
        pids = json.loads(guest.wait_for_frame(protocol.Message).body)
        assert all(map(is_alive, pids))
        try:
            if end == "hang up":
                guest.process.stdin.close()
                assert guest.process.wait(1) == 0
            else:  # the worker alone: the first process takes the others along
                os.kill(pids[0], signal.SIGKILL)
                guest.wait_for_frame(protocol.Exited)
            assert within(1, lambda: not any(map(is_alive, pids)))
        finally:
            for pid in pids:
                kill(pid)


def test_hanging_up_before_the_request(carrier):
    with Guest("", carrier=carrier) as guest:
        guest.listen()
        guest.wait_for_frame(protocol.Ready)
        guest.process.stdin.close()
        assert guest.process.wait(1) == 0


def test_signals_to_the_first_process_are_ignored(carrier):
    source = """
        import os, signal
        def main(backend, user_messenger):
            for number in sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}):
                os.kill(os.getppid(), number)
            return os.getppid()
    """
    report = run(source, carrier=carrier)
    assert int(report.value) > 1
    assert report.exited.status == 0


def test_the_program_starts_with_ordinary_signals(carrier):
    source = """
        import signal
        def main(backend, user_messenger):
            odd = [
                int(number) for number in signal.valid_signals()
                if signal.getsignal(number) is not signal.SIG_DFL
            ]
            return [odd, sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, [])))]
    """
    usual = [int(signal.SIGINT), int(signal.SIGPIPE), int(signal.SIGXFSZ)]
    odd, blocked = json.loads(run(source, carrier=carrier).value)
    assert sorted(odd) == sorted(usual)
    assert blocked == []


def test_orphans_are_reaped(carrier):
    source = """
        import os, subprocess, time
        def main(backend, user_messenger):
            pids = []
            for _ in range(100):
                reader, writer = os.pipe()
                child = os.fork()
                if child == 0:
                    orphan = os.fork()
                    if orphan:
                        os.write(writer, str(orphan).encode())
                    os._exit(0)
                os.waitpid(child, 0)
                pids.append(int(os.read(reader, 20)))
                os.close(reader); os.close(writer)
            for _ in range(100):
                left = [pid for pid in pids if os.path.exists(f"/proc/{pid}")]
                if not left: break
                time.sleep(0.02)
            return left
    """
    assert run(source, carrier=carrier).value == "[]"


def test_the_first_process_is_closed_to_the_program(carrier):
    source = """
        import os
        def main(backend, user_messenger):
            return [os.stat(f"/proc/{pid}/mem").st_uid for pid in (os.getppid(), os.getpid())]
    """
    if os.getuid() == 0:
        # Root owns its own processes' files either way; the flag itself tells.
        source = """
            import ctypes, os
            def main(backend, user_messenger):
                return [0, ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)]
        """
        with Guest(source, carrier=carrier) as guest:
            guest.listen()
            guest.send()
            assert guest.report().value == "[0,1]"
        return
    first, own = json.loads(run(source, carrier=carrier).value)
    assert (first, own) == (0, os.getuid())


def test_a_forked_child_that_returns_from_main_says_nothing(carrier):
    source = """
        import os
        def main(backend, user_messenger, fails):
            child = os.fork()
            if child == 0:
                if fails: raise RuntimeError("in the child")
                return "child"
            os.waitpid(child, 0)
            return "parent"
    """
    assert run(source, carrier=carrier, inputs={"fails": False}).value == '"parent"'
    report = run(source, carrier=carrier, inputs={"fails": True})
    assert report.value == '"parent"'
    assert "RuntimeError: in the child" in report.log


@pytest.mark.parametrize("ending", ["while True: pass", "return list(range(100_000))"])
def test_alarms_that_go_on_do_not_disturb_the_last_frame(carrier, ending):
    source = f"""
        import signal
        def ring(*_): raise TimeoutError("rang")
        def main(backend, user_messenger):
            signal.signal(signal.SIGALRM, ring)
            signal.setitimer(signal.ITIMER_REAL, 0.003, 0.0005)
            {ending}
    """
    report = run(source, carrier=carrier)
    assert len(report.last) == 1
    if ending.startswith("while"):
        assert report.fault.error == "TimeoutError: rang"


@pytest.mark.parametrize(
    ("line", "reader", "error"),
    [
        (b"nonsense\n", "worker", "JSONDecodeError"),
        (RUN + b"nonsense\n", "first process", "JSONDecodeError"),
        (RUN + b" " * 5000, "first process", "more than 4096 bytes"),
        (RUN + b'{"type":"pause"}\n', "first process", "missing"),
    ],
)
def test_a_request_that_is_no_frame_is_our_own_fault(carrier, line, reader, error):
    with Guest("", carrier=carrier) as guest:
        if carrier == "socket":
            guest.connect()
        guest.process.stdin.write(line)
        guest.process.stdin.flush()
        if reader == "worker":
            assert guest.wait_for_frame(protocol.Exited).status == 70
        else:
            assert guest.process.wait(5) == 70
        guest.wait_for_log(error)


FIRST = {
    "cpuacct/cpuacct.usage": "1234567\n",
    "memory/memory.max_usage_in_bytes": "4096\n",
    "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
    "pids/pids.events": "max 7\n",
}
SECOND = {
    "cpu.stat": "usage_usec 99\nuser_usec 80\n",
    "memory.peak": "8192\n",
    "memory.events": "low 0\nhigh 0\nmax 9\noom 2\noom_kill 1\noom_group_kill 0\n",
    "pids.events": "max 2\n",
}


def test_figures_are_read_from_either_version_of_control_groups(tmp_path):
    for name in ("cpuacct", "memory", "pids"):
        (tmp_path / name).mkdir()
    assert set(counters.read(str(tmp_path)).values()) == {None}
    for name, text in FIRST.items():
        (tmp_path / name).write_text(text)
    first = {"cpu_us": 1234, "memory_peak_bytes": 4096, "oom_kills": 3, "process_limit_hits": 7}
    assert counters.read(str(tmp_path)) == first
    for name, text in SECOND.items():
        (tmp_path / name).write_text(text)
    second = {"cpu_us": 99, "memory_peak_bytes": 8192, "oom_kills": 1, "process_limit_hits": 2}
    assert counters.read(str(tmp_path)) == second


@pytest.mark.parametrize("text", ["", "\n", "garbage", "max\n", "usage_usec x\n", "\u00fc 1\n"])
def test_a_figure_that_cannot_be_read_is_unknown(tmp_path, text):
    for name in SECOND:
        (tmp_path / name).write_text(text)
    assert set(counters.read(str(tmp_path)).values()) == {None}
