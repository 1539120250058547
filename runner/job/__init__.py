"""Jobs: one execution of a program, as its caller holds it and as values that outlive it."""

from __future__ import annotations

from runner.job.handle import (
    Job,
)

__all__ = [
    "Job",
]
