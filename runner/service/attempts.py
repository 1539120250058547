"""Failed sign-ins, counted for each address: after too many, an address has to wait."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict
from typing import Final

from runner.service.faults import too_much

MOST: Final = 10
"""Failures of one address after which it has to wait."""

WAIT_S: Final = 300.0
"""How long failures count, in seconds."""

_ADDRESSES: Final = 10_000
_IPV6_BITS: Final = 64


class Attempts:
    """The failures of the last minutes; every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failed: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def check(self, address: str) -> None:
        """Raise RefusedError if an address has failed too often."""
        if self._failures(_place(address)) >= MOST:
            msg = f"{MOST} sign-ins from {address} have failed: wait {WAIT_S / 60:g} minutes"
            raise too_much(msg, after_s=WAIT_S)

    def failed(self, address: str) -> None:
        """Count a failure; the oldest addresses are forgotten when there are too many."""
        place = _place(address)
        with self._lock:
            count = self._failures(place) + 1
            self._failed[place] = (count, time.monotonic() + WAIT_S)
            self._failed.move_to_end(place)
            while len(self._failed) > _ADDRESSES:
                self._failed.popitem(last=False)

    def _failures(self, place: str) -> int:
        count, until = self._failed.get(place, (0, 0.0))
        return count if time.monotonic() < until else 0


def _place(address: str) -> str:
    """Return what counts as one address: of version 6, the network that one customer has."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if found.version == 4:
        return address
    if found.ipv4_mapped is not None:  # as a socket for both versions has those of version 4
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, _IPV6_BITS), strict=False))
