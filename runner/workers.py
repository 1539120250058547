"""Threads that work tasks off, fairly between owners, within limits of number and weight.

A thread exists only while there is work, and holds on to a task only while it works on it.  So
whoever submitted may be forgotten and collected when the last task has ended, and the end of the
interpreter waits for nobody.  Every operation costs the same, however many tasks wait.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from runner.errors import RequestError, RunnerError

log = logging.getLogger(__name__)

T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True, slots=True)
class _Entry(Generic[T]):
    task: T
    work: Callable[[T], object]
    weight: int


class Workers(Generic[T]):
    """Runs `work(task)` for each task; a task is live from `submit` until its work has returned.

    No more than `limit` at the same time, and together no heavier than `budget` (None: any weight;
    a single task always runs).  Owners take turns, the tasks of one run in the order submitted.
    Whose turn it is waits until there is room: nobody overtakes, so heavy tasks do not starve.
    """

    def __init__(self, limit: int, *, budget: int | None = None) -> None:
        self._limit = limit
        self._budget = budget
        # Re-entrant, as is every lock here: the garbage collector may close a supervisor anywhere.
        self._changed = threading.Condition()
        self._waiting: OrderedDict[str, OrderedDict[T, _Entry[T]]] = OrderedDict()
        self._owners: dict[T, str] = {}
        self._live: set[T] = set()
        self._threads: set[threading.Thread] = set()
        self._weight = 0
        self._running = 0
        self._closed = False

    def submit(
        self, task: T, work: Callable[[T], object], *, owner: str = "", weight: int = 0
    ) -> None:
        """Queue a task.  Raises RequestError after `close`, RunnerError if no thread starts."""
        with self._changed:
            if self._closed:
                msg = "this Supervisor is closed: make a new one"
                raise RequestError(msg)
            queue = self._waiting.setdefault(owner, OrderedDict())
            queue[task] = _Entry(task, work, weight)
            self._owners[task] = owner
            self._live.add(task)
            try:
                self._start_threads()
            except RuntimeError as error:
                if not self._threads:  # else one of these takes it in its turn
                    self._forget(task)
                    msg = f"this process cannot start a thread for a job: {error}"
                    raise RunnerError(msg) from error

    def set_budget(self, budget: int) -> None:
        """Change what the running tasks may weigh together."""
        with self._changed:
            self._budget = budget
            self._start_threads_or_leave_it()

    def withdraw(self, task: T) -> None:
        """Forget a task whose work has not begun; others are left to their thread."""
        with self._changed:
            if task in self._owners:
                self._forget(task)
                self._start_threads_or_leave_it()  # it may have been the one that had no room
                self._changed.notify_all()

    def close(self) -> list[T]:
        """Accept no more, and return the tasks that are live."""
        with self._changed:
            self._closed = True
            return list(self._live)

    def join(self, patience_s: float | None) -> bool:
        """Wait until no task is live; give up when none has ended for `patience_s`."""
        with self._changed:
            while self._live:
                before = len(self._live)
                self._changed.wait_for(functools.partial(self._has_fewer_than, before), patience_s)
                if not self._has_fewer_than(before):
                    return False
            threads = self._threads - {threading.current_thread()}
        for each in threads:
            each.join(patience_s)
        return True

    def _has_fewer_than(self, number: int) -> bool:
        return len(self._live) < number

    # --- with the lock held -----------------------------------------------------------------------

    def _start_threads(self) -> None:
        """Start a thread for the next task if it may run now and none is on its way to it."""
        idle = len(self._threads) - self._running
        if self._waiting and not idle and len(self._threads) < self._limit and self._next_fits():
            thread = threading.Thread(target=self._serve, name="qrunner-job", daemon=True)
            self._threads.add(thread)
            try:
                thread.start()
            except RuntimeError:
                self._threads.discard(thread)
                raise

    def _start_threads_or_leave_it(self) -> None:
        try:
            self._start_threads()
        except RuntimeError as error:
            log.warning("no thread for a job that waits, the next that ends takes it: %s", error)

    def _next_fits(self) -> bool:
        queue = next(iter(self._waiting.values()))
        entry = next(iter(queue.values()))
        return (
            self._budget is None or not self._weight or self._weight + entry.weight <= self._budget
        )

    def _take(self) -> _Entry[T] | None:
        """Take the next task out of the queue, and give its owner's turn to the next owner."""
        if not self._waiting or not self._next_fits():
            return None
        owner, queue = next(iter(self._waiting.items()))
        task, entry = queue.popitem(last=False)
        del self._owners[task]
        self._waiting.move_to_end(owner)
        if not queue:
            del self._waiting[owner]
        self._weight += entry.weight
        self._running += 1
        self._start_threads_or_leave_it()
        return entry

    def _forget(self, task: T) -> None:
        owner = self._owners.pop(task)
        del self._waiting[owner][task]
        if not self._waiting[owner]:
            del self._waiting[owner]
        self._live.discard(task)

    # --- in a thread ------------------------------------------------------------------------------

    def _serve(self) -> None:
        while True:
            with self._changed:
                entry = self._take()
                if entry is None:
                    self._threads.discard(threading.current_thread())
                    return
            try:
                entry.work(entry.task)
            except BaseException:
                log.exception("a job's thread failed")
            with self._changed:
                self._weight -= entry.weight
                self._running -= 1
                self._live.discard(entry.task)
                self._changed.notify_all()
            del entry  # what it belongs to may be collected now
