"""A forked child must not hold the lifelines of its parent's sandboxes.

`os.fork`, and with it `multiprocessing` as it is by default on Linux, copies every descriptor.  A
copy of a sandbox's stdin would keep it alive after its supervisor's death, a copy of the janitor's
would keep it waiting.  So sockets that somebody's death is told by are closed in every child.
"""

from __future__ import annotations

import contextlib
import os
import socket
import weakref
from typing import Final

_ours: Final[weakref.WeakSet[socket.socket]] = weakref.WeakSet()


def close_in_children(each: socket.socket) -> None:
    """Close this socket in every child that is forked from now on; the parent's stays open."""
    _ours.add(each)


def _close() -> None:
    # `detach` and `close`, not `shutdown`: the connection itself is the parent's.
    for each in list(_ours):
        with contextlib.suppress(OSError):
            os.close(each.detach())
    _ours.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close)
