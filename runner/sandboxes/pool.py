"""Sandboxes that have warmed up and wait for a job of their program; each is used for one job only.

`Pool` owns the waiting sandboxes.  `take` returns one at once, or None: it neither starts anything
nor queries the engine.  The pool's own threads refill it, examine waiting sandboxes, and remove
stale ones, never under the lock that `take` needs.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Final, Protocol

from runner.errors import RequestError, RunnerError
from runner.host.interrupt import CancelledError, Interrupt, Waker
from runner.host.workers import Workers
from runner.policy import Limits
from runner.programs import Program
from runner.sandboxes.spec import Holding
from runner.sandboxes.starts import CORES

log = logging.getLogger(__name__)

REFILL_S: Final = 0.5
"""Delay in seconds between taking a sandbox and starting the next one, unless the job ends first: a
start uses every core, and most jobs that wait for nothing have ended by then."""

LOOK_S: Final = 1.0
"""Interval at which waiting sandboxes are examined, in seconds."""

IMAGE_S: Final = 5.0
"""Interval at which the engine is asked if their images still exist, in seconds."""

_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 30.0
"""The first and the longest delay after failed starts of a program, in seconds."""

_FIRST_GUESS_BYTES: Final = 160 << 20
"""Assumed memory of a waiting sandbox, until one has been measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Warm:
    """How many sandboxes of a program wait for jobs.

    There are at least `minimum`.  Each time a job finds none, the number grows by one, up to
    `maximum` (default: `minimum`, a fixed number).  After `idle_s` seconds in which none was
    missing it shrinks by one.

    Raises RequestError for impossible numbers.
    """

    minimum: int = 1
    maximum: int | None = None
    idle_s: float = 300.0

    def __post_init__(self) -> None:
        whole = all(type(each) is int for each in (self.minimum, self.most))
        if not whole or not 0 <= self.minimum <= self.most or not self.most or not self.idle_s > 0:
            msg = f"{self} is not possible: 0 <= minimum <= maximum, maximum > 0, idle_s > 0"
            raise RequestError(msg)

    @property
    def most(self) -> int:
        """The largest number of waiting sandboxes."""
        return self.minimum if self.maximum is None else self.maximum

    @classmethod
    def of(cls, value: int | Warm) -> Warm:
        """Return a number as a `Warm`; a `Warm` is returned unchanged."""
        return value if isinstance(value, Warm) else cls(minimum=value)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolState:
    """How full the pool is: sandboxes that wait, sandboxes that start, and the number wanted.

    `memory_bytes` is the memory that the waiting ones use (None if unknown).  `memory_limit_bytes`
    is what they may use together: no more are started beyond that.
    """

    waiting: int = 0
    starting: int = 0
    wanted: int = 0
    memory_bytes: int | None = 0
    memory_limit_bytes: int = 0


class Source(Protocol):
    """Supplies the pool's sandboxes; its methods may block and raise RunnerError."""

    def key(self, program: Program, limits: Limits) -> Hashable: ...
    def launch(self, program: Program, limits: Limits, waker: Waker) -> Holding: ...
    def has_image(self, program: Program) -> bool: ...
    def discard(self, sandbox: Holding) -> None: ...
    def leave_to_reaper(self, sandbox: Holding) -> None: ...
    def idle_memory_bytes(self) -> int: ...


@dataclass(slots=True)
class _Waiting:
    sandbox: Holding
    memory_bytes: int | None


@dataclass(slots=True, eq=False)
class _Shelf:
    """The sandboxes of one program."""

    program: Program
    limits: Limits
    size: Warm
    key: Hashable
    target: int
    waiting: deque[_Waiting] = field(default_factory=deque)
    starting: int = 0
    not_before: float = 0.0
    """No start before this time, because starts have failed."""
    leave_until: float = 0.0
    """No start before this time, because a job is using the machine."""
    pause_s: float = _FIRST_PAUSE_S
    short_at: float = 0.0
    looked_at: float = 0.0


@dataclass(slots=True, eq=False)
class _Order:
    """Work for a thread of the pool."""

    shelf: _Shelf | None = None
    sandbox: Holding | None = None
    interrupt: Interrupt = field(default_factory=Interrupt)


class Pool:
    """Keeps shelves of waiting sandboxes filled; may be used from any thread."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._workers: Workers[_Order] = Workers(CORES + 1)
        self._changed = threading.Condition()
        self._shelves: dict[Hashable, _Shelf] = {}
        self._orders: set[_Order] = set()
        self._manager: threading.Thread | None = None
        self._measured_bytes = _FIRST_GUESS_BYTES
        self._limit_bytes = 0
        self._closed = False

    def stock(self, program: Program, limits: Limits, size: Warm) -> None:
        """Keep sandboxes of this program from now on.  Raises RunnerError if no thread starts."""
        key = self._source.key(program, limits)
        with self._changed:
            self._shelves[key] = _Shelf(program, limits, size, key, size.minimum)
            if self._manager is None:
                thread = threading.Thread(target=self._manage, name="qrunner-pool", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:
                    msg = f"this process cannot start a thread for its warm sandboxes: {error}"
                    raise RunnerError(msg) from error
                self._manager = thread
            self._changed.notify_all()

    def take(self, program: Program, limits: Limits) -> Holding | None:
        """Return a sandbox that waits for a job of this program, None if there is none."""
        if not self._shelves:
            return None
        key = self._source.key(program, limits)
        with self._changed:
            shelf = self._shelves.get(key) or self._edited(program, limits, key)
            if shelf is None or self._closed:
                return None
            now = time.monotonic()
            if not _lacks(shelf):
                shelf.leave_until = now + REFILL_S
            while shelf.waiting:
                each = shelf.waiting.popleft()
                if each.sandbox.is_waiting():
                    # The manager is not woken: its work would delay this job, whose end wakes it.
                    return each.sandbox
                self._discard(each.sandbox)
            shelf.target = min(shelf.target + 1, shelf.size.most)
            shelf.short_at = now
            self._changed.notify_all()
            return None

    def keeps(self, program: Program) -> bool:
        """Return True if sandboxes of this program, with whatever limits, are kept here."""
        with self._changed:
            return any(each.program.path == program.path for each in self._shelves.values())

    def job_over(self) -> None:
        """Start missing sandboxes now: a job for which that was delayed has ended."""
        with self._changed:
            for shelf in self._shelves.values():
                shelf.leave_until = 0.0
            self._changed.notify_all()

    def _edited(self, program: Program, limits: Limits, key: Hashable) -> _Shelf | None:
        """Return the shelf of a program edited since, without sandboxes of its old version."""
        for shelf in self._shelves.values():
            if shelf.program.path == program.path and shelf.limits == limits:
                for each in shelf.waiting:
                    self._discard(each.sandbox)
                del self._shelves[shelf.key]
                new = _Shelf(program, limits, shelf.size, key, shelf.target)
                self._shelves[key] = new
                return new
        return None

    def state(self) -> PoolState:
        """Return how full the pool is now."""
        with self._changed:
            shelves = list(self._shelves.values())
            waiting = [each for shelf in shelves for each in shelf.waiting]
            measured = [each.memory_bytes for each in waiting if each.memory_bytes is not None]
            return PoolState(
                waiting=len(waiting),
                starting=sum(shelf.starting for shelf in shelves),
                wanted=sum(shelf.target for shelf in shelves),
                memory_bytes=sum(measured) if len(measured) == len(waiting) else None,
                memory_limit_bytes=self._limit_bytes,
            )

    def wait(self, timeout_s: float | None) -> bool:
        """Wait until the wanted number waits; return False if it does not within `timeout_s`."""
        with self._changed:
            return self._changed.wait_for(lambda: self._closed or self._is_full(), timeout_s) and (
                not self._closed
            )

    def _is_full(self) -> bool:
        return all(len(each.waiting) >= each.target for each in self._shelves.values())

    def close(self) -> None:
        """Hand out no more sandboxes, and begin to remove all of them."""
        with self._changed:
            self._closed = True
            for order in self._orders:
                order.interrupt.fire()
            for shelf in self._shelves.values():
                while shelf.waiting:
                    self._discard(shelf.waiting.popleft().sandbox)
            self._workers.close()
            self._changed.notify_all()

    def join(self, patience_s: float | None) -> bool:
        """Wait until all are removed; give up after `patience_s` seconds without progress."""
        if self._manager is not None and self._manager is not threading.current_thread():
            self._manager.join(patience_s)
        return self._workers.join(patience_s)

    # --- in the pool's threads ------------------------------------------------------------------

    def _manage(self) -> None:
        """Examine waiting sandboxes, order missing ones, sleep; repeat until the pool is closed."""
        looked_at = 0.0
        while True:
            if time.monotonic() - looked_at >= LOOK_S:
                self._look()
                looked_at = time.monotonic()
            with self._changed:
                if self._closed:
                    return
                now = time.monotonic()
                for shelf in list(self._shelves.values()):
                    self._shrink(shelf, now)
                    self._fill(shelf, now)
                due = [_start_at(each) - now for each in self._shelves.values() if _lacks(each)]
                left = [each for each in due if each > 0]
                self._changed.wait(min([LOOK_S, *left]))

    def _look(self) -> None:
        """Measure the waiting sandboxes, and remove those that have ended or sent something."""
        with self._changed:
            found = [(shelf, each) for shelf in self._shelves.values() for each in shelf.waiting]
        for shelf, each in found:
            with self._changed:  # for each one, so that `take` waits for one examination at most
                if each not in shelf.waiting:
                    continue
                if not each.sandbox.is_waiting():
                    log.warning("a waiting sandbox of %s is gone", shelf.program.name)
                    shelf.waiting.remove(each)
                    self._discard(each.sandbox)
            each.memory_bytes = each.sandbox.memory_bytes()
        measured = [each.memory_bytes for _, each in found if each.memory_bytes]
        self._measured_bytes = max(measured, default=self._measured_bytes)
        self._limit_bytes = self._source.idle_memory_bytes()

    def _shrink(self, shelf: _Shelf, now: float) -> None:
        if shelf.target > shelf.size.minimum and now - shelf.short_at >= shelf.size.idle_s:
            shelf.target -= 1
            shelf.short_at = now
        while len(shelf.waiting) > shelf.target:
            self._discard(shelf.waiting.popleft().sandbox)

    def _fill(self, shelf: _Shelf, now: float) -> None:
        if shelf.waiting and now - shelf.looked_at >= IMAGE_S:
            shelf.looked_at = now
            self._order(_Order(shelf), self._check_image)
        while _lacks(shelf) and now >= _start_at(shelf) and self._has_room():
            shelf.starting += 1
            if not self._order(_Order(shelf), self._start):
                shelf.starting -= 1
                return

    def _has_room(self) -> bool:
        shelves = self._shelves.values()
        number = sum(len(each.waiting) + each.starting for each in shelves)
        return not self._limit_bytes or (number + 1) * self._measured_bytes <= self._limit_bytes

    def _order(self, order: _Order, work: Callable[[_Order], None]) -> bool:
        """Start work in a thread; return False if no thread will do it."""
        self._orders.add(order)
        try:
            self._workers.submit(order, functools.partial(self._carry_out, work))
        except RunnerError as error:
            self._orders.discard(order)
            log.warning("the pool of warm sandboxes cannot continue now: %s", error)
            return False
        return True

    def _carry_out(self, work: Callable[[_Order], None], order: _Order) -> None:
        try:
            work(order)
        finally:
            with self._changed:
                self._orders.discard(order)
                self._changed.notify_all()

    def _start(self, order: _Order) -> None:
        shelf = order.shelf
        assert shelf is not None
        sandbox = None
        try:
            with order.interrupt.scope(), Waker() as waker:
                sandbox = self._source.launch(shelf.program, shelf.limits, waker)
        except CancelledError:
            return
        except (RunnerError, OSError) as error:
            log.warning("no warm sandbox of %s: %s", shelf.program.name, error)
        finally:
            with self._changed:
                shelf.starting -= 1
                is_kept = self._put(shelf, sandbox)
            if sandbox is not None and not is_kept:
                self._source.discard(sandbox)

    def _put(self, shelf: _Shelf, sandbox: Holding | None) -> bool:
        if sandbox is None:
            shelf.not_before = time.monotonic() + shelf.pause_s
            shelf.pause_s = min(2 * shelf.pause_s, _LONGEST_PAUSE_S)
            return False
        if self._closed or self._shelves.get(shelf.key) is not shelf:
            return False
        shelf.pause_s = _FIRST_PAUSE_S
        shelf.waiting.append(_Waiting(sandbox, sandbox.memory_bytes()))
        return True

    def _check_image(self, order: _Order) -> None:
        """Remove sandboxes whose image is gone: records of their jobs would name no image."""
        shelf = order.shelf
        assert shelf is not None
        with contextlib.suppress(RunnerError):  # a stuck engine is no reason to remove them
            if self._source.has_image(shelf.program):
                return
            log.warning(
                "the image of %s is gone, and its warm sandboxes with it", shelf.program.name
            )
            with self._changed:
                while shelf.waiting:
                    self._discard(shelf.waiting.popleft().sandbox)

    def _discard(self, sandbox: Holding) -> None:
        """Remove a sandbox in another thread."""
        if not self._order(_Order(sandbox=sandbox), self._remove):
            self._source.leave_to_reaper(sandbox)

    def _remove(self, order: _Order) -> None:
        assert order.sandbox is not None
        self._source.discard(order.sandbox)


def _lacks(shelf: _Shelf) -> bool:
    return len(shelf.waiting) + shelf.starting < shelf.target


def _start_at(shelf: _Shelf) -> float:
    return max(shelf.not_before, shelf.leave_until)
