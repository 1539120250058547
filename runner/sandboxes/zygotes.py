"""The zygotes of one supervisor: started on demand, shared by jobs, removed when nobody needs them.

A zygote is used by all jobs of its image and policy.  It stays for `IDLE_S` after its last cell has
ended, so that the next job finds it.  One that cannot make a cell is retired: it makes no more, and
is removed when its last cell has ended.

`get` waits for a zygote; `find` and `begin` are for jobs that can do without.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable
from typing import Final

from runner.errors import RunnerError
from runner.host import interrupt
from runner.host.interrupt import CancelledError, Interrupt, Waker
from runner.host.workers import Workers
from runner.sandboxes.zygote import Zygote

log = logging.getLogger(__name__)

IDLE_S: Final = 60.0
"""How long a zygote stays without a cell, in seconds."""

AGAIN_S: Final = 10.0
"""How long after `begin` another one has no effect, in seconds: starts may fail."""

_LOOK_S: Final = 1.0

ZYGOTE_BYTES: Final = 128 << 20
"""Assumed memory of a zygote, which decides how many there may be."""


class Zygotes:
    """Keeps zygotes by key; any thread may call its methods.  `discard` removes one for good."""

    def __init__(self, discard: Callable[[Zygote], None]) -> None:
        self._discard = discard
        self._changed = threading.Condition()
        self._zygotes: dict[Hashable, Zygote] = {}
        self._starting: set[Hashable] = set()
        self._retired: list[Zygote] = []
        self._begun: dict[Hashable, float] = {}
        self._beginners: Workers[Interrupt] = Workers(1)
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def get(self, key: Hashable, start: Callable[[], Zygote], *, room: int) -> Zygote:
        """Return the zygote of this key, started now if there is none that is alive.

        Others are removed for it if they have no cell and there would be more than `room`.  Raises
        what `start` raises, and CancelledError if the thread's task is cancelled.
        """
        with interrupt.calling(self._wake), self._changed:
            while key in self._starting:
                interrupt.check()
                self._changed.wait()
            zygote = self._zygotes.get(key)
            if zygote is not None and zygote.is_alive():
                return zygote
            self._starting.add(key)
        try:
            if zygote is not None:
                self.retire(zygote)
            self._make_room(room)
            started = start()
        finally:
            with self._changed:
                self._starting.discard(key)
                self._changed.notify_all()
        with self._changed:
            if not self._is_closed:
                self._zygotes[key] = started
                self._start_thread()
                return started
        self._discard(started)
        raise CancelledError

    def find(self, key: Hashable) -> Zygote | None:
        """Return the zygote of this key if there is one that is alive."""
        with self._changed:
            zygote = self._zygotes.get(key)
        return zygote if zygote is not None and zygote.is_alive() else None

    def begin(self, key: Hashable, start: Callable[[Waker], Zygote], *, room: int) -> None:
        """Start the zygote of this key in another thread, if there is none and none was begun.

        What goes wrong is logged: jobs do without.
        """
        with self._changed:
            now = time.monotonic()
            self._begun = {each: at for each, at in self._begun.items() if now - at < AGAIN_S}
            zygote = self._zygotes.get(key)
            is_there = zygote is not None and zygote.is_alive()
            if self._is_closed or is_there or key in self._begun:
                return
            self._begun[key] = now

        def work(order: Interrupt) -> None:
            try:
                with order.scope(), Waker() as waker:
                    self.get(key, lambda: start(waker), room=room)
            except CancelledError:
                return
            except (RunnerError, OSError) as error:
                log.warning("no zygote for jobs to come: %s", error)

        try:
            self._beginners.submit(Interrupt(), work)
        except RunnerError as error:
            log.warning("no thread for a zygote: %s", error)

    def count(self) -> tuple[int, int]:
        """Return how many zygotes there are, and how many cells they have together."""
        with self._changed:
            there = [*self._zygotes.values(), *self._retired]
            return len(there), sum(each.cells for each in there)

    def retire(self, zygote: Zygote) -> None:
        """Make no more cells from this zygote, and remove it once it has none."""
        with self._changed:
            for key, each in list(self._zygotes.items()):
                if each is zygote:
                    del self._zygotes[key]
                    self._retired.append(zygote)
                    self._start_thread()

    def close(self) -> None:
        """Remove all zygotes, and the cells that are left with them."""
        with self._changed:
            self._is_closed = True
            left = [*self._zygotes.values(), *self._retired]
            self._zygotes.clear()
            self._retired.clear()
            self._changed.notify_all()
        for order in self._beginners.close():
            order.fire()
        for each in left:
            self._discard(each)

    def join(self, patience_s: float | None) -> bool:
        """Wait until no zygote is being started; give up after `patience_s` seconds."""
        return self._beginners.join(patience_s)

    def _make_room(self, room: int) -> None:
        with self._changed:
            idle = [key for key, each in self._zygotes.items() if not each.cells]
            idle.sort(key=lambda key: self._zygotes[key].last_used)
            surplus = len(self._zygotes) + len(self._starting) - max(1, room)
            gone = [self._zygotes.pop(key) for key in idle[: max(0, surplus)]]
        for each in gone:
            log.info("zygote %s makes room for another", each.sandbox.name)
            self._discard(each)

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    # --- its thread, which exists while there are zygotes -----------------------------------------

    def _start_thread(self) -> None:
        if self._thread is not None or self._is_closed:
            return
        thread = threading.Thread(target=self._tend, name="qrunner-zygotes", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            log.warning("no thread to remove idle zygotes; trying again with the next: %s", error)
        else:
            self._thread = thread

    def _tend(self) -> None:
        while True:
            with self._changed:
                if not self._is_closed:
                    self._changed.wait(_LOOK_S)
                if self._is_closed or not (self._zygotes or self._retired or self._starting):
                    self._thread = None
                    return
                gone = self._take_idle()
            for each in gone:
                log.info("zygote %s has not been used for a while", each.sandbox.name)
                self._discard(each)

    def _take_idle(self) -> list[Zygote]:
        """Take out the zygotes that are to go; the caller holds the lock."""
        before = time.monotonic() - IDLE_S
        gone = [each for each in self._retired if not each.cells]
        self._retired = [each for each in self._retired if each.cells]
        for key, each in list(self._zygotes.items()):
            if not each.cells and each.last_used < before:
                gone.append(self._zygotes.pop(key))
        return gone
