"""Cells: the walls around a job, its limits and evidence, and what ends with what."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest

from runner import Limits
from runner.engine import Engine
from runner.policy import Policy
from runner.sandboxes import zygote, zygotes
from tests.contract.test_randomness import DRAWS, IMPORTS
from tests.engine.bare import Supervisor
from tests.engine.traces import (
    children_of,
    containers_of,
    holdings_here,
    processes_in,
    traces_of,
)
from tests.waiting import within

pytestmark = pytest.mark.engine

ANYTHING = """
def main(backend, user_messenger, code="", **inputs):
    names = {"backend": backend, "messenger": user_messenger, "value": None, **inputs}
    exec(code, names)
    return names["value"]
"""
WAIT = "import time; messenger.publish('up'); time.sleep(120)"
SEVEN = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")


def obstacle_to_cells():
    """Return why there are no cells on this host, empty if there are."""
    with Supervisor() as supervisor:
        supply = supervisor._site.supply
        supply._prepare()
        return supply.cell_obstacle(Policy())


@pytest.fixture(scope="module", autouse=True)
def possible(engine):
    """Skip where cells cannot be made."""
    if obstacle := obstacle_to_cells():
        pytest.skip(obstacle)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    written = tmp_path_factory.mktemp("programs") / "anything.py"
    written.write_text(ANYTHING)
    return written


@pytest.fixture(scope="module")
def cells():
    with Supervisor(warm=True) as running:
        yield running


@pytest.fixture(scope="module")
def containers():
    with Supervisor(warm=True, cells=False) as running:
        yield running


def do(supervisor, path, code, inputs=None, **arguments):
    """Run a job to its end; return its handle."""
    job = supervisor.run(path, {"code": code, **(inputs or {})}, **arguments)
    job.wait(60)
    return job


def test_on_demand_the_first_job_has_a_container_and_leaves_a_zygote_for_those_that_follow(
    path, engine
):
    before = containers_of(engine, os.getpid()).keys()
    with Supervisor(cells="on demand") as supervisor:
        assert do(supervisor, path, "value = 1").record.place == "container"
        assert within(60, lambda: supervisor.zygotes()[0] == 1)
        assert do(supervisor, path, "value = 2").record.place == "cell"
        supervisor.run(path, {"code": "value = 3"}, backend="none").result(timeout=60)
        assert supervisor.zygotes()[0] == 1  # one is enough for this program
    assert containers_of(engine, os.getpid()).keys() <= before


def test_a_zygote_that_is_being_started_for_later_jobs_ends_with_its_supervisor(path, engine):
    before = containers_of(engine, os.getpid()).keys()
    with Supervisor(cells="on demand") as supervisor:
        do(supervisor, path, "value = 1")
        began = time.monotonic()
    assert time.monotonic() - began < 5
    assert containers_of(engine, os.getpid()).keys() <= before


def test_the_record_says_in_what_kind_of_place_a_job_ran(cells, containers, path):
    assert do(cells, path, "value = 1").record.place == "cell"
    assert do(containers, path, "value = 1").record.place == "container"
    with Supervisor() as cold:
        assert do(cold, path, "value = 1").record.place == "container"
        with cold.session(path, backend="none") as session:
            job = session.run({"code": "value = 1"})
            assert (job.wait(60).place, job.record.exceptions) == ("cell", ())
    with Supervisor(cells=False) as forks, forks.session(path, backend="none") as session:
        job = session.run({"code": "value = 1"})
        assert (job.wait(60).place, job.record.exceptions[-1:]) == ("session", ("session",))


def test_cells_can_be_switched_off_in_the_environment(path, monkeypatch):
    monkeypatch.setenv("QRUNNER_CELLS", "off")
    with Supervisor(warm=True) as supervisor:
        assert do(supervisor, path, "value = 1").record.place == "container"


# --- walls ----------------------------------------------------------------------------------------

NAMESPACES = """
import os
value = {each: os.readlink(f"/proc/self/ns/{each}") for each in names}
messenger.publish(value)
"""


def test_a_cell_shares_no_namespace_with_its_neighbour_its_zygote_or_the_host(path, client):
    stay = f"{NAMESPACES}\nimport time; time.sleep(60)"
    with Supervisor(warm=True, max_jobs=2) as supervisor:
        jobs = [supervisor.run(path, {"code": stay, "names": SEVEN}) for _ in range(2)]
        one, other = (next(job.messages()) for job in jobs)
        (first,) = zygotes_of(supervisor)
        beside = [os.getpid(), *processes_of(client, first)]
        others = {Path(f"/proc/{pid}/ns/{each}").readlink() for pid in beside for each in SEVEN}
    assert not {*one.values()} & {*other.values()}
    assert not {*one.values(), *other.values()} & {*map(str, others)}


LOOK = """
import os, resource, stat
def lines(path, *keys):
    found = [line.split(":", 1) for line in open(path).read().splitlines()]
    return {key: rest.split() for key, rest in found if not keys or key in keys}
def kind(number):
    try: return stat.S_IFMT(os.fstat(number).st_mode)
    except OSError: return None
keys = "CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs Seccomp Seccomp_filters SigIgn SigBlk".split()
value = {
    **lines("/proc/self/status", *keys),
    "descriptors": sorted(filter(None, map(kind, range(1024)))),
    "limits": open("/proc/self/limits").read(),
    "environment": dict(os.environ),
    "groups": open("/proc/self/cgroup").read(),
    "oom": open("/proc/self/oom_score_adj").read(),
    "place": [os.getcwd(), os.uname().nodename, os.sched_getaffinity(0) == os.sched_getaffinity(1)],
    "id": [os.getuid() == os.geteuid() == os.getgid(), os.getgroups() == [os.getgid()]],
    "leader": [os.getsid(0) == os.getpid(), os.getppid()],
    "files": {each: sorted(os.listdir(each)) for each in ("/", "/dev", "/tmp", "/dev/shm", "/run")},
    "mounts": sorted({line.split()[4] for line in open("/proc/self/mountinfo")}),
}
"""


def test_a_program_in_a_cell_has_what_it_has_in_a_container_and_no_more(cells, containers, path):
    mine, theirs = (do(each, path, LOOK).result() for each in (cells, containers))
    for each in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert mine[each] == ["0" * 16]
    filters = [int(each.pop("Seccomp_filters")[0]) for each in (mine, theirs)]
    assert filters == [2, 1]
    mounts, usual = (set(each.pop("mounts")) for each in (mine, theirs))
    assert mounts - usual == {"/sys/fs/cgroup"} - usual
    assert usual <= mounts
    assert mine == theirs


MASKED = """
import os
value = {}
for each in paths:
    try: value[each] = os.listdir(each) if os.path.isdir(each) else open(each).read()
    except OSError as error: value[each] = error.strerror
for each in frozen:
    try: os.close(os.open(each, os.O_WRONLY)); value[each] = "opened"
    except OSError as error: value[each] = error.strerror
"""


def test_the_masks_of_a_container_are_those_of_a_cell(cells, containers, path):
    policy = Policy()
    inputs = {
        "paths": [*policy.masked_paths],
        "frozen": [
            "/proc/sys/kernel/hostname",
            "/proc/sys/vm/overcommit_memory",
            "/proc/sys/net/ipv4/ip_forward",
            "/proc/sysrq-trigger",
            "/sys/fs/cgroup/memory.max",
        ],
    }
    mine, theirs = (do(each, path, MASKED, inputs).result() for each in (cells, containers))
    assert {each: mine[each] for each in policy.masked_paths} == {
        each: theirs[each] for each in policy.masked_paths
    }
    assert not [each for each in policy.masked_paths if mine[each] and "No such" not in mine[each]]
    assert not {each: mine[each] for each in inputs["frozen"] if mine[each] == "opened"}


def test_nothing_that_a_cell_leaves_is_there_for_the_next(cells, path):
    leave = """
import os, random
for each in ("/tmp", "/dev/shm", "/out"): open(f"{each}/left", "x")
try: os.utime("/dev/null"); value = "the time of a device is set"
except OSError as error: value = error.strerror
os.environ["LEFT"] = "1"; random.seed(1)
import builtins; builtins.left = 1
"""
    assert do(cells, path, leave).result() == "Read-only file system"
    look = """
import builtins, os
files = [each for _, _, found in (*os.walk("/tmp"), *os.walk("/dev/shm")) for each in found]
value = [files, "LEFT" in os.environ, hasattr(builtins, "left")]
"""
    assert do(cells, path, look).result() == [[], False, False]


def test_no_two_cells_draw_the_same_random_numbers(cells, tmp_path):
    path = tmp_path / "draws.py"
    early = "".join(f"    import {each}\n" for each in IMPORTS.split(","))  # in the zygote
    path.write_text(f"{ANYTHING}\ndef unused():\n{early}")
    limits = {"timeout_s": 200}
    jobs = [cells.run(path, {"code": DRAWS}, limits=limits) for _ in range(2)]
    one, other = (job.result(220) for job in jobs)
    assert {job.record.place for job in jobs} == {"cell"}
    assert not [name for name in one if one[name] == other[name]]


def test_the_programs_output_can_be_opened_again(cells, path):
    code = """
import os, subprocess
open("/dev/stderr", "w").write("one "); open("/dev/stdout", "w").write("two ")
subprocess.run(["/bin/sh", "-c", "echo three > /dev/stderr"], check=True)
"""
    assert do(cells, path, code).logs() == "one two three\n"


def test_a_cell_sees_no_socket_but_its_own_and_not_the_hosts_way_to_others(cells, containers, path):
    code = "value = len(open('/proc/net/unix').readlines())"
    assert do(cells, path, code).result() == do(containers, path, code).result()
    code = "import os; value = os.listdir('/run/qrunner')"
    assert do(cells, path, code).result() == []


# --- limits and evidence --------------------------------------------------------------------------

BEYOND = {
    "memory": ("x = bytearray(400 << 20)", {"memory_bytes": 200 << 20}),
    "memory of a child": (
        "import os\nif not os.fork(): x = bytearray(400 << 20)\nraise SystemExit(os.wait()[1])",
        {"memory_bytes": 200 << 20},
    ),
    "memory in /tmp": (
        "f = open('/tmp/x', 'wb')\nfor _ in range(60): f.write(bytes(1 << 20))",
        {"memory_bytes": 200 << 20, "tmp_bytes": 40 << 20},
    ),
    "inodes in /tmp": (
        "for number in range(100): open(f'/tmp/{number}', 'x')",
        {"tmp_inodes": 50},
    ),
    "inodes in /dev/shm": ("for number in range(2000): open(f'/dev/shm/{number}', 'x')", {}),
    "bytes in /dev/shm": (
        "f = open('/dev/shm/x', 'wb')\nfor _ in range(20): f.write(bytes(1 << 20))",
        {},
    ),
    "processes": (
        "import os, time\nwhile True:\n    if not os.fork(): time.sleep(60)",
        {"processes": 20},
    ),
    "time": ("while True: pass", {"timeout_s": 1}),
    "output": ("import os\nwhile True: os.write(1, b'x' * 65536)", {"log_bytes": 1 << 20}),
    "messages": ("while True: messenger.publish(1)", {"messages": 100}),
    "a message": ("messenger.publish('x' * (2 << 20))", {}),
    "a result": ("value = 'x' * (2 << 20)", {"result_bytes": 1 << 20}),
    "descriptors": ("import os\nkept = [os.dup(1) for _ in range(2000)]", {}),
    "a file": ("import os\nos.truncate(os.open('/tmp/x', os.O_CREAT | os.O_RDWR), 1 << 40)", {}),
}


def ending(job):
    record = job.record
    found = record.evidence
    seen = found and (found.limit, found.value, found.source)
    return record.outcome, seen, record.error and record.error.partition(":")[0]


@pytest.mark.parametrize("name", BEYOND)
def test_a_limit_ends_a_cell_as_it_ends_a_container(cells, containers, path, name):
    code, limits = BEYOND[name]
    mine, theirs = (do(each, path, code, limits=limits) for each in (cells, containers))
    assert mine.record.place == "cell"
    assert mine.outcome != "completed"
    lacks = "inodes" in name and theirs.record.exceptions  # containers of Podman
    assert lacks or ending(mine) == ending(theirs)


@pytest.mark.outcomes
def test_running_out_of_memory_is_counted_in_the_cells_own_group(cells, path):
    job = do(cells, path, "x = bytearray(400 << 20)", limits={"memory_bytes": 200 << 20})
    assert job.outcome == "memory_limit"
    assert (job.record.evidence.limit, job.record.evidence.value) == ("memory_bytes", 200 << 20)
    assert job.record.evidence.source == "cgroup"
    assert job.usage.oom_kills == 1
    assert 100 << 20 < job.usage.memory_peak_bytes <= 200 << 20
    after = do(cells, path, "value = 1")
    assert after.usage.oom_kills == 0
    assert after.usage.memory_peak_bytes < 100 << 20


FORKS_IN_ITS_IMPORT = """
import os, time
for _ in range(5):
    if os.fork() == 0:
        time.sleep(60)
        os._exit(0)
def main(backend, user_messenger):
    user_messenger.publish("up")
    time.sleep(60)
"""


def test_all_of_a_program_is_in_its_cells_group_from_its_first_line_on(program):
    with Supervisor(warm=True) as supervisor:
        job = supervisor.run(program(FORKS_IN_ITS_IMPORT))
        assert next(job.messages()) == "up"
        (each,) = zygotes_of(supervisor).values()
        assert len(processes_in(f"/{each.sandbox.name}-")) == 7  # the first one and the worker too


@pytest.mark.outcomes
def test_each_job_is_charged_with_its_own_time_and_memory(cells, path):
    burn = """
import time
end = time.process_time() + 0.6
while time.process_time() < end: pass
x = b"x" * (150 << 20)
"""
    costly, idle = do(cells, path, burn), do(cells, path, "value = 1")
    assert 0.6 <= costly.usage.cpu_s < costly.usage.wall_s + 0.2  # one core
    assert costly.usage.memory_peak_bytes > 150 << 20
    assert idle.usage.cpu_s < 0.3
    assert idle.usage.memory_peak_bytes < 100 << 20
    for job in (costly, idle):
        assert {job.usage.sources[each] for each in ("cpu_s", "memory_peak_bytes")} == {"cgroup"}


def test_the_cores_of_a_job_are_limited_by_its_own_group(cells, path):
    code = """
import os, time
if not os.fork():
    while True: pass
before, end = sum(os.times()[:4]), time.monotonic() + 2
while time.monotonic() < end: pass
"""
    job = do(cells, path, code, limits={"cpus": 0.25})
    assert job.usage.cpu_s < 0.25 * job.usage.wall_s + 0.4


@pytest.mark.outcomes
def test_jobs_of_one_zygote_have_each_their_own_limits_at_the_same_time(path):
    code = """
import os, time
messenger.publish("up")
room = os.statvfs("/tmp").f_blocks * os.statvfs("/tmp").f_frsize
alive = 0
while alive < 25 and time.sleep(0.02) is None:
    if os.fork() == 0: time.sleep(60)
    alive += 1
value = [room, alive]
"""
    limits = [{"processes": each, "tmp_bytes": each << 20} for each in (10, 40, 20, 30)]
    with Supervisor(warm=True, max_jobs=4) as supervisor:
        do(supervisor, path, "value = 1")
        jobs = [supervisor.run(path, {"code": code}, limits=each) for each in limits]
        outcomes = [job.wait(60).outcome for job in jobs]
        assert outcomes == ["process_limit", "completed", "process_limit", "completed"]
        assert [jobs[number].result() for number in (1, 3)] == [[40 << 20, 25], [30 << 20, 25]]
        assert {job.record.place for job in jobs} == {"cell"}
        assert len(zygotes_of(supervisor)) == 1


def test_jobs_with_more_and_less_memory_are_limited_side_by_side(cells, path):
    take = "x = b'x' * (300 << 20); messenger.publish('has'); import time; time.sleep(1)"
    limits = [{"memory_bytes": each << 20} for each in (150, 450)]
    jobs = [cells.run(path, {"code": take}, limits=each) for each in limits]
    assert [job.wait(60).outcome for job in jobs] == ["memory_limit", "completed"]
    assert {job.record.place for job in jobs} == {"cell"}


# --- how zygotes end ------------------------------------------------------------------------------


def zygotes_of(supervisor):
    """Return the zygotes of a supervisor, with their containers' ids."""
    found = supervisor._site.supply._zygotes._zygotes.values()
    return {each.sandbox.container: each for each in found}


def processes_of(client, container):
    """Return the ids, on this host, of a container's first process and of its first child."""
    first = client.api.inspect_container(container)["State"]["Pid"]
    return first, min(children_of(first))


def test_a_zygote_that_is_killed_while_it_waits_is_replaced(path, engine):
    before = containers_of(engine, os.getpid())
    with Supervisor(warm=True) as supervisor:
        do(supervisor, path, "value = 1")
        (first,) = zygotes_of(supervisor)
        engine.kill(first)
        job = do(supervisor, path, "value = 2")
        assert (job.result(), job.record.place) == (2, "cell")
        assert first not in zygotes_of(supervisor)
    assert within(10, lambda: {*containers_of(engine, os.getpid())} <= {*before})


@pytest.mark.parametrize("whole", [True, False], ids=["container", "process"])
def test_a_zygote_that_dies_during_a_job_ends_it_as_no_fault_of_the_program(
    path, engine, client, whole
):
    with Supervisor(warm=True) as supervisor:
        job = supervisor.run(path, {"code": WAIT})
        assert next(job.messages()) == "up"
        (first,) = zygotes_of(supervisor)
        if whole:
            engine.kill(first)
        else:
            os.kill(processes_of(client, first)[1], signal.SIGKILL)
        record = job.wait(30)
        assert record.outcome == "sandbox_error"
        assert "zygote" in record.error
        again = do(supervisor, path, "value = 2")
        assert (again.result(), again.record.place) == (2, "cell")


def test_a_result_that_was_complete_before_the_zygote_died_counts(path, engine):
    code = "import time; messenger.publish(7, final=True); messenger.publish('up'); time.sleep(60)"
    with Supervisor(warm=True) as supervisor:
        job = supervisor.run(path, {"code": code})
        assert next(job.messages()) == "up"
        engine.kill(*zygotes_of(supervisor))
        assert (job.wait(30).outcome, job.result()) == ("completed", 7)


class FragileEngine(Engine):
    """Kills its first container as soon as that has started."""

    fragile = 1

    def start(self, container):
        super().start(container)
        if self.fragile:
            self.fragile -= 1
            self.kill(container)


def test_a_zygote_that_dies_before_it_is_ready_is_a_sandbox_error(path, engine):
    before = containers_of(engine, os.getpid())
    with (
        contextlib.closing(FragileEngine.connect()) as fragile,
        Supervisor(warm=True, engine=fragile) as supervisor,
    ):
        job = do(supervisor, path, "value = 1")
        assert job.outcome == "sandbox_error"
        assert "before it was ready" in job.record.error
        again = do(supervisor, path, "value = 2")
        assert (again.result(), again.record.place) == (2, "cell")
    assert within(10, lambda: {*containers_of(engine, os.getpid())} <= {*before})


def test_a_zygote_that_does_not_answer_is_given_up_and_the_job_has_another(
    path, client, engine, monkeypatch
):
    before = containers_of(engine, os.getpid())
    with Supervisor(warm=True) as supervisor:
        do(supervisor, path, "value = 1")
        (first,) = zygotes_of(supervisor)
        os.kill(processes_of(client, first)[1], signal.SIGSTOP)
        monkeypatch.setattr(zygote, "_CELL_S", 5.0)
        job = do(supervisor, path, "value = 2")
        assert (job.result(), job.record.place) == (2, "cell")
        assert first not in zygotes_of(supervisor)
    assert within(10, lambda: {*containers_of(engine, os.getpid())} <= {*before})


def test_an_edited_program_has_a_zygote_of_its_own(tmp_path):
    path = tmp_path / "edited.py"
    with Supervisor(warm=True) as supervisor:
        for number in range(2):
            path.write_text(f"def main(b, m):\n    return {number}\n")
            job = supervisor.run(path)
            assert (job.result(60), job.record.place) == (number, "cell")
        assert len(zygotes_of(supervisor)) == 2


def test_a_zygote_that_nobody_uses_goes(path, engine, monkeypatch):
    with Supervisor(warm=True) as supervisor:
        job = supervisor.run(path, {"code": WAIT})
        assert next(job.messages()) == "up"
        monkeypatch.setattr(zygotes, "IDLE_S", 0.5)
        time.sleep(2)
        (first,) = zygotes_of(supervisor)  # it has a cell
        job.cancel()
        job.wait(10)
        assert within(15, lambda: first not in containers_of(engine, os.getpid()))
        again = do(supervisor, path, "value = 1")
        assert (again.result(), again.record.place) == (1, "cell")


@pytest.mark.outcomes
def test_nothing_is_left_of_cells_whose_supervisor_is_killed(engine, child, path):
    code = """
    supervisor = Supervisor(warm={path: 2})
    assert supervisor.wait_until_warm(60)
    job = supervisor.run(path, {"code": "messenger.publish(1); import time; time.sleep(60)"})
    print(next(job.messages()), supervisor.wait_until_warm(60), flush=True)
    time.sleep(120)
    """
    process = child(code, path)
    assert process.stdout.readline() == "1 True\n"
    mark = f".{process.pid}."
    assert len(containers_of(engine, process.pid)) == 1
    assert processes_in(mark)
    process.kill()
    process.wait()
    # The lifeline first: no process is left long before somebody has swept.
    assert within(3, lambda: not processes_in(mark))
    assert within(15, lambda: not traces_of(engine, process.pid))


# --- one after another ----------------------------------------------------------------------------


OF_OTHERS = dict.fromkeys(("descriptors", "threads", "children"), 10)
"""What other supervisors of this process may open meanwhile: far less than one for each cell."""


def growth_of(supervisor, engine, client):
    """Count what many cells could leave: here, in the zygote, and in the kernel."""
    (container,) = zygotes_of(supervisor)
    _, worker = processes_of(client, container)
    groups = [each for each, _, _ in os.walk("/sys/fs/cgroup") if f".{os.getpid()}." in each]
    return {
        **holdings_here(),
        "groups": len(groups),
        "children of the zygote": len(children_of(worker)),
        "descriptors of the zygote": len(list(Path(f"/proc/{worker}/fd").iterdir())),
        "mounts of the zygote": len(Path(f"/proc/{worker}/mountinfo").read_text().splitlines()),
        "containers": len(containers_of(engine, os.getpid())),
    }


def test_after_two_hundred_cells_everything_is_as_it_was_before(path, engine, client):
    with Supervisor(warm=True) as supervisor:
        assert [do(supervisor, path, "value = 1").result() for _ in range(5)]
        before = growth_of(supervisor, engine, client)
        codes = ["value = 1", "1 / 0", "import os; os._exit(0)", "import os; os.fork()"]
        for number in range(200):
            assert do(supervisor, path, codes[number % len(codes)]).record.place == "cell"

        def grown():
            after = growth_of(supervisor, engine, client)
            return {
                name: (before[name], count)
                for name, count in after.items()
                if count > before[name] + OF_OTHERS.get(name, 0)
            }

        assert within(10, lambda: not grown()), grown()


def test_linear_algebra_in_a_cell_waits_for_no_thread_of_the_zygote(tmp_path):
    path = tmp_path / "algebra.py"
    path.write_text(
        "import numpy\n"
        "def main(b, m):\n"
        "    return float((numpy.ones((600, 600)) @ numpy.ones((600, 600)))[0, 0])\n"
    )
    cpus = min(2, len(os.sched_getaffinity(0)))
    with Supervisor(limits=Limits(cpus=cpus, timeout_s=30)) as own:
        for backend in ("none", "aer_simulator"):  # with and without Qiskit in the zygote
            with own.map(path, [{}], backend=backend) as jobs:
                (job,) = jobs
                assert (job.record.place, job.result()) == ("cell", 600.0)
