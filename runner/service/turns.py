"""One request of a user after the other, where a quota is read and then used."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Final

from runner.service.faults import later

TURN_S: Final = 60.0
"""How long a request may wait for its turn, in seconds."""


class Turns:
    """Whose request is being counted; for any thread."""

    def __init__(self) -> None:
        self._busy: set[str] = set()
        self._freed = threading.Condition()

    @contextlib.contextmanager
    def of(self, user: str) -> Iterator[None]:
        """Let no other request of this user in while the block runs.

        Raises RefusedError (503) if the turn does not come.
        """
        with self._freed:
            if not self._freed.wait_for(lambda: user not in self._busy, TURN_S):
                msg = "an earlier request of yours is still being answered"
                raise later(msg)
            self._busy.add(user)
        try:
            yield
        finally:
            with self._freed:
                self._busy.remove(user)
                self._freed.notify_all()
