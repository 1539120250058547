"""The container engine, behind a small interface of our own."""

from __future__ import annotations

from runner.engine.client import (
    OWN_LABEL,
    Engine,
)

__all__ = [
    "OWN_LABEL",
    "Engine",
]
