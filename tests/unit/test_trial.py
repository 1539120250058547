"""A child process that tries what may end it, or never end."""

import pytest

from sandbox.codec import trial


@pytest.mark.parametrize(
    "code",
    ["import os; os.abort()", "import sys; sys.stdin.buffer.read(9); sys.exit()", "nonsense"],
)
def test_a_trial_that_dies_is_an_answer(code):
    dying = trial.Trial(code)
    assert not dying.survives(bytes(1 << 20))
    assert not dying.survives(b"x")
    dying.close()


def test_a_trial_that_takes_too_long_is_an_answer(monkeypatch):
    monkeypatch.setattr(trial, "TIMEOUT_S", 0.1)
    monkeypatch.setattr(trial, "START_S", 0.1)
    assert not trial.Trial("import time; time.sleep(60)").survives(b"x")
