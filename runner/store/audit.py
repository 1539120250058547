"""The audit log: who did what to whose jobs and programs, in the store's file.

It holds names, ids and results, never tokens, inputs, messages or results of programs.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from runner.store.file import StoreFile

MAX_ENTRIES: Final = 1_000_000
_PRUNE_EVERY: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One action; `time` is in seconds since the epoch, `status` an HTTP status."""

    number: int
    time: float
    user: str
    action: str
    object: str
    status: int
    address: str


class Audit:
    """The audit log in one file; the oldest entries beyond `MAX_ENTRIES` are removed."""

    def __init__(self, file: StoreFile) -> None:
        self._file = file

    def add(self, user: str, action: str, what: str, *, status: int, address: str) -> None:
        """Write one entry.  Raises StoreError."""
        with self._file.writing() as db:
            number = db.execute(
                "INSERT INTO audit (time, user, action, object, status, address) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (time.time(), user, action, what, status, address),
            ).lastrowid
            if number is not None and number % _PRUNE_EVERY == 0:
                db.execute("DELETE FROM audit WHERE number <= ?", (number - MAX_ENTRIES,))

    def entries(self, *, user: str | None = None, limit: int = 100) -> list[Entry]:
        """Return the newest entries, the newest first; of one user, unless it is None."""
        with self._file.reading() as db:
            found = db.execute(
                "SELECT number, time, user, action, object, status, address FROM audit "
                "WHERE :user IS NULL OR user = :user ORDER BY number DESC LIMIT :limit",
                {"user": user, "limit": limit},
            ).fetchall()
        names = ("number", "time", "user", "action", "object", "status", "address")
        return [Entry(**dict(zip(names, row, strict=True))) for row in found]
