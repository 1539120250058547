"""The clock of one job: a time limit that the host can pause.  Both sides hold one.

The host's decides.  PID 1 holds the second in case the host is stuck, and follows the host's
`Pause` and `Resume` with it; a guest has no words for either.
"""

from __future__ import annotations

import time
from typing import Final

MAX_PAUSE_S: Final = 24 * 3600.0
"""The longest pause; after it the clock runs again unasked.  The host may pause it once more."""


class Clock:
    """Counts down `limit_s` seconds from now, except while it is paused.

    `ends` is the reading of `time.monotonic` at which the time is up if nothing else is said; a
    pause that nobody ends is part of it.
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
        """Seconds of the limit that are used up."""
        return self._limit_s - (self.ends - max(time.monotonic(), self._resumes))

    def pause(self, at_most_s: float) -> None:
        """Stand still until `resume`, but not longer than this and `MAX_PAUSE_S`."""
        self.resume()
        pause_s = min(at_most_s, MAX_PAUSE_S)
        self._resumes = time.monotonic() + pause_s
        self.ends += pause_s

    def resume(self) -> None:
        """Go on; nothing happens if it does not stand still."""
        self.ends -= max(0.0, self._resumes - time.monotonic())
        self._resumes = 0.0
