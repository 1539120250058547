"""Shows an object in a notebook, updated in one place until it no longer changes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, Final

from runner.errors import RequestError

TICK_S: Final = 0.25
"""Interval at which the displayed object is updated, in seconds."""


def watch(shown: Any, wait: Callable[[float], bool], timeout: float | None) -> None:
    """Show an object, and update it until `wait(seconds)` returns True.

    Raises RequestError outside a notebook, TimeoutError after `timeout` seconds.
    """
    # In a notebook, IPython is imported already.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if ipython is None or getattr(shell, "kernel", None) is None:
        msg = "watch() draws in Jupyter notebooks only: elsewhere, read messages() or await the job"
        raise RequestError(msg)
    deadline = None if timeout is None else time.monotonic() + timeout
    handle = ipython.display.display(shown, display_id=True)
    while not wait(TICK_S):
        if deadline is not None and time.monotonic() >= deadline:
            msg = f"it has not ended within {timeout:g} s; it goes on"
            raise TimeoutError(msg)
        handle.update(shown)
    handle.update(shown)
