"""Jobs: one execution of a program, as the handle that a caller holds and as stored values."""

from __future__ import annotations

from runner.job.handle import (
    Job,
)

__all__ = [
    "Job",
]
