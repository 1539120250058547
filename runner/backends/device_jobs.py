"""The jobs that holders have on their devices, on disk: a host that dies forgets none of them.

They are in the file of the budgets.  A job is kept from its submission to its answer; what a dead
process has left there is cancelled by the next holder of the same backend.
"""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import Sequence
from typing import Final

from runner.backends.ledger import Ledger
from runner.errors import BackendUnavailableError
from runner.host.processes import HostProcess

log = logging.getLogger(__name__)

TRIED_S: Final = 2 * 86400
"""How long after its submission a job is looked for on its device, in seconds."""

_numbers: Final = itertools.count()


class DeviceJobs:
    """The jobs of the holders of one supervisor.  For any thread.

    What cannot be written is logged, and no reason to refuse a call.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._owner = f"{HostProcess.current()} {next(_numbers)}"

    def keep(self, backend: str, job: str) -> None:
        """Keep a job that was submitted."""
        values = (backend, job, self._owner, int(time.time()))
        self._change([("INSERT OR REPLACE INTO jobs VALUES (?, ?, ?, ?)", values)])

    def forget(self, backend: str, jobs: Sequence[str]) -> None:
        """Forget jobs that are over."""
        statement = "DELETE FROM jobs WHERE (backend, job) = (?, ?)"
        self._change([(statement, (backend, each)) for each in jobs])

    def left_behind(self, backend: str) -> list[str]:
        """Return the jobs of a backend that dead processes, or a dead holder here, have left.

        Those that no holder could find for `TRIED_S` are forgotten.
        """
        try:
            with self._ledger.transaction() as connection:
                rows = connection.execute(
                    "SELECT job, owner, since FROM jobs WHERE backend = ?", (backend,)
                ).fetchall()
        except BackendUnavailableError as error:
            log.warning("%s", error)
            return []
        left = [row for row in rows if row[1] == self._owner or _is_dead(row[1])]
        oldest = int(time.time()) - TRIED_S
        if old := [job for job, _, since in left if since < oldest]:
            self.forget(backend, old)
        return [job for job, _, since in left if since >= oldest]

    def with_left_behind(self) -> list[str]:
        """Return the names of the backends that have any left behind."""
        if not os.path.exists(self._ledger.path):  # noqa: PTH110
            return []
        try:
            with self._ledger.transaction() as connection:
                rows = connection.execute("SELECT DISTINCT backend FROM jobs").fetchall()
        except BackendUnavailableError as error:
            log.warning("%s", error)
            return []
        return [name for (name,) in rows if self.left_behind(name)]

    def _change(self, statements: Sequence[tuple[str, tuple[str | int, ...]]]) -> None:
        try:
            with self._ledger.transaction() as connection:
                for each in statements:
                    connection.execute(*each)
        except BackendUnavailableError as error:
            log.warning("%s", error)


def _is_dead(owner: str) -> bool:
    process = HostProcess.parse(owner.partition(" ")[0])
    return process is None or process.is_dead()
