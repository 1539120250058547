"""Real engines that fail, or take their process with them, at a chosen call."""

from __future__ import annotations

import functools
import os
import signal
import threading

from runner.engine import Engine
from runner.errors import EngineError

CALLS = ("info", "containers", "image", "create", "attach", "start", "inspect", "remove")


class NumberedEngine(Engine):
    """Tells `on_call(number, name)` of each call before and after it was made."""

    def on_call(self, number, name, *, is_done):
        pass


def _counted(name):
    method = getattr(Engine, name)

    @functools.wraps(method)
    def call(self, *arguments, **options):
        self.number = getattr(self, "number", 0) + 1
        number = self.number
        self.on_call(number, name, is_done=False)
        answer = method(self, *arguments, **options)
        self.on_call(number, name, is_done=True)
        return answer

    return call


for each in CALLS:
    setattr(NumberedEngine, each, _counted(each))


class KillingEngine(NumberedEngine):
    """Kills its process after its n-th call, or a moment after that call has been sent."""

    last = 0
    delay_s = None

    def on_call(self, number, name, *, is_done):
        if number == self.last and is_done:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == self.last and self.delay_s is not None:
            threading.Timer(self.delay_s, os.kill, (os.getpid(), signal.SIGKILL)).start()


class RefusingEngine(NumberedEngine):
    """Fails every call of these names, after it was made if `late`."""

    refused = ()
    late = False

    def on_call(self, number, name, *, is_done):
        if name in self.refused and is_done == self.late:
            msg = f"{name}: refused for the test"
            raise EngineError(msg)
