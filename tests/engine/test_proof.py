"""Engines that ignore what they are asked for, without a word: no program runs there."""

from __future__ import annotations

import dataclasses
import os

import pytest

from runner.engine import Engine
from tests.engine.bare import Supervisor
from tests.engine.traces import traces_of

pytestmark = pytest.mark.engine


class DeafEngine(Engine):
    """Does as if it had not heard these options of a container; knows every runtime by name."""

    unheard: dict = {}  # noqa: RUF012  set by each test

    def info(self):
        info = super().info()
        runtimes = {**info.raw["Runtimes"], "runsc": {"path": "runsc"}}
        return dataclasses.replace(info, raw={**info.raw, "Runtimes": runtimes})

    def create(self, config, **options):
        host = {**config["HostConfig"], **self.unheard}
        if self.unheard.keys() & {"MaskedPaths", "ReadonlyPaths"}:  # of which Podman is told so
            host["SecurityOpt"] = [
                "unmask=/proc/*" if each.startswith("mask=") else each
                for each in host["SecurityOpt"]
            ]
        return super().create({**config, "HostConfig": host}, **options)


@pytest.mark.outcomes
@pytest.mark.parametrize(
    ("isolation", "unheard", "said"),
    [
        ("runsc", {"Runtime": "runc"}, "isolation runsc: the engine's kernel is"),
        ("runc", {"MaskedPaths": []}, "masked paths: nothing covers /proc/"),
        ("runc", {"ReadonlyPaths": []}, "read-only paths: /proc/"),
        (
            "runc",
            {"SecurityOpt": ["no-new-privileges:true", "seccomp=unconfined"]},
            "seccomp: mode 0",
        ),
        ("runc", {"CapDrop": []}, "no capabilities: CapBnd"),
        ("runc", {"Memory": 0, "MemorySwap": 0, "MemorySwappiness": None}, "memory-limit: "),
        ("runc", {"MemorySwap": -1}, "swap-limit: "),
        ("runc", {"PidsLimit": 0}, "process-limit: "),
        ("runc", {"NanoCpus": 0}, "cpu-limit: inf is allowed instead of 1"),
    ],
)
def test_a_sandbox_that_lacks_what_it_was_asked_for_runs_no_program(
    engine, trivial, isolation, unheard, said
):
    deaf = DeafEngine.connect()
    deaf.unheard = unheard
    with Supervisor(engine=deaf, isolation=isolation) as supervisor:
        record = supervisor.run(trivial).wait(60)
    deaf.close()
    assert record.outcome == "sandbox_error"
    assert said in record.error
    assert record.result is None
    assert not traces_of(engine, os.getpid())
