"""Every hostile program ends as it must, on every isolation, and the supervisor stays small.

The programs are data, in `corpus/`: others run them with `qrunner check tests/security/corpus`.
Here the cases of an isolation are submitted together, so that they are each other's neighbours.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from pathlib import Path

import pytest

from runner import Supervisor
from runner.checking.cases import cases
from runner.engine import OWN_LABEL
from runner.host.processes import HostProcess
from runner.policy.isolation import Isolation
from runner.programs import read_directory
from runner.sandboxes import cgroup
from runner.sandboxes.residence import channel_root
from tests.engine.traces import containers_of
from tests.waiting import within

pytestmark = [pytest.mark.engine, pytest.mark.security, pytest.mark.slow]

CORPUS = Path(__file__).parent / "corpus"
NAMES = sorted(path.parent.name for path in CORPUS.glob("*/program.yaml"))

WARM_NAMES = (
    "attack-pid-1",
    "forged-frames",
    "leaked-descriptors",
    "look-around",
    "memory-without-end",
    "result-sabotaged",
    "time-in-the-import",
)
"""Run in warm containers as well; in cells test_cells.py runs them.

`QRUNNER_CELLS=off qrunner check --warm tests/security/corpus` runs all of them in warm containers.
"""

MAX_JOBS = 2
CASES_ON_RUNSC = 1
MAX_GROWTH_BYTES = 512 << 20
"""Of the supervisor's memory while the corpus runs; the log that it keeps of 110 jobs included."""

MAX_THREADS = 2 * MAX_JOBS + 10
MAX_DESCRIPTORS = 20 * MAX_JOBS + 40


class Meter:
    """What this process uses at most, looked at several times a second."""

    def __init__(self):
        self.before = self.now()
        self.peak = self.before
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    @staticmethod
    def now():
        status = dict(
            line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines()
        )
        return (
            int(status["VmRSS"].split()[0]) * 1024,
            threading.active_count(),
            len(list(Path("/proc/self/fd").iterdir())),
        )

    def _watch(self):
        while not self._stop.wait(0.2):
            self.peak = tuple(map(max, self.peak, self.now()))

    def stop(self):
        self._stop.set()
        self._thread.join()


@pytest.fixture(scope="module")
def meter():
    running = Meter()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def supervisor(isolation):
    with Supervisor(isolation=isolation, max_jobs=MAX_JOBS) as running:
        yield running


def chosen(found, isolation):
    """Return the cases to run: all, but under runsc, where a job takes seconds, the first few.

    `qrunner check --isolation runsc tests/security/corpus` runs them all there as well.
    """
    return found[:CASES_ON_RUNSC] if isolation is Isolation.RUNSC else found


@pytest.fixture(scope="module")
def submitted(request, meter, supervisor, isolation):
    """Submit the cases of all programs that this session was asked for: name → [(case, job)]."""
    wanted = {
        item.callspec.params["name"]
        for item in request.session.items
        if item.path == Path(__file__)
        and "name" in getattr(getattr(item, "callspec", None), "params", {})
        and item.callspec.params["isolation"] == isolation
    }
    jobs = {}
    for name in sorted(wanted):
        program = read_directory(CORPUS / name)
        jobs[name] = [
            (case, supervisor.run(program, case.inputs, backend=case.backend, limits=case.limits))
            for case in chosen(cases(program), isolation)
        ]
    return jobs


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_program_ends_as_it_must(submitted, name):
    problems = {case.name: case.problems(job) for case, job in submitted[name]}
    assert not {case: found for case, found in problems.items() if found}


def test_hostile_programs_end_so_in_warm_sandboxes_too():
    with Supervisor(warm=True, cells=False, max_jobs=MAX_JOBS) as supervisor:
        jobs = []
        for name in WARM_NAMES:
            program = read_directory(CORPUS / name)
            case = cases(program)[0]
            jobs.append((case, supervisor.run(program, case.inputs, limits=case.limits)))
        found = {job.program: case.problems(job) for case, job in jobs}
    assert not {name: problems for name, problems in found.items() if problems}


def test_the_supervisor_stays_small_meanwhile(submitted, meter):
    memory, threads, descriptors = meter.peak
    assert memory - meter.before[0] < MAX_GROWTH_BYTES
    assert threads <= meter.before[1] + MAX_THREADS
    assert descriptors <= meter.before[2] + MAX_DESCRIPTORS


def test_nothing_of_it_is_left_when_its_job_has_ended(submitted, engine):
    for _, job in itertools.chain(*submitted.values()):
        job.wait()
    me = str(HostProcess.current())

    def left():
        groups = (cgroup.ROOT.glob(f"{each}{cgroup.TOP}/{me}/*/") for each in ("", "*/"))
        channels = (channel_root() / me).glob("*")
        return [*containers_of(engine, os.getpid()), *itertools.chain(*groups), *channels]

    assert within(10, lambda: not left()), left()


def test_nothing_of_it_is_left_when_the_supervisor_closes(submitted, supervisor, engine):
    supervisor.close()
    me = str(HostProcess.current())
    labels = engine.containers().values()
    assert not [each for each in labels if each.get(f"{OWN_LABEL}.owner") == me]
    assert me not in {str(process) for process in cgroup.processes()}
    directories = {path.name for path in channel_root().iterdir()}
    with contextlib.suppress(OSError):
        channel_root().rmdir()  # looking has made it
    assert me not in directories


def test_every_program_of_the_corpus_says_what_it_tries_and_has_a_case():
    for name in NAMES:
        program = read_directory(CORPUS / name)
        assert len(program.manifest.description) > 80, name
        assert program.manifest.name == name
        assert (CORPUS / name / "cases").is_dir(), name
