"""What is wrong with the machine, as the doctor found when an operator last asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TypeAlias

from runner.service.faults import RefusedError

Finding: TypeAlias = Mapping[str, str]
"""One finding of the doctor: `what` was examined, its `status`, what was `found`, and `advice`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """The findings of one examination, and when it ended, in seconds since the epoch."""

    time: float | None = None
    found: Sequence[Finding] = field(default_factory=tuple)


class Examination:
    """Examines when it is asked to, one at a time, in the thread of whoever asks."""

    def __init__(self, examine: Callable[[], Iterable[Finding]]) -> None:
        self._examine = examine
        self._lock = threading.Lock()
        self.last = Findings()

    @property
    def is_running(self) -> bool:
        """Return True while somebody examines."""
        return self._lock.locked()

    def run(self) -> None:
        """Examine now.  Raises RefusedError if somebody else does."""
        if not self._lock.acquire(blocking=False):
            msg = "an examination is running already: wait for it"
            raise RefusedError(HTTPStatus.CONFLICT, msg)
        try:
            found = tuple(self._examine())
            self.last = Findings(time=time.time(), found=found)
        finally:
            self._lock.release()
