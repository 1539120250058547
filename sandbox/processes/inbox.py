"""Passes the host's replies on to the job's process, without ever waiting for it.

Replies are larger than what PID 1 may hold, and the program decides when it reads.  So PID 1 holds
one piece, and leaves the rest of the host's stream unread until that is gone.
"""

from __future__ import annotations

import os


class Inbox:
    """A pipe from PID 1 to the job's process; none of its methods blocks."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self._held = b""

    def keep_writer(self) -> None:
        """In the first process: keep the end for writing only."""
        os.close(self.reader)
        os.set_blocking(self.writer, False)

    def keep_reader(self) -> None:
        """In the job's process: keep the end for reading only."""
        os.close(self.writer)

    @property
    def is_full(self) -> bool:
        """Whether there is something left to write: nothing more must be given until it is gone."""
        return bool(self._held)

    def give(self, piece: bytes) -> None:
        """Write what there is room for, and hold the rest."""
        self._held += piece
        try:
            while self._held:
                self._held = self._held[os.write(self.writer, self._held) :]
        except BlockingIOError:
            return
        except OSError:  # nobody reads any more
            self._held = b""
