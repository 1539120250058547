"""The wire format of a cluster: a job's specification to the node, the events of its run back.

One JSON object per line in both directions, and nothing else.  The events are those of `qrunner run
--format json`, and `hello`, `heartbeat`, `asked` and `ended`; what a program asks its held backend
is answered by a line to the node.  Message bodies, results and calls travel as the text they are:
they are cut out of their line and checked to be JSON, but never parsed into objects here.  For any
bytes, decoding gives an event or `WireError`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Self, TypeAlias

from runner.errors import RequestError
from runner.host import forms
from runner.job import form
from runner.job.device import HELD
from runner.job.record import FileEvent, JobRecord, LogEvent, MessageEvent, StartedEvent
from runner.job.request import Request
from runner.policy import Policy
from runner.policy.isolation import Isolation
from runner.programs import Program, bundle
from runner.programs.program import MAX_PROGRAM_BYTES
from sandbox.wire.protocol import MIB, JsonText, ProtocolError, check_json

WIRE_VERSION: Final = 3
"""The version of the wire format, in which caller and node must agree."""

MAX_LINE_BYTES: Final = 224 * MIB
"""Enough for inputs or a result at their limits with every character escaped."""

_TAILS: Final = (
    (b'{"event": "message",', b', "body": '),
    (b'{"event": "finished",', b', "result": '),
    (b'{"event": "asked",', b', "body": '),
)
"""How events begin that end with JSON text of the program, and the member before that text."""

REPLY: Final = b'{"do": "reply",'
"""How lines to a node begin that answer an `Asked`."""


class WireError(ValueError):
    """Received data does not follow the wire format."""


# --- to the node ----------------------------------------------------------------------------------


def is_held(request: Request) -> bool:
    """Return whether the caller holds the backend of a request."""
    return request.backend.get("name") == HELD


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """One attempt of one job: everything that a node needs, including the program's files.

    `version` is the caller's: a node of another version refuses the job.
    """

    job: str
    attempt: int
    version: str
    program: Program
    request: Request
    isolation: Isolation
    allow_missing: frozenset[str] = frozenset()

    @property
    def policy(self) -> Policy:
        """The policy of the node's sandbox: the strictest, except for what may be missing."""
        return Policy(isolation=self.isolation, allow_missing=self.allow_missing)

    def to_line(self) -> bytes:
        """Return the line for `from_line`.  Raises RequestError if the bundle is too large."""
        size = sum(len(content) for content in self.program.files.values())
        if size > MAX_PROGRAM_BYTES:
            msg = (
                f"the files of {self.program.name!r} are {size} bytes, but at most "
                f"{MAX_PROGRAM_BYTES} travel to a cluster: keep only what the program needs"
            )
            raise RequestError(msg)
        head = {
            "version": self.version,
            "job": self.job,
            "attempt": self.attempt,
            "program": bundle.data_of(self.program),
            "request": form.request_data(self.request),
            "isolation": self.isolation.value,
            "allow_missing": sorted(self.allow_missing),
        }
        start = form.encode(head)[:-1].encode()
        return b"".join((start, _INPUTS, self.request.inputs.encode(), b"}\n"))

    @classmethod
    def from_line(cls, line: bytes) -> Self:
        """Return the specification that `to_line` wrote.  Raises WireError."""
        try:
            head, mark, inputs = line.rstrip(b"\n").partition(_INPUTS)
            content = json.loads(head + b"}")
            return cls(
                version=str(content["version"]),
                job=str(content["job"]),
                attempt=int(content["attempt"]),
                program=bundle.program_of(content["program"]),
                request=form.request_of(content["request"], _text(mark, inputs)),
                isolation=Isolation(content["isolation"]),
                allow_missing=frozenset(map(str, content["allow_missing"])),
            )
        except (ValueError, TypeError, LookupError, AttributeError, RequestError) as error:
            msg = f"not the specification of a job: {type(error).__name__}: {error!s:.200}"
            raise WireError(msg) from error


_INPUTS: Final = b',"inputs":'
"""The start of a request's inputs.  It cannot occur earlier, for any manifest of a program:
`json.dumps` writes a space after every comma except in strings, where quotes are escaped."""


def version_of(line: bytes) -> str | None:
    """Return the version in a specification, even if everything else in it is unknown."""
    head, mark, _ = line.partition(_INPUTS)
    try:
        return str(json.loads(head + b"}" if mark else line)["version"])
    except (ValueError, TypeError, LookupError, RecursionError):
        return None


# --- back -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """The first event of a node: its name and version."""

    node: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """A sign of life of a node that has no other event to send."""


class End(StrEnum):
    """Why an attempt has ended without a record of its node."""

    CANCELLED = "cancelled"
    LOST = "lost"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The attempt is over, and no node has reported how; `reason` is text.

    LOST: the program may have run, and how far is unknown.  REFUSED: it has not run.
    """

    how: End
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The attempt is over, with the node's record of it.

    `mismatches` is what a service says of values that differ from the program's manifest.
    """

    record: JobRecord
    mismatches: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the program asks the backend that the caller holds: the members of a `Call`."""

    call: int
    verb: str
    signature: str
    body: JsonText


AttemptEvent: TypeAlias = (
    Hello
    | Heartbeat
    | StartedEvent
    | MessageEvent
    | LogEvent
    | FileEvent
    | Asked
    | Finished
    | Ended
)


def line_of(event: AttemptEvent) -> bytes:
    """Return the line of an event; a job's events have the form of `runner.job.form`."""
    if isinstance(event, Finished):
        text = form.finished_text(event.record)
    elif isinstance(event, StartedEvent | MessageEvent | LogEvent | FileEvent):
        text = form.event_text(event)
    elif isinstance(event, Asked):
        head = {"event": "asked", **forms.data_of(event)}
        body = form.on_one_line(head.pop("body"))
        text = form.object_text(head, body=body)
    else:
        text = form.encode({"event": _NAMES[type(event)], **forms.data_of(event)})
    return text.encode() + b"\n"


_OWN: Final = {"hello": Hello, "heartbeat": Heartbeat, "ended": Ended}
_NAMES: Final[Mapping[type, str]] = {kind: name for name, kind in _OWN.items()}
_KINDS: Final[Mapping[str, type[Any]]] = {
    "started": StartedEvent,
    "log": LogEvent,
    "file": FileEvent,
    **_OWN,
}


def event_of(line: bytes) -> AttemptEvent:
    """Return the event of a line.  Raises WireError for anything else."""
    try:
        return _event(line)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        msg = f"not an event: {type(error).__name__}: {error!s:.120}: {line[:80]!r}"
        raise WireError(msg) from error


def _event(line: bytes) -> AttemptEvent:
    for start, mark in _TAILS:
        if line.startswith(start):
            # Inside JSON text quotes are escaped, and all keys before it are ours. So the first
            # match is the mark itself, or lies within the program's own text after it.
            head, found, rest = line.partition(mark)
            content, text = json.loads(head + b"}"), _text(found, rest)
            if content["event"] == "finished":
                mismatches = tuple(map(str, content.get("mismatches", ())))
                return Finished(record=form.finished_of(content, text), mismatches=mismatches)
            if content["event"] == "asked":
                return forms.value_of(Asked, {**content, "body": text})
            return form.message_of(content, text)
    content = json.loads(line)
    event: AttemptEvent = forms.value_of(_KINDS[content["event"]], content)
    return event


# --- to the node while it works -------------------------------------------------------------------


def reply_line(call: int, body: JsonText) -> bytes:
    """Return the line that answers an `Asked`."""
    text = form.object_text({"do": "reply", "call": call}, body=form.on_one_line(body))
    return text.encode() + b"\n"


def reply_of(line: bytes) -> tuple[int, JsonText] | None:
    """Return the call and the body of an answer's line; None for any other line.

    Raises WireError for an answer that cannot be read.
    """
    if not line.startswith(REPLY):
        return None
    head, found, rest = line.partition(b', "body": ')
    try:
        return int(json.loads(head + b"}")["call"]), _text(found, rest)
    except (ValueError, TypeError, LookupError) as error:
        msg = f"not an answer: {type(error).__name__}: {error!s:.120}"
        raise WireError(msg) from error


def _text(mark: bytes, rest: bytes) -> JsonText:
    if not mark or not rest.endswith(b"}"):
        msg = "the line is incomplete"
        raise WireError(msg)
    try:
        return check_json(rest[:-1].decode())
    except ProtocolError as error:
        raise WireError(str(error)) from error
