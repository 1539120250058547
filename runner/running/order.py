"""What a job is asked to do, checked: nothing of it is started before this is known to be sound."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runner import backends
from runner.job.options import checked_options
from runner.job.record import Request
from runner.policy import Limits
from runner.programs import Program, values
from runner.sandboxes.place import SINGLE_USE_JOB
from sandbox.wire import protocol


@dataclass(frozen=True, slots=True)
class Order:
    """A program, the request that its guest gets, and the limits that the host holds it to.

    `replay_of` is the kept job that is done again, `image` the one it had, if that is to be used.
    """

    program: Program
    request: protocol.Run
    limits: Limits
    tags: tuple[str, ...] = ()
    replay_of: str | None = None
    image: str | None = None

    def asked(self) -> Request:
        """Return the order as it is kept."""
        return Request(
            path=str(self.program.path),
            inputs=self.request.inputs,
            backend=self.request.backend,
            options=self.request.options,
            limits=dataclasses.asdict(self.limits),
            tags=self.tags,
            replay_of=self.replay_of,
        )


def checked(
    program: Program,
    inputs: Mapping[str, Any] | None,
    limits: Limits,
    backend: str | Mapping[str, Any] | None,
    options: Mapping[str, Any] | None,
) -> Order:
    """Return the order for what a caller gave.  Raises RequestError for all that is wrong."""
    chosen = checked_options(options or {})
    description = backends.describe(backend)
    backends.check_requirements(program.manifest, description, limits.memory_bytes)
    request = _request(
        program,
        limits,
        inputs=values.check_inputs(program, inputs or {}, limit_bytes=limits.inputs_bytes),
        backend=description,
        options={"log_level": chosen["log_level"]},
    )
    return Order(program, request, limits, chosen["tags"])


def repeated(asked: Request, program: Program, ceiling: Limits, *, job: str) -> Order:
    """Return the order that a kept job was given, with limits that are now allowed."""
    limits = ceiling.lowered_by(asked.limits)
    request = _request(
        program, limits, inputs=asked.inputs, backend=asked.backend, options=asked.options
    )
    return Order(program, request, limits, asked.tags, job)


def _request(
    program: Program,
    limits: Limits,
    *,
    inputs: Any,
    backend: Mapping[str, Any],
    options: Mapping[str, Any],
) -> protocol.Run:
    return protocol.Run(
        job=SINGLE_USE_JOB,
        entry=program.manifest.entry,
        inputs=dict(inputs),
        backend=dict(backend),
        options=dict(options),
        limits=limits.for_guest(),
    )
