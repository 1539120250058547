"""Jobs kept on disk: written while they run, searchable later, removed by retention."""

from __future__ import annotations

from runner.store.jobs import (
    Store,
    open_default,
)

__all__ = [
    "Store",
    "open_default",
]
