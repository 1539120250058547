"""Real jobs in real containers, on both carriers and isolations: outcomes, evidence, no rest."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from runner import InputsError, JobFailedError, Limits, Outcome, RequestError, UnknownJobError
from tests.engine import bare
from tests.engine.bare import Supervisor
from tests.engine.traces import containers_of
from tests.waiting import within

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.engine


@pytest.mark.under_runsc
def test_the_tutorials_program_end_to_end(supervisor):
    seen: list = []
    job = supervisor.run(
        "random_circuits",
        inputs={"iterations": 3},
        backend="aer_simulator",
        callback=lambda job_id, message: seen.append((job_id, message)),
    )
    live = list(job.messages())
    assert job.result(timeout=60) == "All done!"
    assert [message["iteration"] for message in live] == [0, 1, 2]
    assert all(sum(message["counts"].values()) > 0 for message in live)
    assert seen == [(job.id, message) for message in live]
    assert list(job.messages()) == live
    assert job.status() == "DONE"
    assert job.usage.messages == 3
    assert job.usage.wall_s > 0


def test_values_that_json_has_no_word_for_come_back_exactly(supervisor, program):
    path = program(
        """
        import math
        def main(backend, user_messenger, z):
            user_messenger.publish({"nan": math.nan, "inf": -math.inf})
            return {"z": z * 2, "t": (1, 2), "b": b"\\x00\\xff", 7: {1, 2}}
        """
    )
    job = supervisor.run(path, {"z": 1 + 2j})
    assert job.result(60) == {"z": 2 + 4j, "t": (1, 2), "b": b"\x00\xff", 7: {1, 2}}
    (message,) = job.messages()
    assert message["nan"] != message["nan"]
    assert message["inf"] == float("-inf")


@pytest.mark.under_runsc
def test_prints_writes_and_children_land_in_the_log_only(supervisor, program):
    path = program(
        """
        import os, subprocess, sys
        def main(backend, user_messenger):
            print("from print")
            os.write(1, b"from os.write\\n")
            subprocess.run(["/bin/sh", "-c", "echo from a child"])
            print("from stderr", file=sys.stderr)
            return "clean"
        """
    )
    job = supervisor.run(path)
    assert job.result(60) == "clean"
    for text in ("from print", "from os.write", "from a child", "from stderr"):
        assert text in job.logs()
    assert job.usage.stderr_bytes >= len(job.logs())


FAILING = {
    "program_error": "def main(backend, user_messenger):\n    return 1 / 0\n",
    "init_error": "import nothing_like_this\ndef main(backend, user_messenger): ...\n",
    "no_result": "import os\ndef main(backend, user_messenger):\n    os._exit(0)\n",
    "result_error": "def main(backend, user_messenger):\n    return {'a': [object()]}\n",
}


@pytest.mark.outcomes
@pytest.mark.under_runsc
@pytest.mark.parametrize("outcome", FAILING)
def test_a_failing_program_is_an_outcome_not_an_exception(supervisor, program, outcome):
    path = program(FAILING[outcome])
    job = supervisor.run(path)
    record = job.wait(60)
    assert record.outcome == outcome
    assert record.result is None
    with pytest.raises(JobFailedError) as caught:
        job.result()
    assert caught.value.outcome == outcome


@pytest.mark.parametrize(
    ("source", "outcome"),
    [
        ("def main(b, m):\n    raise SystemExit(0)\n", "program_error"),
        ("def main(b, m):\n    raise MemoryError\n", "program_error"),
        ("def main(b, m:\n", "init_error"),
        ("x = 1\n", "init_error"),
        ("main = 3\n", "init_error"),
        ("import os\ndef main(b, m):\n    os.kill(os.getpid(), 9)\n", "no_result"),
        ("import os\ndef main(b, m):\n    os.abort()\n", "no_result"),
        ("def main(b, m):\n    return lambda: 1\n", "result_error"),
        (
            "from functools import partial\ndef f(b, m, x): ...\nmain = partial(f)\n",
            "program_error",
        ),
    ],
)
def test_each_way_to_fail_has_its_outcome(supervisor, program, source, outcome):
    assert supervisor.run(program(source)).wait(60).outcome == outcome


@pytest.mark.under_runsc
def test_the_traceback_shows_the_users_path_and_none_of_our_frames(supervisor, program):
    path = program(
        """
        def inner():
            raise ValueError("the reason")
        def main(backend, user_messenger):
            inner()
        """
    )
    record = supervisor.run(path).wait(60)
    assert f'File "{path}", line 3, in inner' in record.traceback
    assert record.traceback.rstrip().endswith("ValueError: the reason")
    assert record.error == "ValueError: the reason"
    assert "qrunner" not in record.traceback
    assert "sandbox" not in record.traceback


@pytest.mark.under_runsc
def test_a_final_result_may_be_published_and_the_program_goes_on(supervisor, program):
    path = program(
        """
        def main(backend, user_messenger):
            user_messenger.publish("interim")
            user_messenger.publish({"answer": 42}, final=True)
            user_messenger.publish("after")
        """
    )
    job = supervisor.run(path)
    assert job.result(60) == {"answer": 42}
    assert list(job.messages()) == ["interim", "after"]


def test_after_a_published_result_an_error_keeps_it_and_a_limit_completes(supervisor, program):
    publish = "def main(b, m):\n    m.publish(1, final=True)\n    "
    raising = supervisor.run(program(publish + "raise ValueError('x')\n", "a.py")).wait(60)
    assert (raising.outcome, raising.result) == ("program_error", "1")
    hanging = program(publish + "import time; time.sleep(60)\n", "b.py")
    record = supervisor.run(hanging, limits={"timeout_s": 2}).wait(60)
    assert (record.outcome, record.result) == ("completed", "1")
    assert record.evidence.limit == "timeout_s"


@pytest.mark.under_runsc
def test_the_time_limit_ends_a_program_that_ignores_everything(supervisor, program):
    path = program(
        """
        import signal, time
        def main(backend, user_messenger):
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            while True:
                pass
        """
    )
    started = time.monotonic()
    record = supervisor.run(path, limits={"timeout_s": 1}).wait(60)
    assert record.outcome == "time_limit"
    assert record.evidence.value == 1
    assert 1 <= record.evidence.observed < 3
    assert time.monotonic() - started < 15


@pytest.mark.under_runsc
def test_memory_is_limited_and_the_outcome_says_so(supervisor, program):
    path = program("def main(b, m):\n    x = bytearray(600 << 20)\n    return len(x)\n")
    record = supervisor.run(path, limits={"memory_bytes": 300 << 20}).wait(60)
    assert record.outcome == "memory_limit"
    assert record.evidence.value == 300 << 20
    # Under runsc the whole sandbox dies, and under cgroup v1 its own count with it.
    dies_whole = record.isolation == "runsc"
    assert record.usage.oom_kills == 1 or (dies_whole and record.usage.oom_kills is None)


@pytest.mark.under_runsc
def test_processes_are_limited_and_the_outcome_says_so(supervisor, program):
    path = program(
        """
        import os, time
        def main(backend, user_messenger):
            while True:
                if os.fork() == 0:
                    time.sleep(60)
        """
    )
    record = supervisor.run(path, limits={"processes": 40}).wait(60)
    assert record.outcome == "process_limit"
    assert record.evidence.value == 40


@pytest.mark.outcomes
@pytest.mark.under_runsc
def test_limits_met_inside_are_errors_of_the_program_with_numbers(supervisor, program):
    path = program("def main(b, m):\n    m.publish('x' * 2000)\n")
    record = supervisor.run(path, limits={"message_bytes": 1000}).wait(60)
    assert (record.outcome, record.evidence.limit) == ("message_limit", "message_bytes")
    assert record.evidence.observed == 2002
    path = program("def main(b, m):\n    return 'x' * 2000\n", "big.py")
    record = supervisor.run(path, limits={"result_bytes": 1000}).wait(60)
    assert (record.outcome, record.evidence.limit) == ("result_limit", "result_bytes")


@pytest.mark.outcomes
@pytest.mark.under_runsc
def test_an_output_flood_is_cut_and_ends_the_job(supervisor, program):
    path = program("import os\ndef main(b, m):\n    while True: os.write(1, b'y' * 65536)\n")
    record = supervisor.run(path, limits={"log_bytes": 20 << 20, "log_kept_bytes": 1000}).wait(60)
    assert record.outcome == "output_limit"
    assert record.evidence.observed > 20 << 20


@pytest.mark.outcomes
@pytest.mark.under_runsc
def test_bytes_that_are_not_the_protocol_are_a_violation(supervisor, program):
    path = program(
        """
        import os
        def main(backend, user_messenger):
            for number in range(3, 1024):
                try:
                    os.write(number, b"not the protocol\\n")
                except OSError:
                    pass
            import time
            time.sleep(60)
        """
    )
    record = supervisor.run(path, limits={"timeout_s": 20}).wait(60)
    assert record.outcome == "protocol_violation"


@pytest.mark.outcomes
def test_inputs_are_refused_before_a_sandbox_is_used(supervisor, program):
    path = program("def main(b, m, x, y=1): ...\n")
    with pytest.raises(InputsError, match=r"unknown input 'z'.*missing input 'x'"):
        supervisor.run(path, {"z": 1})
    with pytest.raises(InputsError, match="iterations"):
        supervisor.run("random_circuits", {"iterations": "many"})
    with pytest.raises(InputsError, match="unknown backend 'moon'"):
        supervisor.run(path, {"x": 1}, backend="moon")


@pytest.mark.outcomes
@pytest.mark.under_runsc
def test_cancel_ends_a_running_and_a_queued_job(sandboxing, program):
    path = program(
        "import time\ndef main(b, m):\n    m.publish('up')\n    time.sleep(60)\n", "sleeper.py"
    )
    with Supervisor(**sandboxing, max_jobs=1) as supervisor:
        running, queued = supervisor.run(path), supervisor.run(path)
        assert next(running.messages()) == "up"
        assert queued.status() == "QUEUED"
        queued.cancel()
        running.cancel()
        assert running.wait(10).outcome == "cancelled"
        assert queued.wait(10).outcome == "cancelled"
        assert list(running.messages()) == ["up"]
        assert queued.image is None


@pytest.mark.under_runsc
def test_a_stalled_callback_delays_neither_deadline_nor_outcome(supervisor, program):
    path = program(
        "def main(b, m):\n    n = 0\n    while True:\n        m.publish(n); n += 1\n", "chatty.py"
    )
    release = threading.Event()
    try:
        job = supervisor.run(path, callback=lambda *_: release.wait(30), limits={"timeout_s": 2})
        record = job.wait(20)
        assert record.outcome in {"time_limit", "message_limit"}
        if record.outcome == "time_limit":
            assert record.evidence.observed < 5
    finally:
        release.set()


def test_the_image_is_one_that_docker_can_run(supervisor):
    job = supervisor.run("hello_world", backend="aer_simulator")
    job.result(60)
    command = ["docker", "run", "--rm", "--network=none", job.image, "python3", "-c"]
    code = "import qiskit, qiskit_aer; print(qiskit.__version__)"
    done = subprocess.run([*command, code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout[0].isdigit()


@pytest.mark.under_runsc
def test_the_record_is_complete(supervisor, sandboxing):
    job = supervisor.run("hello_world", backend="aer_simulator")
    job.result(60)
    record = job.record
    assert record.carrier == (sandboxing["carrier"] or "socket")
    assert record.isolation == sandboxing["isolation"]
    assert record.policy.startswith("sha256:")
    assert record.image.startswith("sha256:")
    assert all(record.timestamps[name] for name in ("created", "started", "finished"))
    assert set(record.usage.sources) >= {"wall_s", "cpu_s", "memory_peak_bytes", "oom_kills"}


def test_a_job_is_for_its_user_wherever_it_is_asked_for(program, tmp_path):
    path = program("def main(b, m, n=0):\n    return n\n")
    with Supervisor(store=tmp_path / "jobs") as supervisor, Supervisor() as unkept:
        alices = supervisor.run(path, user="alice")
        with supervisor.session(path, backend="none", user="bob") as session:
            bobs = session.run({"n": 1})
            assert bobs.wait(60).user == "bob"
        mapped = list(supervisor.map(path, [{"n": 2}, {"x": 3}], backend="none", user="carol"))
        assert [each.record.user for each in mapped] == ["carol", "carol"]
        alices.wait(60)
        again = supervisor.replay(alices.id)
        for_dan = supervisor.replay(alices.id, user="dan")
        assert (again.wait(60).user, for_dan.wait(60).user) == ("alice", "dan")
        assert supervisor.jobs(user="alice") == [again, alices]
        assert supervisor.jobs(user="bob") == [bobs]
        assert supervisor.job(alices.id, user="alice") is alices
        with pytest.raises(UnknownJobError):
            supervisor.job(alices.id, user="bob")
        live = [unkept.run(path, user=user) for user in ("alice", "bob")]
        assert unkept.jobs(user="bob") == live[1:]
        with pytest.raises(UnknownJobError):
            unkept.job(live[0].id, user="bob")
        with pytest.raises(RequestError, match="user is 'a.nb'"):
            unkept.run(path, user="a\nb")
        for each in live:
            each.wait(60)


def test_owner_is_user_for_one_more_release(program):
    path = program("def main(b, m):\n    return 1\n")
    with Supervisor() as supervisor:
        with pytest.warns(DeprecationWarning, match="write user=") as caught:
            job = supervisor.run(path, owner="alice")
        assert [each.filename for each in caught] == [bare.__file__]  # who called `run`
        assert job.wait(60).user == "alice"
        with (
            pytest.warns(DeprecationWarning, match="owner"),
            supervisor.session(path, backend="none", owner="bob") as session,
        ):
            assert session.user == "bob"
        with pytest.warns(DeprecationWarning, match="owner"):
            assert not list(supervisor.map(path, [], owner="carol"))
        with (
            pytest.warns(DeprecationWarning, match="owner"),
            pytest.raises(RequestError, match="user is 'alice' and owner 'bob'"),
        ):
            supervisor.run(path, user="alice", owner="bob")


@pytest.mark.under_runsc
def test_leaving_the_block_ends_what_it_started(sandboxing, program, engine):
    path = program("import time\ndef main(b, m):\n    m.publish(1)\n    time.sleep(60)\n")
    before = {*containers_of(engine, os.getpid())}  # zygotes of the supervisor of other tests
    with Supervisor(**sandboxing) as supervisor:
        job = supervisor.run(path)
        next(job.messages())
        assert {*containers_of(engine, os.getpid())} - before
    assert job.outcome is Outcome.CANCELLED
    assert not {*containers_of(engine, os.getpid())} - before


@pytest.mark.outcomes
@pytest.mark.under_runsc
def test_the_container_is_gone_soon_after_its_supervisor_is_killed(sandboxing, program, engine):
    path = program("import time\ndef main(b, m):\n    m.publish('up')\n    time.sleep(120)\n")
    code = f"""
import sys
from tests.engine import bare
from tests.engine.bare import Supervisor
supervisor = Supervisor(**{sandboxing!r})
job = supervisor.run({str(path)!r})
print(next(job.messages()), flush=True)
print(job.result())
"""
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline() == "up\n"
        assert len(containers_of(engine, child.pid)) == 1
        os.kill(child.pid, signal.SIGKILL)
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    assert within(5, lambda: not containers_of(engine, child.pid))


def test_more_jobs_than_slots_all_get_their_own_result(sandboxing, program):
    path = program("def main(b, m, n):\n    return n * n\n", "square.py")
    with Supervisor(**sandboxing, max_jobs=4) as supervisor:
        jobs = [supervisor.run(path, {"n": n}) for n in range(8)]
        assert [job.result(120) for job in jobs] == [n * n for n in range(8)]


def test_the_carrier_is_found_out_by_the_first_sandbox():
    with Supervisor(limits=Limits(timeout_s=60)) as supervisor:
        job = supervisor.run("hello_world", backend="aer_simulator")
        job.result(60)
        assert job.record.carrier in {"socket", "stdio"}


@pytest.mark.skipif(os.geteuid() != 0, reason="a mount of its own needs root")
def test_where_the_engine_sees_another_directory_messages_go_over_stdio_and_it_is_said_once():
    script = """if True:
        from runner import Supervisor
        with Supervisor() as supervisor:
            for _ in range(2):
                job = supervisor.run("hello_world", backend="aer_simulator")
                print(job.result(60) is not None, len(list(job.messages())), job.record.carrier)
    """
    mounting = 'mount -t tmpfs -o mode=1777 private "$1" && TMPDIR="$1" exec "$2" -c "$3"'
    with tempfile.TemporaryDirectory(prefix="q", dir="/tmp") as place:  # a socket's path is short
        command = ["unshare", "--mount", "sh", "-c", mounting, "sh", place, sys.executable, script]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.split("\n")[:2] == ["True 1 stdio", "True 1 stdio"], done
    assert done.stderr.count("messages go over stdio") == 1


def test_on_a_mac_nothing_of_the_host_is_mounted(monkeypatch):
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    with Supervisor(limits=Limits(timeout_s=60)) as supervisor:
        job = supervisor.run("hello_world", backend="aer_simulator")
        job.result(60)
        assert job.record.carrier == "stdio"


def test_proxy_settings_of_the_users_docker_configuration_stay_outside(
    tmp_path, monkeypatch, program
):
    settings = {"proxies": {"default": {"httpProxy": "http://proxy.example:3128"}}}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    path = program("import os\ndef main(b, m):\n    return dict(os.environ)\n", "env.py")
    with Supervisor() as supervisor:
        environment = supervisor.run(path).result(60)
    assert not [name for name in environment if "proxy" in name.lower()]
    assert not Path("/run/qrunner").exists()
