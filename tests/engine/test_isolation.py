"""What differs between the isolations, as the table of differences says it."""

from __future__ import annotations

import pytest

from runner.doctor.differences import DIFFERENCES
from tests.engine.bare import Supervisor
from tests.security.test_seccomp import PROGRAMS as HONEST
from tests.security.test_seccomp import WITH_BACKEND, WORKLOAD

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("runsc")]

PROGRAMS = {
    "memory": (
        "def main(b, m):\n    return len(bytearray(600 << 20))\n",
        {"memory_bytes": 300 << 20},
    ),
    "processes": (
        "import threading, time\n"
        "def main(b, m):\n"
        "    while True:\n"
        "        threading.Thread(target=time.sleep, args=(30,), daemon=True).start()\n",
        {"processes": 40},
    ),
    "inodes of /tmp and /dev/shm": (
        "def main(b, m):\n    for n in range(5000):\n        open(f'/tmp/{n}', 'w').close()\n",
        {"tmp_inodes": 4096},
    ),
    "OOM score": (
        "import os\n"
        "def main(b, m):\n    os.write(os.open('/proc/self/oom_score_adj', 1), b'-1000')\n",
        {},
    ),
    # It waits: gVisor delivers the signal while the sender goes on, whose result may be faster.
    "SIGKILL to PID 1": (
        "import os, time\ndef main(b, m):\n    os.kill(1, 9)\n    time.sleep(2)\n",
        {},
    ),
    "memory of PID 1": ("def main(b, m):\n    open('/proc/1/mem', 'rb').read(1)\n", {}),
    "system-call filter": ("import os\ndef main(b, m):\n    os.memfd_create('x')\n", {}),
}
EXPECTED = {each.option: each for each in DIFFERENCES}


@pytest.fixture(scope="module", params=["runc", "runsc"])
def supervisor(request):
    with Supervisor(isolation=request.param) as running:
        yield running


@pytest.mark.parametrize("option", PROGRAMS)
def test_each_isolation_has_the_outcome_of_the_table(supervisor, program, option):
    source, limits = PROGRAMS[option]
    record = supervisor.run(program(source), limits=limits).wait(60)
    expected = EXPECTED[option]
    wanted = expected.runc_outcome if record.isolation == "runc" else expected.runsc_outcome
    assert record.outcome == wanted, record.evidence
    if wanted.endswith("_limit"):
        assert record.evidence.value in limits.values()
        assert record.evidence.source in {"cgroup", "engine", "guest"}


def test_a_sentry_that_cannot_grow_is_a_process_limit_and_nobody_elses_fault(program, monkeypatch):
    # As little room as lets it start: the bomb meets the host's group before the sentry's limit.
    for module in ("runner.sandboxes.container", "runner.running.verdict"):
        monkeypatch.setattr(f"{module}.host_tasks", lambda isolation, processes: 120)
    source = "import os, time\ndef main(b, m):\n    while os.fork(): pass\n    time.sleep(30)\n"
    with Supervisor(isolation="runsc") as supervisor:
        record = supervisor.run(program(source), limits={"processes": 100}).wait(60)
    assert record.outcome == "process_limit"
    assert record.evidence.source == "cgroup"


# All that wants no backend, but for `listing`: `ls` fails at gVisor's own `statx` (20221219).
@pytest.mark.parametrize("part", sorted({*WORKLOAD} - WITH_BACKEND - {"listing"}))
def test_honest_work_passes_in_each_isolation(supervisor, part):
    job = supervisor.run(HONEST / "workload.py", {"part": part}, backend="none")
    assert job.result(60) == WORKLOAD[part]
