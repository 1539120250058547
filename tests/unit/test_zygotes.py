"""The zygotes of a supervisor: when one is begun for jobs to come, and when it goes."""

from __future__ import annotations

import contextlib
import time
from types import SimpleNamespace

import pytest

from runner.sandboxes.zygotes import Zygotes
from tests.waiting import within


class Lasting:
    """A zygote as far as `Zygotes` knows it, which lives until it is told not to."""

    def __init__(self):
        self.cells, self.last_used, self.lives = 0, time.monotonic(), True
        self.sandbox = SimpleNamespace(name="z")

    def is_alive(self):
        return self.lives


@pytest.fixture
def discarded():
    return []


@pytest.fixture
def zygotes(discarded):
    with contextlib.closing(Zygotes(discarded.append)) as made:
        yield made


def begun(zygotes, key="k"):
    """Begin a zygote, and return those that were started until one is there."""
    started = []

    def start(waker):
        started.append(Lasting())
        return started[-1]

    zygotes.begin(key, start, room=4)
    assert within(10, lambda: zygotes.find(key) is not None)
    return started


def test_one_is_begun_only_where_there_is_none_that_lives(zygotes, discarded, monkeypatch):
    monkeypatch.setattr("runner.sandboxes.zygotes.AGAIN_S", 0.0)
    [first] = begun(zygotes)
    assert begun(zygotes) == []
    first.lives = False
    [second] = begun(zygotes)
    assert zygotes.find("k") is second
    assert within(10, lambda: discarded == [first])  # it had no cell
    assert zygotes.count() == (1, 0)


def test_whoever_fails_to_start_one_does_not_try_at_once_again(zygotes):
    tried = []

    def start(waker):
        tried.append(waker)
        raise OSError

    for _ in range(3):
        zygotes.begin("k", start, room=4)
        assert within(10, lambda: len(tried) == 1)
    assert zygotes.find("k") is None
    assert begun(zygotes, "other")
