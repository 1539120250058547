"""Checks requests as they arrive: nothing of a job is started before its request is valid."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from runner import backends
from runner.job.options import checked_options, checked_user
from runner.job.request import Request
from runner.policy import Limits
from runner.programs import Program, values


def checked(
    program: Program,
    inputs: Mapping[str, Any] | None,
    limits: Limits,
    backend: Mapping[str, Any],
    options: Mapping[str, Any] | None,
    user: str,
) -> Request:
    """Return the request for a caller's arguments.  Raises RequestError that names every error.

    `backend` is a description, as `runner.backends` or a held backend gives it.
    """
    chosen = checked_options(options or {})
    backends.check_requirements(program.manifest, backend, limits.memory_bytes)
    return Request(
        program=program.name,
        path=str(program.path),
        entry=program.manifest.entry,
        inputs=values.check_inputs(program, inputs or {}, limit_bytes=limits.inputs_bytes),
        backend=backend,
        options={"log_level": chosen["log_level"]},
        limits=limits,
        tags=chosen["tags"],
        user=checked_user(user),
    )


def repeated(
    request: Request, program: Program, ceiling: Limits, *, job: str, user: str | None
) -> Request:
    """Return the request of the kept job `job` again, with limits lowered to the current ones.

    The new request is for `user`, or for the same user if that is None.
    """
    return dataclasses.replace(
        request,
        entry=program.manifest.entry,
        limits=ceiling.lowered_by(request.limits),
        user=request.user if user is None else checked_user(user),
        replay_of=job,
        image=None,
    )
