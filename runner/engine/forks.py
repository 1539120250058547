"""Forked children must not hold the lifelines of their parent's sandboxes.

`os.fork`, and with it the default of `multiprocessing` on Linux, copies every descriptor.  A copy
of a sandbox's stdin would keep the sandbox alive after its supervisor's death, and a copy of the
janitor's would keep the janitor waiting.  So sockets and pipes whose closing signals a death are
closed in every child.
"""

from __future__ import annotations

import contextlib
import io
import os
import socket
import weakref
from typing import Final

_ours: Final[weakref.WeakSet[socket.socket | io.FileIO]] = weakref.WeakSet()


def close_in_children(each: socket.socket | io.FileIO) -> None:
    """Close this socket or pipe in every child forked from now on; the parent's stays open."""
    _ours.add(each)


def _close() -> None:
    # `detach` and `close`, not `shutdown`: the connection itself belongs to the parent.
    for each in list(_ours):
        with contextlib.suppress(OSError):
            if isinstance(each, socket.socket):
                os.close(each.detach())
            else:
                each.close()
    _ours.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close)
