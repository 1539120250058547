"""What a machine offers a sandbox, found out and judged, each finding with what to change."""

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
