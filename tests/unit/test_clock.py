"""The clock of a job stands still as long as the host says, and not longer than it may."""

from __future__ import annotations

import pytest

from sandbox.wire import clock
from sandbox.wire.clock import MAX_PAUSE_S, Clock


@pytest.fixture
def at(monkeypatch):
    """Return what sets the time."""

    class Time:
        now = 1000.0

        def monotonic(self):
            return self.now

        def __call__(self, seconds):
            self.now = 1000.0 + seconds

    time = Time()
    monkeypatch.setattr(clock, "time", time)
    return time


def test_it_runs_out(at):
    job = Clock(10)
    assert (job.left_s, job.spent_s) == (10, 0)
    at(4)
    assert (job.left_s, job.spent_s) == (6, 4)
    at(12)
    assert (job.left_s, job.spent_s) == (0, 12)


def test_it_stands_still_until_it_is_resumed(at):
    job = Clock(10)
    at(4)
    job.pause(100)
    assert job.left_s == 106
    at(60)
    assert (job.left_s, job.spent_s) == (50, 4)
    job.resume()
    assert (job.left_s, job.spent_s) == (6, 4)
    job.resume()  # once more: nothing happens
    at(65)
    assert (job.left_s, job.spent_s) == (1, 9)


def test_a_pause_that_nobody_ends_ends_by_itself(at):
    job = Clock(10)
    job.pause(5)
    at(14)
    assert (job.left_s, job.spent_s) == (1, 9)
    job.resume()  # too late to matter
    assert job.left_s == 1


def test_a_second_pause_takes_the_place_of_the_first(at):
    job = Clock(10)
    job.pause(100)
    at(20)
    job.pause(5)
    assert job.left_s == 15
    at(26)
    assert (job.left_s, job.spent_s) == (9, 1)


@pytest.mark.parametrize("asked", [MAX_PAUSE_S + 1, float("inf")])
def test_no_pause_is_longer_than_the_longest(at, asked):
    job = Clock(10)
    job.pause(asked)
    at(MAX_PAUSE_S)
    assert job.left_s == 10
