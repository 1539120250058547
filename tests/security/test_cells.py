"""Hostile programs in cells: each ends as in a container, and takes nothing from other cells.

A selection of the corpus, with QRUNNER_TEST_EVERYWHERE=1 all of it; `make corpus` runs all of it in
every kind of place.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from runner import Supervisor
from runner.checking.cases import cases
from runner.programs import read_directory
from tests.engine.test_cells import obstacle_to_cells
from tests.security.in_sessions import CORPUS

pytestmark = [pytest.mark.engine, pytest.mark.security]

SOME = (
    "attack-pid-1",
    "channel-more-connections",
    "channel-pass-descriptors",
    "forged-frames",
    "gain-privileges",
    "kernel-interfaces",
    "kernel-knobs",
    "leaked-descriptors",
    "leave-traces",
    "life-drops-the-lifeline",
    "life-kills-everything",
    "life-survivors",
    "look-around",
    "new-namespaces",
    "priority-and-locks",
    "quotas-of-a-user",
    "reach-for-others",
    "walls-from-inside",
)
ALL = tuple(sorted(path.parent.name for path in CORPUS.glob("*/program.yaml")))
NAMES = ALL if os.environ.get("QRUNNER_TEST_EVERYWHERE") else SOME
LIMITS = {"memory_bytes": 256 << 20, "timeout_s": 100}
SLACK_S = 0.03
"""A core that a flood has heated up, and the other tests of a busy machine."""

HOSTILE = Path(__file__).parents[2] / "benchmarks" / "programs" / "hostile.py"


@pytest.fixture(scope="module", autouse=True)
def possible(engine):
    """Skip where cells cannot be made."""
    if obstacle := obstacle_to_cells():
        pytest.skip(obstacle)


@pytest.fixture(scope="module")
def supervisor():
    with Supervisor(warm=True) as running:
        yield running


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_program_ends_as_it_must_in_a_cell(supervisor, name):
    program = read_directory(CORPUS / name)
    found = [
        (case, supervisor.run(program, case.inputs, backend=case.backend, limits=case.limits))
        for case in cases(program)
    ]
    assert not {case.name: problems for case, job in found if (problems := case.problems(job))}
    assert {job.record.place for _, job in found} == {"cell"}


HONEST = """
import fcntl, os, signal, subprocess, threading, time
def honest(user_messenger, n):
    for each in range(n):
        user_messenger.publish(each)
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ)
    thread = threading.Thread(target=lambda: os.write(writer, b"x" * 4000))
    thread.start()
    data = os.read(reader, 4000)
    thread.join()
    said = subprocess.run(["/bin/echo", "honest"], capture_output=True, text=True).stdout
    signal.setitimer(signal.ITIMER_REAL, 60)
    with open("/tmp/lock", "w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
    return [n * n, len(data), said, os.listdir("/tmp"), len(os.listdir("/proc/self/fd"))]
"""


def honest_jobs(supervisor, path, *hostile):
    """Run honest jobs one after another; return results, messages, and the time of the quickest.

    Other tests run beside this one, and slow down some jobs but not all.
    """
    found, seconds = [], []
    for n in range(10, 25):
        began = time.monotonic()
        job = supervisor.run(path, {"n": n}, backend="none", limits=LIMITS)
        found.append((job.result(60), list(job.messages())))
        seconds.append(time.monotonic() - began)
        assert job.record.place == "cell"
    assert not [each for each in hostile if each.outcome]
    return found, min(seconds)


def test_two_hostile_cells_take_nothing_from_an_honest_one(tmp_path):
    """All in one zygote, so of one user: what is counted by user is taken, and the rest flooded."""
    written = tmp_path / "all.py"
    written.write_text(
        f"GREEDY = {(CORPUS / 'quotas-of-a-user' / 'program.py').read_text()!r}\n"
        f"FLOODING = {HOSTILE.read_text()!r}\n"
        f"{HONEST}\n"
        "def main(backend, user_messenger, n=0, source='', **inputs):\n"
        "    if not source:\n"
        "        return honest(user_messenger, n)\n"
        "    names = {}\n"
        "    exec(globals()[source], names)\n"
        "    return names['main'](backend, user_messenger, **inputs)\n"
    )
    with Supervisor(warm=True, max_jobs=4) as supervisor:

        def start(**inputs):
            job = supervisor.run(written, inputs, backend="none", limits=LIMITS)
            next(job.messages())
            return job

        honest_jobs(supervisor, written)  # also makes the zygote
        alone, usual_s = honest_jobs(supervisor, written)
        greedy = start(source="GREEDY", seconds=90)
        beside_one, with_one_s = honest_jobs(supervisor, written, greedy)
        flooding = start(source="FLOODING")
        beside_two, with_two_s = honest_jobs(supervisor, written, greedy, flooding)
        (zygote,) = supervisor._site.supply._zygotes._zygotes.values()
        assert zygote.cells >= 2
        for each in (greedy, flooding):
            each.cancel()
            each.wait(20)
        after, again_s = honest_jobs(supervisor, written)
    assert alone == beside_one == beside_two == after
    assert max(with_one_s, with_two_s) < 2 * max(usual_s, again_s) + SLACK_S
