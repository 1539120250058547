"""Threads that run tasks, fairly between users, within limits on number and weight.

A thread stays for `IDLE_S` after its last task, so that a task that follows soon need not wait for
a new one, and refers to a task only while it works on it.  The interpreter's end waits for none of
them.  Every operation takes constant time, however many tasks wait.

A resource that a task has built may rest for a later task of its group.  It keeps the task's
weight, and is evicted when a waiting task needs the room.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from runner.errors import RequestError, RunnerError

log = logging.getLogger(__name__)

T = TypeVar("T", bound=Hashable)

IDLE_S: Final = 0.5
"""How long a thread without a task stays, in seconds: starting one takes longer than some jobs."""


@dataclass(frozen=True, slots=True)
class _Entry(Generic[T]):
    task: T
    work: Callable[[T], object]
    weight: int
    group: Hashable
    user: str


@dataclass(frozen=True, slots=True)
class _Rest:
    thing: Any
    group: Hashable
    weight: int
    evict: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Load:
    """How busy workers are: tasks that run and wait, of at most `limit` at once, and weights.

    `weight` is that of what runs or rests; `budget` is the most that it may be, None for no bound.
    """

    running: int
    waiting: int
    limit: int
    weight: int
    budget: int | None


class Workers(Generic[T]):
    """Runs `work(task)` for each task; a task is live from `submit` until its work has returned.

    At most `limit` tasks run at the same time, at most `most_of_user` of one user (None: no limit);
    a user who has so many delays no other.  Their weights, including what rests, add up to at most
    `budget` (None: no limit; a single task may always run).  Users take turns, and the tasks of one
    user run in the order of submission.  The next task waits until there is room, and no other one
    overtakes it, so heavy tasks do not starve.  If `work` returns a function, it is called when the
    task is no longer live, by a thread that then takes the next task; so a task that it submits
    needs no new thread.
    """

    def __init__(
        self, limit: int, *, budget: int | None = None, most_of_user: int | None = None
    ) -> None:
        self._limit = limit
        self._budget = budget
        self._most_of_user = most_of_user
        lock = threading.RLock()
        self._changed = threading.Condition(lock)
        self._wanted = threading.Condition(lock)
        self._waiting: OrderedDict[str, OrderedDict[T, _Entry[T]]] = OrderedDict()
        self._held_back: dict[str, OrderedDict[T, _Entry[T]]] = {}
        self._running_of: Counter[str] = Counter()
        self._users: dict[T, str] = {}
        self._live: set[T] = set()
        self._weights: dict[T, int] = {}
        self._resting: OrderedDict[int, _Rest] = OrderedDict()
        self._resumed: dict[T, Any] = {}
        self._threads: set[threading.Thread] = set()
        self._weight = 0
        self._running = 0
        self._closed = False

    def submit(
        self,
        task: T,
        work: Callable[[T], object],
        *,
        user: str = "",
        weight: int = 0,
        group: Hashable = None,
    ) -> None:
        """Queue a task.  Raises RequestError after `close`, RunnerError if no thread starts.

        If a resource of its `group` rests when its turn comes, the task gets it and adds no weight.
        """
        with self._changed:
            if self._closed:
                msg = "this Supervisor is closed: make a new one"
                raise RequestError(msg)
            queues = self._held_back if self._has_enough(user) else self._waiting
            queue = queues.setdefault(user, OrderedDict())
            queue[task] = _Entry(task, work, weight, group, user)
            self._users[task] = user
            self._live.add(task)
            try:
                self._start_threads()
            except RuntimeError as error:
                if not self._threads:  # else one of these takes it in its turn
                    self._forget(task)
                    msg = f"this process cannot start a thread for a job: {error}"
                    raise RunnerError(msg) from error

    @property
    def is_busy(self) -> bool:
        """Return True while a task is live."""
        return bool(self._live)

    def load(self) -> Load:
        """Return how busy the workers are."""
        with self._changed:
            waiting = len(self._users)
            return Load(self._running, waiting, self._limit, self._weight, self._budget)

    def set_budget(self, budget: int) -> None:
        """Change the most that the running tasks may weigh together."""
        with self._changed:
            self._budget = budget
            self._start_threads_or_leave_it()

    def withdraw(self, task: T) -> None:
        """Remove a task whose work has not begun; others are left to their thread."""
        with self._changed:
            if task in self._users:
                self._forget(task)
                self._start_threads_or_leave_it()  # it may have been the one without room
                self._changed.notify_all()

    # --- resting resources ------------------------------------------------------------------------

    def rest(self, task: T, group: Hashable, thing: object, evict: Callable[[], object]) -> None:
        """Keep a resource of a running task for the next of its group, with the task's weight.

        It belongs to these workers until `resumed` or `forget` hands it out, or `evict` is called.
        `evict` is called under the lock, so it must neither block nor call back here.
        """
        with self._changed:
            weight, self._weights[task] = self._weights[task], 0
            self._resting[id(thing)] = _Rest(thing, group, weight, evict)
            self._start_threads_or_leave_it()

    def resumed(self, task: T) -> Any:
        """Return the resource that a running task has got, once; None if none rested."""
        with self._changed:
            return self._resumed.pop(task, None)

    def forget(self, group: Hashable) -> list[Any]:
        """Return all resting resources of a group; they no longer count."""
        with self._changed:
            mine = [key for key, each in self._resting.items() if each.group == group]
            things = [self._end_rest(key).thing for key in mine]
            self._start_threads_or_leave_it()
            return things

    def close(self) -> list[T]:
        """Accept no more tasks, and return the live ones."""
        with self._changed:
            self._closed = True
            return list(self._live)

    def join(self, patience_s: float | None) -> bool:
        """Wait until no task is live; give up when none has ended for `patience_s` seconds."""
        with self._changed:
            while self._live:
                before = len(self._live)
                self._changed.wait_for(functools.partial(self._has_fewer_than, before), patience_s)
                if not self._has_fewer_than(before):
                    return False
            self._wanted.notify_all()  # those that idle leave
            threads = self._threads - {threading.current_thread()}
        for each in threads:
            each.join(patience_s)
        return True

    def _has_fewer_than(self, number: int) -> bool:
        return len(self._live) < number

    # --- with the lock held -----------------------------------------------------------------------

    def _has_enough(self, user: str) -> bool:
        """Return True if as many tasks of a user run as may."""
        return self._most_of_user is not None and self._running_of[user] >= self._most_of_user

    def _has_run(self, user: str) -> None:
        """Count a task that has ended; its user gets a turn again, behind the others."""
        self._running_of[user] -= 1
        if not self._running_of[user]:
            del self._running_of[user]
        if user in self._held_back and not self._has_enough(user):
            self._waiting[user] = self._held_back.pop(user)

    def _start_threads(self) -> None:
        """Have a thread take the next task if it may run now and no thread is on its way."""
        idle = len(self._threads) - self._running
        if idle:
            self._wanted.notify()
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
            log.warning("no thread for a waiting job; the next free one takes it: %s", error)

    def _next_fits(self) -> bool:
        """Return True if the next task may run now; evicts what has rested longest if needed."""
        queue = next(iter(self._waiting.values()))
        entry = next(iter(queue.values()))
        if self._budget is None or self._rest_of(entry.group) is not None:
            return True
        busy = self._weight - sum([each.weight for each in list(self._resting.values())])
        if busy and busy + entry.weight > self._budget:
            return False
        while self._resting and self._weight + entry.weight > self._budget:
            self._end_rest(next(iter(self._resting))).evict()
        return True

    def _rest_of(self, group: Hashable) -> int | None:
        """Return the key of the longest resting resource of a group, None if none rests."""
        if group is None:
            return None
        return next((key for key, each in self._resting.items() if each.group == group), None)

    def _end_rest(self, key: int) -> _Rest:
        rest = self._resting.pop(key)
        self._weight -= rest.weight
        return rest

    def _take(self) -> _Entry[T] | None:
        """Take the next task out of the queue, and pass the turn to the next user."""
        if not self._waiting or not self._next_fits():
            return None
        user, queue = next(iter(self._waiting.items()))
        task, entry = queue.popitem(last=False)
        del self._users[task]
        self._running_of[user] += 1
        self._waiting.move_to_end(user)
        if not queue:
            del self._waiting[user]
        elif self._has_enough(user):
            self._held_back[user] = self._waiting.pop(user)
        self._weigh(entry)
        self._running += 1
        self._start_threads_or_leave_it()
        return entry

    def _weigh(self, entry: _Entry[T]) -> None:
        """Add the weight of a task that begins, or of the resource that it gets."""
        weight, key = entry.weight, self._rest_of(entry.group)
        if key is not None:
            rest = self._end_rest(key)
            weight, self._resumed[entry.task] = rest.weight, rest.thing
        self._weights[entry.task] = weight
        self._weight += weight

    def _forget(self, task: T) -> None:
        user = self._users.pop(task)
        queues = self._waiting if user in self._waiting else self._held_back
        del queues[user][task]
        if not queues[user]:
            del queues[user]
        self._live.discard(task)

    # --- in a thread ------------------------------------------------------------------------------

    def _serve(self) -> None:
        while True:
            with self._changed:
                entry = self._take()
                if entry is None:
                    self._wanted.wait(IDLE_S)
                    entry = self._take()  # after a wait in vain, too: one may have just come
                if entry is None:
                    self._threads.discard(threading.current_thread())
                    return
            then = self._done(entry.work, entry.task)
            with self._changed:
                self._weight -= self._weights.pop(entry.task)
                self._running -= 1
                self._has_run(entry.user)
                self._live.discard(entry.task)
                self._changed.notify_all()
            if callable(then):
                self._done(then)

    @staticmethod
    def _done(work: Callable[..., object], *arguments: T) -> object:
        try:
            return work(*arguments)
        except BaseException:
            log.exception("a job's thread failed")
            return None
