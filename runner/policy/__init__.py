"""What a sandbox may do and use: limits, hardening, isolation, and the operator's settings."""

from __future__ import annotations

from runner.policy.limits import GIB, Limits, parse_size
from runner.policy.policy import (
    ENGINE_WARNINGS,
    REQUIREMENTS,
    Policy,
    Requirement,
    is_met,
    isolation_named,
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
