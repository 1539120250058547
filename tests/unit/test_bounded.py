"""Children that work on what strangers wrote: bounded, and gone when they were asked."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from runner.host import bounded
from runner.host.bounded import AbandonedError, Bounds
from runner.programs import schema

BOUNDS = Bounds(cpu_s=2, wall_s=20.0, memory_bytes=1 << 30)
SLOW = ['["schema", {"pattern": "^(a+)+$"}]', f'["check", "x", "{"a" * 30}!"]']
QUICK = '["flaw", {}]'


def children():
    """Return the processes that this one has started."""
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


def test_the_answers_that_came_in_time_are_returned():
    before = children()
    assert bounded.ask("runner.programs.schema", [QUICK, QUICK, *SLOW, QUICK], BOUNDS) == [
        None,
        None,
    ]
    assert children() == before


def test_the_wall_clock_ends_what_uses_no_cpu_time(tmp_path):
    started = time.monotonic()
    bounds = Bounds(cpu_s=60, wall_s=0.5, memory_bytes=1 << 30)
    assert bounded.ask("runner.programs.schema", SLOW, bounds) == []
    assert time.monotonic() - started < 10


def test_who_does_not_want_to_know_any_more_is_not_kept_waiting():
    abandoned = threading.Event()
    threading.Timer(0.5, abandoned.set).start()
    before, started = children(), time.monotonic()
    bounds = Bounds(cpu_s=60, wall_s=60.0, memory_bytes=1 << 30)
    with pytest.raises(AbandonedError):
        bounded.ask("runner.programs.schema", SLOW, bounds, abandoned)
    assert time.monotonic() - started < 10
    assert children() == before


def test_memory_is_bounded():
    text = f'["check", "x", [{",".join(["[]"] * 3_000_000)}]]'
    assert bounded.ask(
        "runner.programs.schema", [QUICK, text], Bounds(cpu_s=20, wall_s=60.0, memory_bytes=1 << 28)
    ) == [None]


def test_line_ends_in_a_question_are_none_of_the_protocol():
    assert (
        bounded.ask("runner.programs.schema", ['["flaw",\n{"type":\r\n1}]', QUICK], BOUNDS)[1]
        is None
    )
    assert schema.problems({"format": "x"}, "a\nb", name="x") == []
