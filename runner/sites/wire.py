"""What crosses the boundary: the specification of a job there, the events of its run back.

One JSON object per line both ways, and nothing else.  The events are those of `qrunner run
--format json`, and `hello`, `heartbeat` and `ended`.  Bodies and results travel as the text they
are: they are cut out of their line and checked to be JSON, never built as objects here.  Decoding
is total: an event or `WireError`, whatever the bytes.
"""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Self, TypeAlias

from runner.errors import RequestError
from runner.job.record import (
    Evidence,
    JobRecord,
    LogEvent,
    MessageEvent,
    Outcome,
    StartedEvent,
    Usage,
)
from runner.policy import Limits, Policy
from runner.policy.isolation import Isolation
from runner.programs import Program
from runner.programs.manifest import Manifest
from runner.programs.wheels import Pin
from sandbox.wire import protocol
from sandbox.wire.protocol import MIB, JsonText, ProtocolError, check_json

MAX_BUNDLE_BYTES: Final = 16 * MIB
"""What the files of a program may have in all; as much as is read from a directory."""

MAX_LINE_BYTES: Final = 224 * MIB
"""What inputs or a result at their limits need if each of their characters has to be escaped."""

_TAILS: Final = {"message": "body", "finished": "result"}
"""The events that end in a JSON text of the program's, and the key it stands under."""


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
    request: protocol.Run
    limits: Limits
    isolation: Isolation
    allow_missing: frozenset[str] = frozenset()

    @property
    def policy(self) -> Policy:
        """The policy of the node's sandbox: as strict as it is made, but for what was allowed."""
        return Policy(isolation=self.isolation, allow_missing=self.allow_missing)

    def to_line(self) -> bytes:
        """Return the line that `from_line` reads.  Raises RequestError if the bundle is too big."""
        size = sum(len(content) for content in self.program.files.values())
        if size > MAX_BUNDLE_BYTES:
            msg = (
                f"the files of {self.program.name!r} are {size} bytes, and at most "
                f"{MAX_BUNDLE_BYTES} travel to a cluster: keep only what the program needs"
            )
            raise RequestError(msg)
        content = {
            "job": self.job,
            "attempt": self.attempt,
            "version": self.version,
            "program": _bundle(self.program),
            "request": dataclasses.asdict(self.request),
            "limits": dataclasses.asdict(self.limits),
            "isolation": self.isolation.value,
            "allow_missing": sorted(self.allow_missing),
        }
        return json.dumps(content, allow_nan=False).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Self:
        """Read what `to_line` wrote.  Raises WireError."""
        try:
            content = json.loads(line)
            return cls(
                job=str(content["job"]),
                attempt=int(content["attempt"]),
                version=str(content["version"]),
                program=_program(content["program"]),
                request=protocol.Run(**content["request"]),
                limits=Limits(**content["limits"]),
                isolation=Isolation(content["isolation"]),
                allow_missing=frozenset(map(str, content["allow_missing"])),
            )
        except (ValueError, TypeError, LookupError, AttributeError, RequestError) as error:
            msg = f"not the specification of a job: {type(error).__name__}: {error!s:.200}"
            raise WireError(msg) from error


def version_of(line: bytes) -> str | None:
    """Return the version that a specification names, even if all else in it is unknown to us."""
    try:
        return str(json.loads(line)["version"])
    except (ValueError, TypeError, LookupError):
        return None


def _bundle(program: Program) -> dict[str, Any]:
    isolation = program.manifest.isolation
    return {
        "name": program.name,
        "path": str(program.path),
        "entry": program.manifest.entry,
        "isolation": isolation.value if isolation else None,
        "files": {k: base64.b64encode(v).decode("ascii") for k, v in program.files.items()},
        "pins": [dataclasses.asdict(each) for each in program.pins],
    }


def _program(content: Mapping[str, Any]) -> Program:
    """Return the program of a bundle, with as much of a manifest as a node needs."""
    isolation = content["isolation"]
    manifest = Manifest(
        name=str(content["name"]),
        entry=str(content["entry"]),
        isolation=Isolation(isolation) if isolation else None,
    )
    pins = [
        Pin(name=each["name"], version=each["version"], hashes=tuple(each["hashes"]))
        for each in content["pins"]
    ]
    return Program(
        name=manifest.name,
        path=Path(content["path"]),
        manifest=manifest,
        files={k: base64.b64decode(v, validate=True) for k, v in content["files"].items()},
        signature=None,
        pins=tuple(pins),
    )


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
    """Return the line of an event, as `qrunner run --format json` writes those that it has."""
    if isinstance(event, MessageEvent):
        head = {"event": "message", "seq": event.seq, "time": event.time}
        return _with_tail(head, event.body)
    if isinstance(event, Finished):
        content = dataclasses.asdict(event.record)
        result = content.pop("result")
        evidence = event.record.evidence
        content["evidence"] = None if evidence == Evidence() else evidence.as_dict()
        return _with_tail({"event": "finished", **content}, result or "null")
    content = {"event": _NAMES[type(event)], **dataclasses.asdict(event)}
    return json.dumps(content, allow_nan=False).encode() + b"\n"


_NAMES: Final = {
    Hello: "hello",
    Heartbeat: "heartbeat",
    StartedEvent: "started",
    LogEvent: "log",
    Ended: "ended",
}


def _with_tail(head: Mapping[str, Any], text: str) -> bytes:
    # Line ends in a JSON text can only stand between its tokens.
    tail = text.replace("\n", " ").replace("\r", " ").encode()
    start = json.dumps(head, allow_nan=False)[:-1].encode()
    return b"".join((start, _mark(_TAILS[head["event"]]), tail, b"}\n"))


def _mark(key: str) -> bytes:
    return f', "{key}": '.encode()


def event_of(line: bytes) -> AttemptEvent:
    """Return the event of a line.  Raises WireError for anything else."""
    try:
        return _event(line)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        msg = f"not an event: {type(error).__name__}: {error!s:.120}: {line[:80]!r}"
        raise WireError(msg) from error


def _event(line: bytes) -> AttemptEvent:
    for event, key in _TAILS.items():
        if line.startswith(f'{{"event": "{event}",'.encode()):
            # Inside a JSON text quotes are escaped, and all keys before it are ours: what looks
            # like the mark is the mark, or stands in the program's own text behind it.
            head, found, rest = line.partition(_mark(key))
            return _with_text(json.loads(head + b"}"), _text(found, rest))
    content = json.loads(line)
    return _READERS[content["event"]](content)


def _started(content: Mapping[str, Any]) -> StartedEvent:
    image = content["image"]
    job, program = str(content["job"]), str(content["program"])
    return StartedEvent(job=job, program=program, image=None if image is None else str(image))


_READERS: Final[Mapping[str, Callable[[Mapping[str, Any]], AttemptEvent]]] = {
    "hello": lambda content: Hello(node=str(content["node"]), version=str(content["version"])),
    "heartbeat": lambda _: Heartbeat(),
    "started": _started,
    "log": lambda content: LogEvent(stream=str(content["stream"]), text=str(content["text"])),
    "ended": lambda content: Ended(how=End(content["how"]), reason=str(content["reason"])),
}


def _with_text(head: Mapping[str, Any], text: JsonText) -> MessageEvent | Finished:
    if head["event"] == "message":
        return MessageEvent(seq=int(head["seq"]), time=float(head["time"]), body=text)
    given = {each.name: head[each.name] for each in _RECORD_FIELDS if each.name in head}
    given["outcome"] = Outcome(head["outcome"])
    given["evidence"] = Evidence(**(head["evidence"] or {}))
    given["usage"] = Usage(**head["usage"])
    given["exceptions"] = tuple(map(str, head["exceptions"]))
    given["result"] = None if text == "null" and not _completed(given) else text
    return Finished(record=JobRecord(**given))


_RECORD_FIELDS: Final = dataclasses.fields(JobRecord)


def _completed(given: Mapping[str, Any]) -> bool:
    return given["outcome"] is Outcome.COMPLETED


def _text(mark: bytes, rest: bytes) -> JsonText:
    if not mark or not rest.endswith(b"}"):
        msg = "the line is torn"
        raise WireError(msg)
    try:
        return check_json(rest[:-1].decode())
    except ProtocolError as error:
        raise WireError(str(error)) from error
