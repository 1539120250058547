"""The serialised form of a job: its request, its events and its record, each in one form only.

The store, clusters and `--format json` all use it.  A value is an object whose members are its
fields (`runner.host.forms`).  Text from a program, and the inputs it gets, are already JSON text;
they are inserted as they are and never parsed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from runner.host.forms import data_of, value_of
from runner.job.record import (
    Event,
    Evidence,
    FileEvent,
    JobRecord,
    LogEvent,
    MessageEvent,
    Outcome,
    StartedEvent,
)
from runner.job.request import Origin, Request
from sandbox.wire.protocol import JsonText

encode: Final = json.JSONEncoder(allow_nan=False).encode
"""Returns JSON data as strict JSON on one line of ASCII."""

_NAMES: Final = {
    StartedEvent: "started",
    MessageEvent: "message",
    LogEvent: "log",
    FileEvent: "file",
}

_PLACE: Final = ("node", "attempt")
"""Members that only the `started` event of a job on a cluster has."""


def on_one_line(text: JsonText) -> JsonText:
    """Return JSON text without line breaks, which can only stand between its tokens."""
    return JsonText(text.replace("\n", " ").replace("\r", " "))


def object_text(content: Mapping[str, Any], **texts: str) -> str:
    """Return a JSON object on one line: `content`, then members that are already JSON text."""
    members = "".join([f', "{name}": {text}' for name, text in texts.items()])
    return f"{encode(content)[:-1]}{members}}}"


def request_data(request: Request) -> dict[str, Any]:
    """Return the data of a request, without its inputs; `origin` is null outside of a service."""
    data: dict[str, Any] = data_of(request)
    del data["inputs"]
    return {**data, "origin": None if request.origin == Origin() else data["origin"]}


def request_of(data: Mapping[str, Any], inputs: JsonText) -> Request:
    """Return the request that `request_data` wrote, with its inputs.

    Raises ValueError, or RequestError for an impossible limit.
    """
    return value_of(Request, {**data, "inputs": inputs})


def record_data(record: JobRecord) -> dict[str, Any]:
    """Return the data of a record, without its result.

    Missing values are null: the id of a job that never got one, its user, empty evidence.
    """
    data: dict[str, Any] = data_of(record)
    del data["result"]
    evidence = None if record.evidence == Evidence() else record.evidence.as_dict()
    return {**data, "job": record.job or None, "user": record.user or None, "evidence": evidence}


def record_of(data: Mapping[str, Any], result: JsonText | None) -> JobRecord:
    """Return the record that `record_data` wrote, with its result.  Raises ValueError."""
    return value_of(JobRecord, {**data, "result": result})


def event_data(event: Event) -> dict[str, Any]:
    """Return the data of an event, without the text of a message."""
    data: dict[str, Any] = {"event": _NAMES[type(event)], **data_of(event)}
    if isinstance(event, MessageEvent):
        del data["body"]
    elif isinstance(event, StartedEvent) and event.node is None and event.attempt == 1:
        for name in _PLACE:
            del data[name]
    return data


def event_text(event: Event, text: Callable[[JsonText], str] = on_one_line) -> str:
    """Return an event as one line; `text` converts the body of a message to a fitting form."""
    data = event_data(event)
    if isinstance(event, MessageEvent):
        return object_text(data, body=text(event.body))
    return encode(data)


def message_of(data: Mapping[str, Any], body: JsonText) -> MessageEvent:
    """Return the message of a `message` event.  Raises ValueError."""
    return value_of(MessageEvent, {**data, "body": body})


def finished_text(
    record: JobRecord, text: Callable[[JsonText], str] = on_one_line, **more: object
) -> str:
    """Return the last event of a job, `finished`, as one line, with the additional members `more`.

    `text` converts the result to a fitting form.
    """
    result = "null" if record.result is None else text(record.result)
    return object_text({"event": "finished", **record_data(record), **more}, result=result)


def finished_of(data: Mapping[str, Any], result: JsonText) -> JobRecord:
    """Return the record of a `finished` event, in which a missing result is null."""
    is_none = result == "null" and data["outcome"] != Outcome.COMPLETED
    return record_of(data, None if is_none else result)


_PIECE_CHARS: Final = 1 << 20
_QUOTES: Final = {'"': "\x01", "\\": "\x02"}
_SPACES: Final = "\t\n\r"


def strict(text: JsonText) -> str:
    """Return the same JSON value as one line of printable ASCII."""
    if text.isascii() and text.isprintable():
        return text
    # In pieces, so that it needs little memory beyond its result, and is never parsed.
    starts = range(0, len(text), _PIECE_CHARS)
    return "".join([_ascii(text[start : start + _PIECE_CHARS]) for start in starts])


def _ascii(piece: str) -> str:
    """Return a piece of JSON text with every character escaped that is not printable ASCII.

    Whitespace other than spaces can only stand between tokens and becomes a space; any other such
    character can only stand in a string.  During escaping, quotes and backslashes are replaced by
    control characters, which JSON text cannot contain.
    """
    for each in _SPACES:
        piece = piece.replace(each, " ")
    for each, hidden in _QUOTES.items():
        piece = piece.replace(each, hidden)
    escaped = json.dumps(piece)[1:-1]
    for each, hidden in _QUOTES.items():
        escaped = escaped.replace(json.dumps(hidden)[1:-1], each)
    return escaped
