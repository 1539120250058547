"""What a sandbox may do and use: limits, hardening, isolation, and the operator's settings."""

from __future__ import annotations

from runner.policy.limits import GIB, Limits, parse_size, size
from runner.policy.policy import (
    ENGINE_WARNINGS,
    INODE_LIMIT,
    REQUIREMENTS,
    Policy,
    Requirement,
    has_runtime,
    is_met,
    is_podman,
    isolation_named,
)

__all__ = [
    "ENGINE_WARNINGS",
    "GIB",
    "INODE_LIMIT",
    "REQUIREMENTS",
    "Limits",
    "Policy",
    "Requirement",
    "has_runtime",
    "is_met",
    "is_podman",
    "isolation_named",
    "parse_size",
    "size",
]
