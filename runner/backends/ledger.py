"""What users have used of held backends today, kept on disk: budgets outlive a command.

The file also has the jobs that are on devices (`runner.backends.device_jobs`).

One small SQLite file, shared by all processes of the user who runs supervisors.  What a call may
cost is booked before it is sent, so that two calls cannot both have the last of a budget.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from runner.errors import BackendUnavailableError
from runner.policy.held import Budget

LEDGER: Final = "held-backends.sqlite"
"""The name of the file, beside that of kept jobs."""

BUSY_S: Final = 10.0
KEEP_DAYS: Final = 60

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS used (
    day INTEGER NOT NULL, backend TEXT NOT NULL, user TEXT NOT NULL,
    circuits INTEGER NOT NULL, shots INTEGER NOT NULL, seconds REAL NOT NULL,
    PRIMARY KEY (day, backend, user)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS jobs (
    backend TEXT NOT NULL, job TEXT NOT NULL, owner TEXT NOT NULL, since INTEGER NOT NULL,
    PRIMARY KEY (backend, job)
) WITHOUT ROWID;
"""
_ADD: Final = """
INSERT INTO used VALUES (:day, :backend, :user, :circuits, :shots, :seconds)
ON CONFLICT DO UPDATE SET circuits = circuits + excluded.circuits,
    shots = shots + excluded.shots, seconds = seconds + excluded.seconds
"""


class OverBudgetError(Exception):
    """A call that costs more than is left; the text has the numbers."""


class Ledger:
    """The file.  For any thread and any process; a connection lives for one transaction."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def book(self, backend: str, user: str, budget: Budget, cost: dict[str, float]) -> None:
        """Book a cost of today.  Raises OverBudgetError, and BackendUnavailableError."""
        with self.transaction() as connection:
            row = connection.execute(
                "SELECT circuits, shots, seconds FROM used WHERE (day, backend, user) = (?, ?, ?)",
                (_today(), backend, user),
            ).fetchone()
            used = dict(zip(("circuits", "shots", "seconds"), row or (0, 0, 0.0), strict=True))
            check(budget, used, cost, f"of user {user!r} today" if user else "today")
            values = {"circuits": 0, "shots": 0, "seconds": 0.0, **cost}
            connection.execute(_ADD, {"day": _today(), "backend": backend, "user": user, **values})
            connection.execute("DELETE FROM used WHERE day < ?", (_today() - KEEP_DAYS,))

    def used(self, backend: str) -> dict[str, Budget]:
        """Return what each user has used of a backend today.  Raises BackendUnavailableError."""
        with self.transaction() as connection:
            found = connection.execute(
                "SELECT user, circuits, shots, seconds FROM used WHERE (day, backend) = (?, ?) "
                "ORDER BY user",
                (_today(), backend),
            ).fetchall()
        return {
            user: Budget(circuits=circuits, shots=shots, seconds=seconds)
            for user, circuits, shots, seconds in found
        }

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Open the file for one transaction.  Raises BackendUnavailableError."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            opened = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None)
            with contextlib.closing(opened) as connection:
                connection.executescript(_TABLES)
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                except BaseException:
                    connection.execute("ROLLBACK")
                    raise
                connection.execute("COMMIT")
        except (OSError, sqlite3.Error) as error:
            msg = f"{self.path}: the budgets of held backends cannot be kept: {error}"
            raise BackendUnavailableError(msg) from error


def check(budget: Budget, used: dict[str, float], cost: dict[str, float], whose: str) -> None:
    """Raise OverBudgetError if the cost exceeds what is left of a budget."""
    for name in ("circuits", "shots", "seconds"):
        most, so_far, more = getattr(budget, name), used.get(name, 0), cost.get(name, 0)
        # Seconds are only known afterwards: the last call may exceed them, the next is refused.
        if most is not None and (so_far + more > most or (name == "seconds" and so_far >= most)):
            msg = f"the budget {whose} is {most:g} {name}: {so_far:g} used, {more:g} asked for"
            raise OverBudgetError(msg)


def _today() -> int:
    return int(time.time() // 86400)
