"""Answers that have not reached their client, kept for when it asks again.

IBM's clients repeat a request whose answer they did not get, with nothing to know it by.  Two equal
requests of one user are therefore answered one after the other; the second gets the first one's
answer if, and only if, that client had hung up before it was answered.  Whoever asks twice for the
same thing, and gets both answers, runs two jobs.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Final

from starlette.responses import Response

KEPT_S: Final = 120.0
"""How long a client may take to ask again, in seconds; IBM's have given up by then."""

_MOST: Final = 1000


class Repeats:
    """The undelivered answers of one service; used in its event loop only."""

    def __init__(self) -> None:
        self._lost: OrderedDict[bytes, tuple[float, Response]] = OrderedDict()
        self._turns: dict[bytes, tuple[asyncio.Lock, int]] = {}

    @contextlib.asynccontextmanager
    async def turn(self, user: str, body: bytes) -> AsyncIterator[bytes]:
        """Wait until no equal request is being answered; provide what such requests share."""
        name = hashlib.sha256(user.encode(errors="surrogatepass") + b"\0" + body).digest()
        lock, waiting = self._turns.get(name, (asyncio.Lock(), 0))
        self._turns[name] = (lock, waiting + 1)
        try:
            async with lock:
                yield name
        finally:
            lock, waiting = self._turns.pop(name)
            if waiting > 1:
                self._turns[name] = (lock, waiting - 1)

    def keep(self, name: bytes, response: Response) -> None:
        """Keep an answer that its client did not wait for."""
        self._lost[name] = (time.monotonic(), response)
        while len(self._lost) > _MOST:
            self._lost.popitem(last=False)

    def take(self, name: bytes) -> Response | None:
        """Return the answer that an equal request did not get, None if there is none."""
        kept_at, response = self._lost.pop(name, (-KEPT_S, None))
        return response if time.monotonic() - kept_at < KEPT_S else None
