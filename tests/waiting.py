"""Waiting for what another thread or process does."""

from __future__ import annotations

import os
import time

PATIENCE = float(os.environ.get("QRUNNER_TEST_PATIENCE", "1"))
"""How many times slower this machine is than those that the tests' times are for."""


def within(seconds, condition):
    """Wait until `condition()` holds; return what it was at the end."""
    deadline = time.monotonic() + seconds * PATIENCE
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return value
