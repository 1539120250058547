"""Run untrusted Qiskit runtime programs, each in a sandbox of its own.

This is the public Python interface; everything else is internal and may change.  Names are loaded
when they are first used, because the engine's client library takes longer to import than most
commands take to run.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runner.client import Client, connect
    from runner.errors import (
        EngineError,
        EngineUnavailableError,
        ImageError,
        InputsError,
        JobFailedError,
        ManifestError,
        RequestError,
        RunnerError,
        StoreError,
        UnknownJobError,
        UnknownProgramError,
    )
    from runner.job import Job
    from runner.job.record import JobRecord, JobStatus, Outcome, Usage
    from runner.pictures.drawing import Picture
    from runner.policy import Limits, Policy
    from runner.programs.given import read_value
    from runner.programs.values import Value
    from runner.sandboxes.pool import PoolState, Warm
    from runner.store import Store
    from runner.supervisor import Supervisor

__version__ = "0.1.0"

__all__ = [
    "Client",
    "EngineError",
    "EngineUnavailableError",
    "ImageError",
    "InputsError",
    "Job",
    "JobFailedError",
    "JobRecord",
    "JobStatus",
    "Limits",
    "ManifestError",
    "Outcome",
    "Picture",
    "Policy",
    "PoolState",
    "RequestError",
    "RunnerError",
    "Store",
    "StoreError",
    "Supervisor",
    "UnknownJobError",
    "UnknownProgramError",
    "Usage",
    "Value",
    "Warm",
    "connect",
    "read_value",
]

_HOMES = {
    "Store": "runner.store",
    **dict.fromkeys(("Client", "connect"), "runner.client"),
    "Supervisor": "runner.supervisor",
    "Value": "runner.programs.values",
    "read_value": "runner.programs.given",
    "Job": "runner.job",
    "Picture": "runner.pictures.drawing",
    **dict.fromkeys(("JobRecord", "JobStatus", "Outcome", "Usage"), "runner.job.record"),
    **dict.fromkeys(("Limits", "Policy"), "runner.policy"),
    **dict.fromkeys(("PoolState", "Warm"), "runner.sandboxes.pool"),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(_HOMES.get(name, "runner.errors")), name)
