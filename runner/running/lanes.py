"""The lanes of one session: each runs one job after another.

A lane has a cell, used for one job, and makes the next one while nobody waits for it.  Where there
are no cells it has a sandbox, which runs each job in a fork: it is kept for the next one as long as
nothing is left of the previous job.  Waiting jobs are in the session's own queue.  As many jobs as
there are lanes are submitted to the supervisor's workers, so a session shares the slots with all
other jobs, job by job.  Between two jobs a lane rests with the workers: it holds no thread, its
memory stays counted, and it is given up when another job needs that memory.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from runner.engine import Engine
from runner.engine.attachment import Stream
from runner.errors import RequestError, RunnerError
from runner.host.interrupt import CancelledError, check
from runner.host.workers import Workers
from runner.policy import Policy
from runner.running.execution import Execution
from runner.running.supply import Supply, place_of
from runner.running.task import Task, our_fault
from runner.running.verdict import Verdict
from runner.sandboxes.cell import Cell
from runner.sandboxes.cgroup import Counters
from runner.sandboxes.launcher import Sandbox
from runner.sandboxes.spec import Holding
from runner.sandboxes.turn import Turn

log = logging.getLogger(__name__)

_CLOSING_S: Final = 10.0
"""How long `close` waits for the jobs that it has cancelled, in seconds."""


@dataclass(slots=True)
class Lane:
    """One lane of a session; `sandbox` is what its next job runs in, None if there is none yet.

    `number` is the number of its last job, `counted` the kernel's counters at the end of that job.
    """

    sandbox: Holding | None = None
    policy: Policy | None = None
    number: int = 0
    counted: Counters | None = None
    is_clean: bool = True


class Queue(Protocol):
    """The queue of a session's jobs.  A cluster has no lanes, but queues jobs as well."""

    def submit(self, task: Task) -> None: ...
    def withdraw(self, task: Task) -> None: ...
    def close(self) -> None: ...


class Lanes:
    """Runs the jobs of one session.  All methods may be called from any thread."""

    def __init__(
        self,
        supply: Supply,
        engine: Engine,
        workers: Workers[Task],
        count: int,
    ) -> None:
        self._supply = supply
        self._engine = engine
        self._workers = workers
        self._changed = threading.Condition()
        self._free = count
        self._busy: set[Task] = set()
        self._waiting: deque[Task] = deque()
        self._is_closed = False

    def submit(self, task: Task) -> None:
        """Queue a job.  Raises RequestError after `close`."""
        with self._changed:
            if self._is_closed:
                msg = "this session is closed: make a new one"
                raise RequestError(msg)
            self._waiting.append(task)
            self._fill()

    def withdraw(self, task: Task) -> None:
        """Remove a waiting job; a job that has a lane is left to its thread."""
        with self._changed, contextlib.suppress(ValueError):
            self._waiting.remove(task)

    def close(self) -> None:
        """Cancel all remaining jobs, and give the sandboxes back."""
        with self._changed:
            self._is_closed = True
            left = [*self._waiting, *self._busy]
            self._waiting.clear()
        for task in left:
            task.job.cancel()
        with self._changed:
            self._changed.wait_for(lambda: not self._busy, _CLOSING_S)
        self._give_back()

    def _give_back(self) -> None:
        for lane in self._workers.forget(self):
            self._give_up(lane)

    def _fill(self) -> None:
        """Submit as many jobs as there are free lanes; the caller holds the lock."""
        while self._free and self._waiting:
            task = self._waiting.popleft()
            self._free -= 1
            self._busy.add(task)
            try:
                user, weight = task.request.user, task.limits.memory_bytes
                self._workers.submit(task, self._work, user=user, weight=weight, group=self)
            except RunnerError as error:
                self._free += 1
                self._busy.discard(task)
                task.finish(our_fault(str(error)))

    # --- in a worker thread ---------------------------------------------------------------------

    def _work(self, task: Task) -> Callable[[], None]:
        lane = self._workers.resumed(task) or Lane()
        try:
            execute = functools.partial(self._execute, lane)
            self._supply.work(task, execute, functools.partial(self._release, lane))
        finally:
            if self._is_closed:
                self._give_up(lane)
            elif lane.sandbox is not None:
                self._workers.rest(task, self, lane, functools.partial(self._evict, lane))
        return functools.partial(self._leave, task)

    def _leave(self, task: Task) -> None:
        with self._changed:
            self._busy.discard(task)
            self._free += 1
            self._changed.notify_all()
            self._fill()
        if self._is_closed:
            self._give_back()

    def _execute(self, lane: Lane, task: Task) -> Verdict:
        with task.interrupt.scope():
            check()
            task.waker.open()
            sandbox = self._sandbox(lane, task)
        if not task.job.start():
            raise CancelledError
        lane.is_clean = False  # until it is known to be clean
        if not isinstance(sandbox, Sandbox):
            place = place_of(self._engine, sandbox)
            return Execution(place, task.job, task.limits, task.waker, task.device).run(
                task.request
            )
        lane.number += 1
        turn = Turn(self._engine, sandbox, lane.number, lane.counted)
        execution = Execution(turn, task.job, task.limits, task.waker, task.device)
        verdict = execution.run(task.request)
        lane.is_clean, lane.counted = execution.is_clean, turn.counted
        return verdict

    def _sandbox(self, lane: Lane, task: Task) -> Holding:
        """Return what the lane has, or a new one if that is not alive or there is none."""
        if lane.sandbox is not None and not _is_alive(lane.sandbox):
            self._give_up(lane)
        if lane.sandbox is None or lane.policy is None:
            sandbox = self._supply.acquire(task, for_session=True)
            lane.sandbox, lane.policy, lane.is_clean = sandbox, task.policy, True
        else:
            task.policy = lane.policy
            task.hold(lane.sandbox)
        return lane.sandbox

    def _release(self, lane: Lane, task: Task) -> None:
        if lane.sandbox is None:
            self._supply.release(task)  # a sandbox that did not start
            return
        task.hold(None)
        if lane.is_clean:
            return
        used = lane.sandbox
        if isinstance(used, Cell) and not self._is_closed:
            lane.sandbox = self._next_cell(used, task)
        else:
            self._give_up(lane)

    def _next_cell(self, used: Cell, task: Task) -> Cell | None:
        """Make a cell while the kernel takes the used one apart, which takes it about as long."""
        used.end()
        try:
            return self._supply.new_cell(task, for_session=True)
        except (RunnerError, OSError):
            return None  # the next job tries again, and says why
        finally:
            self._supply.discard(used)

    def _evict(self, lane: Lane) -> None:
        sandbox, lane.sandbox = lane.sandbox, None
        if sandbox is not None:
            log.info("sandbox %s is given up: a job waits for its memory", sandbox.name)
            self._supply.leave_to_reaper(sandbox)

    def _give_up(self, lane: Lane) -> None:
        sandbox, lane.sandbox, lane.counted = lane.sandbox, None, None
        if sandbox is not None:
            self._supply.discard(sandbox)


def _is_alive(sandbox: Holding) -> bool:
    """Return True if it is usable: it exists and has sent nothing in the meantime but a log."""
    if not isinstance(sandbox, Sandbox):
        return sandbox.is_waiting()
    assert sandbox.attachment is not None
    try:
        pieces = sandbox.attachment.receive()
    except RunnerError:
        return False
    return pieces is not None and all(stream is Stream.STDERR for stream, _ in pieces)
