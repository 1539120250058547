"""Factories for holders under test: simulators, and devices that misbehave."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

from qiskit.providers import BackendV2, JobStatus, JobV1, Options
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit_aer import AerSimulator


def simulator(**options):
    return AerSimulator(**options)


class Job(JobV1):
    def __init__(self, backend, act):
        super().__init__(backend, "device-job-1")
        self.act = act
        self.cancelled_by = threading.Event()

    def submit(self):
        pass

    def result(self):
        return self.act(self)

    def status(self):
        return JobStatus.CANCELLED if self.cancelled_by.is_set() else JobStatus.QUEUED

    def queue_position(self):
        return 3

    def cancel(self):
        self._backend.note("cancelled")
        self.cancelled_by.set()


class Odd(BackendV2):
    """A device of two qubits that does what its name says; notes what happens to it in a file."""

    def __init__(self, how, notes=None):
        super().__init__(name=f"odd {how}")
        self.how = how
        self.notes = notes
        self._target = GenericBackendV2(2, seed=1).target
        if how == "named":
            self.name = os.environ["PLANTED"]

    def note(self, text):
        if self.notes:
            with Path(self.notes).open("a") as file:
                file.write(f"{text}\n")

    @property
    def target(self):
        return self._target

    @property
    def max_circuits(self):
        return 2

    @classmethod
    def _default_options(cls):
        return Options(shots=1024)

    def run(self, circuits, **options):
        self.note(f"run {len(circuits)} {sorted(options)}")
        return Job(self, getattr(self, self.how))

    def raises(self, job):
        raise RuntimeError(f"no access with token {os.environ.get('PLANTED', '')}")

    def dies(self, job):
        os._exit(3)

    def hangs(self, job):
        job.cancelled_by.wait()
        raise RuntimeError("cancelled")

    def prints(self, job):
        sys.stdout.write(f"my token is {os.environ['PLANTED']}\n")
        sys.stdout.flush()
        return self.lies(job)

    def lies(self, job):
        from qiskit.result import Result

        return Result.from_dict({"results": [], "success": True})

    def waits(self, job):
        from qiskit.result import Result

        time.sleep(7)
        experiment = {"shots": 10, "success": True, "data": {"counts": {"0x0": 10}}, "header": {}}
        return Result.from_dict({"results": [experiment], "success": True})

    def named(self, job):
        raise NotImplementedError

    def tells(self, job):
        from qiskit.result import Result

        data = {"counts": {os.environ["PLANTED"]: 10}}
        experiment = {"shots": 10, "success": True, "data": data, "header": {}}
        return Result.from_dict({"results": [experiment], "success": True})


class Far(Odd):
    """A device of a provider that keeps jobs: each is a file, which says what became of it."""

    def __init__(self, directory):
        super().__init__("hangs")
        self.directory = Path(directory)

    def run(self, circuits, **options):
        id_ = f"job-{len(list(self.directory.iterdir()))}"
        (self.directory / id_).write_text("running")
        return FarJob(self, id_)

    def retrieve_job(self, id_):
        if not (self.directory / id_).exists():
            raise LookupError(id_)
        return FarJob(self, id_)


class FarJob(JobV1):
    def submit(self):
        pass

    def result(self):
        while (text := self.read()) == "running":
            time.sleep(0.05)
        raise RuntimeError(text)

    def read(self):
        return (self._backend.directory / self.job_id()).read_text()

    def status(self):
        return JobStatus.RUNNING if self.read() == "running" else JobStatus.CANCELLED

    def cancel(self):
        (self._backend.directory / self.job_id()).write_text("cancelled")


def far(directory):
    return Far(directory)


def odd(how, notes=None):
    return Odd(how, notes)


def broken():
    raise ValueError(f"cannot log in with {os.environ['PLANTED']}")


def slow_to_start():
    time.sleep(60)
