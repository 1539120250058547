"""Threads that work tasks off in order, not more than a limit at the same time.

A thread exists only while there is work, and holds on to a task only while it works on it.  So
whoever submitted may be forgotten and collected when the last task has ended, and the end of the
interpreter waits for nobody.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from runner.errors import RequestError, RunnerError

log = logging.getLogger(__name__)

T = TypeVar("T", bound=Hashable)


class Workers(Generic[T]):
    """Runs `work(task)` for each task; a task is live from `submit` until its work has returned."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        # Re-entrant, as is every lock here: the garbage collector may close a supervisor anywhere.
        self._changed = threading.Condition()
        self._waiting: deque[tuple[T, Callable[[T], object]]] = deque()
        self._live: set[T] = set()
        self._threads: set[threading.Thread] = set()
        self._closed = False

    def submit(self, task: T, work: Callable[[T], object]) -> None:
        """Queue a task.  Raises RequestError after `close`, RunnerError if no thread starts."""
        with self._changed:
            if self._closed:
                msg = "this Supervisor is closed: make a new one"
                raise RequestError(msg)
            self._waiting.append((task, work))
            self._live.add(task)
            if len(self._threads) < self._limit:
                self._start_thread(task)

    def _start_thread(self, task: T) -> None:
        thread = threading.Thread(target=self._serve, name="qrunner-job", daemon=True)
        self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError as error:
            self._threads.discard(thread)
            if not self._threads:  # else one of these takes it in its turn
                self._waiting.pop()
                self._live.discard(task)
                msg = f"this process cannot start a thread for a job: {error}"
                raise RunnerError(msg) from error

    def withdraw(self, task: T) -> None:
        """Forget a task whose work has not begun; others are left to their thread."""
        with self._changed:
            for each in self._waiting:
                if each[0] is task:
                    self._waiting.remove(each)
                    self._live.discard(task)
                    self._changed.notify_all()
                    return

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

    def _serve(self) -> None:
        while True:
            with self._changed:
                if not self._waiting:
                    self._threads.discard(threading.current_thread())
                    return
                task, work = self._waiting.popleft()
            try:
                work(task)
            except BaseException:
                log.exception("a job's thread failed")
            with self._changed:
                self._live.discard(task)
                self._changed.notify_all()
            del task, work  # what it belongs to may be collected now
