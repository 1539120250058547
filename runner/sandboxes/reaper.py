"""Retries the removal of sandboxes that the engine or the kernel refused to remove.

Most sandboxes are gone when `destroy` returns.  After a stall or a restart of the engine
some are not; these are handed over to the reaper.  Its thread exists only while there are any.
"""

from __future__ import annotations

import logging
import threading
from typing import Final

from runner.sandboxes.spec import Holding

log = logging.getLogger(__name__)

_FIRST_PAUSE_S: Final = 0.25
_LONGEST_PAUSE_S: Final = 5.0


class Reaper:
    """Owns the sandboxes that remain to be removed."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._left: list[Holding] = []
        self._thread: threading.Thread | None = None
        self._hurry = False

    def add(self, sandbox: Holding) -> None:
        """Take over a sandbox whose `destroy` returned False or was not called yet."""
        if sandbox.obstacle:
            log.warning("sandbox %s is not gone yet: %s", sandbox.name, sandbox.obstacle)
        with self._changed:
            self._left.append(sandbox)
            self._start_thread()

    def join(self, patience_s: float | None) -> bool:
        """Wait until nothing is left, at most `patience_s` seconds; return True if so."""
        with self._changed:
            self._hurry = True
            self._start_thread()
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._left, patience_s)
            self._hurry = False
            return not self._left

    def _start_thread(self) -> None:
        if self._left and self._thread is None:
            thread = threading.Thread(target=self._run, name="qrunner-reaper", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                log.warning("no thread to remove sandboxes; trying again with the next: %s", error)
            else:
                self._thread = thread

    def _run(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            with self._changed:
                waiting = list(self._left)
                if not waiting:
                    self._thread = None
                    return
            gone = [each for each in waiting if each.destroy()]
            for each in gone:
                log.info("sandbox %s is gone now", each.name)
            with self._changed:
                self._left = [each for each in self._left if each not in gone]
                self._changed.notify_all()
                if self._left:
                    self._changed.wait(_FIRST_PAUSE_S if self._hurry else pause_s)
            pause_s = _FIRST_PAUSE_S if gone else min(2 * pause_s, _LONGEST_PAUSE_S)
