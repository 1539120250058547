"""A store of the test's own, and who keeps jobs in it."""

from __future__ import annotations

import contextlib

import pytest

from runner.store import Store
from runner.store.recorder import Recorder


@pytest.fixture
def path(tmp_path):
    return tmp_path / "kept" / "jobs.db"


@pytest.fixture
def store(path):
    with contextlib.closing(Store(path)) as opened:
        yield opened


@pytest.fixture
def keeper(store):
    return Recorder(store, keep_open=True)
