"""The request of a job as one value: the same for execution, in the store and on a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from runner.policy import Limits
from sandbox.wire import protocol
from sandbox.wire.protocol import JsonText

NO_INPUTS: Final = JsonText("{}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a service keeps of how a job came to it; nothing else uses it.

    Attributes:
        program_id: the id of the uploaded program, "" for a program that came with the request.
        version: the version of that program, counted from 1; 0 without one.
        session: the id of the session that the client named, "" for none.
        key: the name that the client gave to this request, so that repeating it is harmless.
        digest: the SHA-256 of a request with such a name: another one must not have it.
        image: the image that the client asked for by name.
    """

    program_id: str = ""
    version: int = 0
    session: str = ""
    key: str = ""
    digest: str = ""
    image: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The checked request of one job; it holds everything needed to submit the job again.

    Attributes:
        program: the program's name.
        path: the program as its user named it.
        entry: the program's main file.
        inputs: the keyword arguments of `main` in encoded form, with defaults filled in: one line
            of strict JSON, encoded once and then passed on as text.
        backend: the description of the backend: `name` and `options`.
        options: `log_level`, for the guest.
        limits: the limits that the host enforces.
        tags: texts by which the job can be found.
        user: the person for whom the job runs, "" if none was given.
        replay_of: the id of the job that this one repeats, None for most.
        image: the id of the image to run instead of the program's own, if any.
        origin: how the job came to a service.
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
    origin: Origin = field(default_factory=Origin)


def frame(request: Request, job: int, *, log_end: str = "") -> bytes:
    """Return the request as the frame that the guest reads, under the job number `job`.

    The guest writes `log_end` after the job's log.
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
