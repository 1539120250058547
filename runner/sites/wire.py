"""What crosses the boundary: the specification of a job there, the events of its run back.

One JSON object per line both ways, and nothing else.  The events are those of `qrunner run
--format json`, and `hello`, `heartbeat` and `ended`.  Bodies and results travel as the text they
are: they are cut out of their line and checked to be JSON, never built as objects here.  Decoding
is total: an event or `WireError`, whatever the bytes.
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
from runner.job.record import JobRecord, LogEvent, MessageEvent, StartedEvent
from runner.job.request import Request
from runner.policy import Policy
from runner.policy.isolation import Isolation
from runner.programs import Program, bundle
from runner.programs.program import MAX_PROGRAM_BYTES
from sandbox.wire.protocol import MIB, JsonText, ProtocolError, check_json

WIRE_VERSION: Final = 2
"""Counts the changes of what crosses; part of what caller and node must have in common."""

MAX_LINE_BYTES: Final = 224 * MIB
"""What inputs or a result at their limits need if each of their characters has to be escaped."""

_TAILS: Final = (
    (b'{"event": "message",', b', "body": '),
    (b'{"event": "finished",', b', "result": '),
)
"""How those events begin that end in a JSON text of the program's, and what it stands behind."""


class WireError(ValueError):
    """What came is not what a node of ours says."""


# --- there ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """One attempt of one job: everything that a node needs, with the program's own bytes.

    `version` is the caller's: a node of another one refuses the job.
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
        """The policy of the node's sandbox: as strict as it is made, but for what was allowed."""
        return Policy(isolation=self.isolation, allow_missing=self.allow_missing)

    def to_line(self) -> bytes:
        """Return the line that `from_line` reads.  Raises RequestError if the bundle is too big."""
        size = sum(len(content) for content in self.program.files.values())
        if size > MAX_PROGRAM_BYTES:
            msg = (
                f"the files of {self.program.name!r} are {size} bytes, and at most "
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
        """Read what `to_line` wrote.  Raises WireError."""
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
"""Where a request's inputs begin.  Whatever a program says of itself, this stands nowhere before:
in what `json.dumps` writes a space comes behind every comma but those in texts, where quotes are
escaped."""


def version_of(line: bytes) -> str | None:
    """Return the version that a specification names, even if all else in it is unknown to us."""
    head, mark, _ = line.partition(_INPUTS)
    try:
        return str(json.loads(head + b"}" if mark else line)["version"])
    except (ValueError, TypeError, LookupError, RecursionError):
        return None


# --- back -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """The first thing that a node says: who it is, and which version of us."""

    node: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """A sign of life of a node that has nothing else to say."""


class End(StrEnum):
    """Why an attempt has ended without a record by its node."""

    CANCELLED = "cancelled"
    LOST = "lost"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The attempt is over and no node has said how; `reason` is in words.

    LOST: the program may have run, and how far is unknown.  REFUSED: it has not run.
    """

    how: End
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The attempt is over, and this is its node's record of it."""

    record: JobRecord


AttemptEvent: TypeAlias = (
    Hello | Heartbeat | StartedEvent | MessageEvent | LogEvent | Finished | Ended
)


def line_of(event: AttemptEvent) -> bytes:
    """Return the line of an event; those of a job are as everywhere, see `runner.job.form`."""
    if isinstance(event, Finished):
        text = form.finished_text(event.record)
    elif isinstance(event, StartedEvent | MessageEvent | LogEvent):
        text = form.event_text(event)
    else:
        text = form.encode({"event": _NAMES[type(event)], **forms.data_of(event)})
    return text.encode() + b"\n"


_OWN: Final = {"hello": Hello, "heartbeat": Heartbeat, "ended": Ended}
_NAMES: Final[Mapping[type, str]] = {kind: name for name, kind in _OWN.items()}
_KINDS: Final[Mapping[str, type[Any]]] = {"started": StartedEvent, "log": LogEvent, **_OWN}


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
            # Inside a JSON text quotes are escaped, and all keys before it are ours: what looks
            # like the mark is the mark, or stands in the program's own text behind it.
            head, found, rest = line.partition(mark)
            content, text = json.loads(head + b"}"), _text(found, rest)
            if content["event"] == "finished":
                return Finished(record=form.finished_of(content, text))
            return form.message_of(content, text)
    content = json.loads(line)
    event: AttemptEvent = forms.value_of(_KINDS[content["event"]], content)
    return event


def _text(mark: bytes, rest: bytes) -> JsonText:
    if not mark or not rest.endswith(b"}"):
        msg = "the line is torn"
        raise WireError(msg)
    try:
        return check_json(rest[:-1].decode())
    except ProtocolError as error:
        raise WireError(str(error)) from error
