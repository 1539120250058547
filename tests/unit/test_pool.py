"""The pool's own decisions, with sandboxes that are only names."""

from __future__ import annotations

import threading
import time
import warnings
from pathlib import Path

import pytest

from runner.errors import EngineError, RequestError
from runner.host.interrupt import check
from runner.policy import Limits
from runner.programs import Program, source
from runner.programs.imports import MAX_MODULES, modules
from runner.programs.manifest import Manifest
from runner.sandboxes.pool import Pool, Warm

LIMITS = Limits()


class Fake:
    """Stands for a sandbox."""

    def __init__(self):
        self.alive = True
        self.gone = threading.Event()

    def is_waiting(self):
        return self.alive

    def memory_bytes(self):
        return 60 << 20


class Factory:
    """Where a pool has its sandboxes from."""

    def __init__(self, *, failures=0, room=0):
        self.made = []
        self.failures = failures
        self.room = room
        self.has = True
        self.go_on = threading.Event()
        self.go_on.set()

    def key(self, program, limits):
        return tuple(program.files.items()), limits.for_container()

    def launch(self, program, limits, waker):
        while not self.go_on.wait(0.01):
            check()
        if self.failures:
            self.failures -= 1
            msg = "no engine today"
            raise EngineError(msg)
        self.made.append(Fake())
        return self.made[-1]

    def has_image(self, program):
        return self.has

    def discard(self, sandbox):
        sandbox.gone.set()

    def leave_to_reaper(self, sandbox):
        sandbox.gone.set()

    def idle_memory_bytes(self):
        return self.room


def program(source=b"def main(b, m): ...", path="one.py"):
    manifest = Manifest(name="one")
    files = {"program.py": source}
    return Program(name="one", path=Path(path), manifest=manifest, files=files, signature=None)


@pytest.fixture
def factory():
    return Factory()


@pytest.fixture
def pool(factory):
    running = Pool(factory)
    yield running
    running.close()
    assert running.join(10)
    assert all(each.gone.is_set() for each in factory.made if each not in factory.taken), "left"


@pytest.fixture(autouse=True)
def taken(factory, monkeypatch):
    monkeypatch.setattr("runner.sandboxes.pool.LOOK_S", 0.05)
    monkeypatch.setattr("runner.sandboxes.pool._FIRST_PAUSE_S", 0.1)
    factory.taken = []
    return factory.taken


def take(pool, factory, which=None, limits=LIMITS):
    found = pool.take(which or program(), limits)
    if found is not None:
        factory.taken.append(found)
    return found


def until(condition, patience_s=10):
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_it_fills_up_gives_each_away_once_and_fills_up_again(pool, factory):
    pool.stock(program(), LIMITS, Warm(minimum=3))
    assert pool.wait(10)
    state = pool.state()
    assert (state.waiting, state.wanted, state.memory_bytes) == (3, 3, 180 << 20)
    assert len({id(take(pool, factory)) for _ in range(3)}) == 3
    assert take(pool, factory) is None
    assert pool.wait(10)
    assert len(factory.made) == 6


def test_only_the_same_program_with_the_same_container_gets_one(pool, factory):
    pool.stock(program(), LIMITS, Warm(minimum=1))
    assert pool.wait(10)
    assert take(pool, factory, program(b"other", "two.py")) is None
    assert take(pool, factory, limits=LIMITS.lowered_by({"memory_bytes": 1 << 28})) is None
    lower = LIMITS.lowered_by({"timeout_s": 3, "messages": 5, "result_bytes": 99})
    assert take(pool, factory, limits=lower) is not None


def test_an_edited_program_is_followed(pool, factory):
    pool.stock(program(), LIMITS, Warm(minimum=1))
    assert pool.wait(10)
    edited = program(b"def main(b, m): return 1")
    assert take(pool, factory, edited) is None
    until(factory.made[0].gone.is_set)
    assert pool.wait(10)
    assert take(pool, factory, edited) is factory.made[-1]


def test_one_that_has_ended_is_never_handed_out(pool, factory):
    pool.stock(program(), LIMITS, Warm(minimum=2))
    assert pool.wait(10)
    dead = list(factory.made)
    for each in dead:
        each.alive = False
    assert take(pool, factory) not in dead
    for each in dead:
        until(each.gone.is_set)


def test_one_that_ends_while_it_waits_is_replaced(pool, factory):
    pool.stock(program(), LIMITS, Warm(minimum=1))
    assert pool.wait(10)
    factory.made[0].alive = False
    until(lambda: len(factory.made) == 2)
    assert factory.made[0].gone.is_set()


def test_those_of_an_image_that_is_gone_are_taken_away(pool, factory, monkeypatch):
    monkeypatch.setattr("runner.sandboxes.pool.IMAGE_S", 0.1)
    pool.stock(program(), LIMITS, Warm(minimum=1))
    assert pool.wait(10)
    factory.has = False
    until(factory.made[0].gone.is_set)


def test_the_number_follows_demand_between_its_bounds(pool, factory):
    pool.stock(program(), LIMITS, Warm(minimum=0, maximum=2, idle_s=0.2))
    assert pool.wait(10)
    assert pool.state().wanted == 0
    for _ in range(4):
        take(pool, factory)
    assert pool.state().wanted == 2
    until(lambda: pool.state().wanted == 0 and pool.state().waiting == 0)


def test_idle_memory_is_bounded(factory, pool):
    factory.room = 500 << 20  # room for eight of 60 MiB
    pool.stock(program(), LIMITS, Warm(minimum=20))
    until(lambda: pool.state().waiting == 8)
    assert not pool.wait(0.3)
    assert len(factory.made) == 8


def test_failed_starts_are_tried_again_but_not_at_once(factory, pool):
    factory.failures = 2
    pool.stock(program(), LIMITS, Warm(minimum=1))
    began = time.monotonic()
    assert pool.wait(10)
    assert time.monotonic() - began > 0.2


def test_nobody_waits_for_a_start(factory, pool):
    factory.go_on.clear()
    pool.stock(program(), LIMITS, Warm(minimum=4))
    until(lambda: pool.state().starting)
    began = time.monotonic()
    assert take(pool, factory) is None
    pool.close()
    assert pool.join(10)
    assert time.monotonic() - began < 5


def test_a_job_has_the_machine_until_it_is_over(factory, pool, monkeypatch):
    monkeypatch.setattr("runner.sandboxes.pool.REFILL_S", 3600)
    pool.stock(program(), LIMITS, Warm(minimum=2))
    assert pool.wait(10)
    assert take(pool, factory)
    assert take(pool, factory)
    assert not pool.wait(0.3)
    assert len(factory.made) == 2
    pool.job_over()
    assert pool.wait(10)


def test_the_next_is_started_all_the_same_if_a_job_is_long(factory, pool, monkeypatch):
    monkeypatch.setattr("runner.sandboxes.pool.REFILL_S", 0.2)
    pool.stock(program(), LIMITS, Warm(minimum=1))
    assert pool.wait(10)
    assert take(pool, factory)
    began = time.monotonic()
    while len(factory.made) < 2:  # those who find none put nothing off
        found = take(pool, factory)
        assert found is None or len(factory.made) > 1
        assert time.monotonic() - began < 10
        time.sleep(0.01)


@pytest.mark.parametrize(
    "size", [{"minimum": -1}, {"minimum": 2, "maximum": 1}, {"minimum": 0}, {"minimum": 1.5}]
)
def test_numbers_that_make_no_sense_are_refused(size):
    with pytest.raises(RequestError):
        Warm(**size)


def test_what_import_statements_name_is_read_without_running_them():
    source = b"""
import numpy as np, scipy.optimize
from qiskit_aer import noise
from . import sibling
from helper import this_one
raise SystemExit
def f():
    import qiskit.circuit.library as library
"""
    files = {"program.py": source, "helper.py": b"import rustworkx", "broken.py": b"import ("}
    assert set(modules(files)) == {
        "numpy",
        "scipy.optimize",
        "qiskit_aer",
        "qiskit_aer.noise",
        "qiskit.circuit.library",
        "rustworkx",
    }


def test_hostile_imports_yield_few_plain_names():
    many = b"\n".join(b"import m%d" % number for number in range(1000))
    assert len(modules({"program.py": many})) == MAX_MODULES
    odd = "import ünï, " + "x" * 200 + "\nfrom a import *"
    assert modules({"program.py": odd.encode()}) == ("a",)


def test_reading_imports_is_bounded_whatever_the_files(monkeypatch):
    read = []
    parse = source.parse
    monkeypatch.setattr(source, "parse", lambda text: read.append(text) or parse(text))
    long = b"import long_one\n" + b"#" * source.MAX_BYTES
    fill = b"#" * (source.MAX_BYTES - 20)
    files = {f"f{n}.py": b"import m%d\n" % n + fill for n in range(9)}
    files |= {"z.py": b"import first\n" + fill, "long.py": long}
    assert modules(files, "z.py") == ("first", "m0", "m1", "m2")
    assert len(read) == 4
    read.clear()
    many = b"from " + b"m" * 90 + b" import " + b",".join(b"n%d" % n for n in range(9999))
    assert len(modules({"a.py": many, "b.py": b"import b1"})) == MAX_MODULES
    assert len(read) == 1  # it stops when it has enough


@pytest.mark.parametrize("odd", [r"x = '\d'", "x = 1if 1else 2", "# coding: punycode\nx = 'ü'"])
def test_a_program_cannot_make_the_host_warn_or_run_a_codec(odd, recwarn):
    text = f"{odd}\nimport numpy\ndef main(b, m, x): ...".encode()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert modules({"program.py": text}) == ("numpy",)
        assert source.parse(text) is not None
    assert not recwarn.list
