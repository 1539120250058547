"""Interrupting what another thread waits for."""

from __future__ import annotations

import sys
import threading
import time

import pytest

from runner.host import interrupt
from runner.host.commands import Command
from runner.host.interrupt import CancelledError, Interrupt


def test_outside_of_any_scope_nothing_can_be_interrupted():
    interrupt.check()
    with interrupt.calling(lambda: pytest.fail("called")):
        interrupt.check()


def test_firing_calls_what_blocks_now_and_refuses_what_comes_later():
    one = Interrupt()
    release = threading.Event()
    threading.Timer(0.05, one.fire).start()
    with one.scope():
        with pytest.raises(CancelledError), interrupt.calling(release.set):
            assert release.wait(5)
        with pytest.raises(CancelledError):
            interrupt.check()
        with pytest.raises(CancelledError), interrupt.calling(lambda: None):
            pytest.fail("the block was entered")
    interrupt.check()


def test_what_breaks_because_it_was_interrupted_is_a_cancellation_and_nothing_else_is():
    one = Interrupt()
    with one.scope():
        with pytest.raises(ValueError, match="its own"), interrupt.calling(lambda: None):
            msg = "its own"
            raise ValueError(msg)
        with pytest.raises(CancelledError), interrupt.calling(lambda: None):
            one.fire()
            msg = "the connection broke"
            raise OSError(msg)


def test_an_action_is_never_called_after_its_block():
    called = []
    one = Interrupt()
    with one.scope(), interrupt.calling(lambda: called.append(1)):
        pass
    one.fire()
    one.fire()
    assert not called


def test_a_scope_belongs_to_its_thread():
    one = Interrupt()
    one.fire()
    seen = []

    def look():
        interrupt.check()
        seen.append("went on")

    with one.scope():
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    assert seen == ["went on"]


def test_a_command_is_stopped_when_its_task_is_cancelled():
    one = Interrupt()
    began = time.monotonic()
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    with one.scope(), pytest.raises(CancelledError), Command(command) as running:
        threading.Timer(0.2, one.fire).start()
        running.finish("sleeping", timeout_s=50)
    assert time.monotonic() - began < 5
