"""The clock of one job: a time limit that the host can pause.  Both sides have one.

The host's clock decides.  PID 1 has the second one in case the host is stuck, and applies the
host's `Pause` and `Resume` to it.  A guest cannot pause either.
"""

from __future__ import annotations

import time
from typing import Final

MAX_PAUSE_S: Final = 24 * 3600.0
"""The longest pause, in seconds; then the clock runs again, and the host may pause it again."""


class Clock:
    """Counts down `limit_s` seconds from now, except while it is paused.

    `ends` is the value of `time.monotonic` at which the time is up, including a pause that is not
    ended early.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._resumes = 0.0
        self.ends = time.monotonic() + limit_s

    @property
    def left_s(self) -> float:
        """Seconds until `ends`, 0 after it."""
        return max(0.0, self.ends - time.monotonic())

    @property
    def spent_s(self) -> float:
        """Seconds of the limit that were used."""
        return self._limit_s - (self.ends - max(time.monotonic(), self._resumes))

    def pause(self, at_most_s: float) -> None:
        """Pause until `resume`, but for at most `at_most_s` and `MAX_PAUSE_S` seconds."""
        self.resume()
        pause_s = min(at_most_s, MAX_PAUSE_S)
        self._resumes = time.monotonic() + pause_s
        self.ends += pause_s

    def resume(self) -> None:
        """Continue; does nothing if it is not paused."""
        self.ends -= max(0.0, self._resumes - time.monotonic())
        self._resumes = 0.0
