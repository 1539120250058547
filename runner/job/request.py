"""What a job is asked to do, as one value: the same on its way, in a store and on a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from runner.policy import Limits
from sandbox.wire import protocol
from sandbox.wire.protocol import JsonText

NO_INPUTS: Final = JsonText("{}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What one job is asked to do, checked: enough to ask for it again.

    Attributes:
        program, path, entry: the program's name, what its user calls it, and its main file.
        inputs: the keyword arguments of `main` in encoded form, defaults filled in: one line of
            strict JSON, encoded once and then passed on as text.
        backend: the description of the backend: `name` and `options`.
        options: `log_level`, for the guest.
        limits: those that the host holds the job to.
        tags: texts by which the job is found again.
        user: the person for whom the job runs, "" if nobody said.
        replay_of: the id of the job that this one repeats, None for most.
        image: the id of the image to run instead of the program's own, if any.
    """

    program: str
    path: str = ""
    entry: str = "program.py"
    inputs: JsonText = NO_INPUTS
    backend: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    tags: tuple[str, ...] = ()
    user: str = ""
    replay_of: str | None = None
    image: str | None = None


def frame(request: Request, job: int, *, log_end: str = "") -> bytes:
    """Return the request as its guest gets it, under the job number `job`.

    `log_end` is what the guest writes behind the job's log.
    """
    run = protocol.Run(
        job=job,
        entry=request.entry,
        inputs={},
        backend=dict(request.backend),
        options=dict(request.options),
        limits=request.limits.for_guest(),
        log_end=log_end,
    )
    return protocol.encode_run(run, request.inputs)
