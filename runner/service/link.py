"""The link that lets a single user into the pages: it works once, and then there is another."""

from __future__ import annotations

import hmac
import secrets
import threading
from collections.abc import Callable


class Link:
    """The secret of the current link; every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._secret = ""
        self._announce: Callable[[str], object] | None = None

    def announce_to(self, announce: Callable[[str], object]) -> None:
        """Make the first link; `announce` gets the secret of this one and of every later one."""
        with self._lock:
            self._announce = announce
            self._renew()

    def take(self, secret: str) -> bool:
        """Return True once for each secret that has been announced."""
        with self._lock:
            wanted, given = self._secret.encode(), secret.encode(errors="replace")
            if not wanted or not hmac.compare_digest(wanted, given):
                return False
            self._renew()
            return True

    def _renew(self) -> None:
        assert self._announce is not None
        self._secret = secrets.token_urlsafe()
        self._announce(self._secret)
