"""The container engine and all that is asked of it, in our own few words."""

from __future__ import annotations

from runner.engine.client import (
    OWN_LABEL,
    Engine,
)

__all__ = [
    "OWN_LABEL",
    "Engine",
]
