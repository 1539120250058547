"""Objects that must be closed: explicitly, or with a warning when the interpreter ends.

The garbage collector closes nothing.  It may run in any thread at any point, whatever locks that
thread holds.  So for a forgotten object it only warns, as it does for a socket.
"""

from __future__ import annotations

import atexit
import logging
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Entry:
    what: str
    close: Callable[[], object]
    pid: int = field(default_factory=os.getpid)
    has_warned: bool = False

    def warn(self, source: object = None) -> None:
        if not self.has_warned:
            self.has_warned = True
            msg = f'unclosed {self.what}: use "with" or close()'
            warnings.warn(msg, ResourceWarning, stacklevel=2, source=source)


Openings: TypeAlias = dict[_Entry, bool]
"""Everything that has to be closed, in the order of opening."""

_openings: Final[Openings] = {}


class Closing:
    """Closes one object once: when called, or at the end of the interpreter.

    Held by the object to be closed.  `close` must not refer to that object, because the object
    counts as forgotten when nothing refers to it any more.  Does nothing in a forked child: open
    objects there belong to the parent.

    Arguments:
        what: the name of the object, for the warning.
        close: the function that closes it.
        among: the openings of an object that closes these with itself (default: the process's).
    """

    def __init__(
        self, what: str, close: Callable[[], object], *, among: Openings = _openings
    ) -> None:
        self._entry = _Entry(what, close)
        self._among = among
        among[self._entry] = True

    @property
    def pid(self) -> int:
        """The id of the process that opened it."""
        return self._entry.pid

    @property
    def is_open(self) -> bool:
        """Return True if this process has opened it and not closed it yet."""
        return self._entry in self._among and self.pid == os.getpid()

    def __call__(self) -> None:
        """Close it; does nothing if that was done."""
        if self.is_open and self._among.pop(self._entry, False):
            self._entry.close()

    def rename(self, what: str) -> None:
        """Change the name in the warning: the object has become part of something else."""
        self._entry.what = what

    def __del__(self) -> None:
        if self.is_open:
            self._entry.warn(source=self)


def close_all(openings: Openings) -> list[_Entry]:
    """Close everything, the last opened first, because later objects use earlier ones.

    Continues when one cannot be closed.  Returns the entries that were tried.
    """
    tried = []
    while openings:
        entry, _ = openings.popitem()
        if entry.pid != os.getpid():
            continue
        tried.append(entry)
        try:
            entry.close()
        except Exception:
            log.exception("the %s could not be closed", entry.what)
    return tried


@atexit.register
def _close_forgotten() -> None:
    for each in close_all(_openings):
        each.warn()  # only now, because a warning may be turned into an error
