"""Waiting for what another thread or process does."""

from __future__ import annotations

import time


def within(seconds, condition):
    """Wait until `condition()` holds; return what it was at the end."""
    deadline = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return value
