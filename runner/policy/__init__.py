"""What a sandbox may do and use: limits, hardening, isolation, and the operator's settings."""

from __future__ import annotations

from runner.policy.policy import (
    ENGINE_WARNINGS,
    GIB,
    REQUIREMENTS,
    Limits,
    Policy,
    Requirement,
    is_met,
    isolation_named,
    parse_size,
)

__all__ = [
    "ENGINE_WARNINGS",
    "GIB",
    "REQUIREMENTS",
    "Limits",
    "Policy",
    "Requirement",
    "is_met",
    "isolation_named",
    "parse_size",
]
