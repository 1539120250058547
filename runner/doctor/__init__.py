"""The examination of a machine: what it offers a sandbox, with advice for each finding."""

from __future__ import annotations

from runner.doctor.examination import (
    PROBE,
    examine,
    judge_probe,
)

__all__ = [
    "PROBE",
    "examine",
    "judge_probe",
]
