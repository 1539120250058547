"""Interrupts a thread's waiting from another thread: a build, a download, the start of a sandbox.

An `Interrupt` belongs to one task.  The thread that works for the task does so inside `scope`.
Code that blocks there either registers how to unblock it, in a `calling` block, or polls with
`check`. Outside of any scope both do nothing, so builds need not know if they can be interrupted.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import Final, Self

from runner.errors import RunnerError


class CancelledError(RunnerError):
    """The task was cancelled while it was being done."""


class _Ambient(threading.local):
    interrupt: Interrupt | None = None


_ambient: Final = _Ambient()


class Interrupt:
    """Fires at most once; may be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._actions: list[Callable[[], object]] = []
        self._fired = False

    def fire(self) -> None:
        """Unblock the thread that works for this task now, and make later attempts fail at once."""
        # Under the lock, so that no action runs after its block has ended: a process id or a
        # descriptor could then belong to something else.
        with self._lock:
            if not self._fired:
                self._fired = True
                for action in self._actions:
                    action()

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Make this the interrupt that `check` and `calling` obey in this thread."""
        earlier, _ambient.interrupt = _ambient.interrupt, self
        try:
            yield
        finally:
            _ambient.interrupt = earlier

    @contextlib.contextmanager
    def calling(self, action: Callable[[], object]) -> Iterator[None]:
        """Call `action`, which must not block, if this fires while the block runs.

        Raises CancelledError if it fired before or during the block.
        """
        with self._lock:
            self.check()
            self._actions.append(action)
        try:
            yield
        except Exception as error:
            if self._fired:
                raise CancelledError from error
            raise
        finally:
            with self._lock:
                self._actions.remove(action)
        self.check()

    def check(self) -> None:
        """Raise CancelledError if this has fired."""
        if self._fired:
            msg = "cancelled"
            raise CancelledError(msg)


def check() -> None:
    """Raise CancelledError if this thread's task has been cancelled."""
    if _ambient.interrupt is not None:
        _ambient.interrupt.check()


def calling(action: Callable[[], object]) -> contextlib.AbstractContextManager[None]:
    """Call `action` if this thread's task is cancelled in the block: see `Interrupt.calling`."""
    if _ambient.interrupt is None:
        return contextlib.nullcontext()
    return _ambient.interrupt.calling(action)


class Waker:
    """Wakes a selector from another thread; holds descriptors only from `open` to `close`.

    A `with` block opens it, and closes it at its end.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reader: int | None = None
        self._writer: int | None = None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Make descriptors; before `open` and after `close`, `wake` does nothing."""
        with self._lock:
            self._reader, self._writer = os.pipe()
            for each in (self._reader, self._writer):
                os.set_blocking(each, False)

    def fileno(self) -> int:
        assert self._reader is not None
        return self._reader

    def wake(self) -> None:
        with self._lock, contextlib.suppress(OSError):  # full: it will wake anyway
            if self._writer is not None:
                os.write(self._writer, b"\0")

    def clear(self) -> None:
        assert self._reader is not None
        with contextlib.suppress(BlockingIOError):
            os.read(self._reader, 4096)

    def close(self) -> None:
        with self._lock:
            for each in (self._reader, self._writer):
                if each is not None:
                    os.close(each)
            self._reader = self._writer = None
