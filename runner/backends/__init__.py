"""Backends: the table of those that can be asked for, and what a request for one may say."""

from __future__ import annotations

from runner.backends.table import (
    MEMORY_SHARE,
    Option,
    check_requirements,
    describe,
    known,
    read,
    room,
    size,
)

__all__ = [
    "MEMORY_SHARE",
    "Option",
    "check_requirements",
    "describe",
    "known",
    "read",
    "room",
    "size",
]
