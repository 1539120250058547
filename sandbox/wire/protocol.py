"""The wire between host and guest: every frame and every size limit, defined once.

Both sides share this module, so it uses only the standard library and does no I/O.  A frame is one
line of JSON in UTF-8 that ends with a newline.  The guest writes `Ready` and `Message` on the
socket, and `Result`, `Done`, `Fault` and `Exited` on its private stdout (with the stdio carrier,
all of them there).  The guest's stdin is a stream of the host's frames: one `Run`, then `Stop`,
`Pause` and `Resume` while the job runs.  In a session, a `Next` comes before each `Run`, and
`Cleared` on stdout says that nothing of a job is left.  A zygote gets a `Cell` on the socket for
each cell, which then speaks like any guest.  A program whose backend is held by the host calls it
with a `Call` among its messages.  The `Reply` comes on stdin as a `Parcel` and its bytes, because
stdin is what every place and every carrier has.

Decoding is total: for any bytes, `decode` and `FrameReader.feed` return frames or raise
`ProtocolError`.  The payloads of `Message`, `Call` and `Result` stay JSON *text*: they are checked
to be strict JSON within the limits of depth and size, but not kept as objects, so a hostile payload
costs the host only its own bytes.  The order of keys in those three frames is part of the protocol:
it lets the host cut out the payload without parsing the envelope.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import fields
from typing import Any, Final

from sandbox.wire import strict
from sandbox.wire.frames import (
    Call,
    Cell,
    Cleared,
    Done,
    Exited,
    Fault,
    File,
    Frame,
    JsonText,
    Message,
    Next,
    Order,
    Parcel,
    Pause,
    Ready,
    Reply,
    Result,
    Resume,
    Run,
    Stop,
)

# Users of the protocol import its frames from here.
__all__ = [
    "Call",
    "Cell",
    "Cleared",
    "Done",
    "Exited",
    "Fault",
    "File",
    "Frame",
    "JsonText",
    "Message",
    "Next",
    "Order",
    "Parcel",
    "Pause",
    "Ready",
    "Reply",
    "Result",
    "Resume",
    "Run",
    "Stop",
]

PROTOCOL_VERSION: Final = 4

KIB: Final = 1024
MIB: Final = 1024 * KIB

MAX_INPUTS_BYTES: Final = 64 * MIB
MAX_BACKEND_BYTES: Final = 8 * MIB
MAX_MESSAGE_BYTES: Final = 1 * MIB
MAX_MESSAGES_BYTES: Final = 64 * MIB
MAX_MESSAGES: Final = 100_000
MAX_RESULT_BYTES: Final = 64 * MIB
MAX_FILES: Final = 100
MAX_FILE_BYTES: Final = 8 * MIB
MAX_FILES_BYTES: Final = 32 * MIB
"""What is kept of the files in `/out`: their number, the largest, and all of them."""

MAX_FILE_NAME: Final = 200
MAX_CALL_BYTES: Final = 16 * MIB
MAX_REPLY_BYTES: Final = 64 * MIB
MAX_CALLS: Final = 16
"""Of one job at once, from the call until its reply is read; the guest waits before it has more."""

MAX_DEPTH: Final = 64
MAX_NODES: Final = 4_000_000
"""The most brackets and commas in one payload: bounds the memory that parsing it takes."""

MAX_WIDE_BYTES: Final = 2 * MIB
"""The longest line with a non-ASCII payload, because such text can take four times its size."""

_KEPT_BYTES: Final = 2 * MIB
"""The largest buffer that a reader reuses for the next line: new memory costs more time."""

MAX_TEXT_BYTES: Final = 1 * MIB
"""The longest traceback or error text in a fault; the guest cuts the middle out of longer ones."""

MAX_ORDER_BYTES: Final = 4 * KIB
"""The longest host frame, except `Run` and the bytes of a `Parcel`."""

MAX_SMALL_FRAME_BYTES: Final = 16 * MIB
"""The longest frame without payload: room for two texts of `MAX_TEXT_BYTES`, all escaped."""

ENVELOPE_BYTES: Final = 512
"""The most bytes of a frame besides its payload."""

CHANNEL_DIRECTORY: Final = "/run/qrunner"
SOCKET_PATH: Final = f"{CHANNEL_DIRECTORY}/channel"
PROGRAM_DIRECTORY: Final = "/program"
PACKAGES_DIRECTORY: Final = "/packages"
"""The program's own packages; last on the module path, so they replace nothing of the stack."""

OUT_DIRECTORY: Final = "/out"
"""Where a program leaves files that are kept with its job; a link into its `/tmp`."""

GUEST_DIRECTORY: Final = "/opt/qrunner"


class ProtocolError(ValueError):
    """The bytes violate the protocol; the message says how, without quoting them in full."""


FAULT_KINDS: Final = frozenset(
    {
        "program_error",
        "init_error",
        "invalid_inputs",
        "result_error",
        "message_limit",
        "result_limit",
        "process_limit",
    }
)
"""The only verdicts of the guest that are believed: each concerns its own program."""

_SMALL: Final = {
    "ready": Ready,
    "file": File,
    "done": Done,
    "fault": Fault,
    "exited": Exited,
    "cleared": Cleared,
}
_ORDERS: Final = {
    "next": Next,
    "stop": Stop,
    "pause": Pause,
    "resume": Resume,
    "parcel": Parcel,
}

ENTERED: Final = b"\n"
"""What the host writes to a new cell's connection once the cell is in its control group."""
_ACCEPTED: Final = {
    "int": (int,),
    "str": (str,),
    "str | None": (str, type(None)),
    "int | None": (int, type(None)),
}
_MESSAGE: Final = re.compile(rb'\{"type":"message","job":(\d{1,9}),"body":')
_CALL: Final = re.compile(
    rb'\{"type":"call","job":(\d{1,9}),"call":(\d{1,9}),"verb":"([a-z]{1,16})",'
    rb'"signature":"([0-9a-f]{0,64})","body":'
)
_RESULT: Final = re.compile(
    rb'\{"type":"result","job":(\d{1,9}),"messages":(\d{1,9}),"done":(true|false),"value":'
)
# The closing quote is optional; otherwise hostile text would be rescanned from each quote.
_STRING: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_NESTED: Final = re.compile(r"[\[{]")
"""If found after the first character: refused before parsing, which takes 20 x the memory."""


def encode(frame: Frame | Order) -> bytes:
    """Return the frame as one line, including the newline.

    The payload of a `Message`, `Call`, `Result` or `Reply` must be strict JSON on one line, as
    `json.dumps` writes it.
    """
    match frame:
        case Message():
            text = f'{{"type":"message","job":{frame.job},"body":{frame.body}}}'
        case Call():
            text = (
                f'{{"type":"call","job":{frame.job},"call":{frame.call},'
                f'"verb":"{frame.verb}","signature":"{frame.signature}","body":{frame.body}}}'
            )
        case Reply():
            line = frame.line
            return encode(Parcel(job=frame.job, size=len(line))) + line
        case Result():
            done = "true" if frame.done else "false"
            text = (
                f'{{"type":"result","job":{frame.job},"messages":{frame.messages},'
                f'"done":{done},"value":{frame.value}}}'
            )
        case _:
            text = _compact(_members(frame))
    return text.encode() + b"\n"


def encode_run(run: Run, inputs: JsonText) -> bytes:
    """Return the request as one line; `inputs` must be JSON on one line."""
    members = _members(run)
    del members["inputs"]
    return f'{_compact(members)[:-1]},"inputs":{inputs}}}\n'.encode()


def _members(frame: Frame | Order) -> dict[str, Any]:
    values = {each.name: getattr(frame, each.name) for each in fields(frame)}
    return {"type": type(frame).__name__.lower(), **values}


def _compact(members: dict[str, Any]) -> str:
    return json.dumps(members, allow_nan=False, separators=(",", ":"))


def decode(line: bytes | bytearray | memoryview) -> Frame:
    """Return the frame in one line (without its newline).

    Raises ProtocolError, and no other exception, for anything else.
    """
    if match := _MESSAGE.match(line):
        return Message(job=int(match[1]), body=_payload(line, match.end()))
    if match := _CALL.match(line):
        return Call(
            job=int(match[1]),
            call=int(match[2]),
            verb=match[3].decode(),
            signature=match[4].decode(),
            body=_payload(line, match.end()),
        )
    if match := _RESULT.match(line):
        return Result(
            job=int(match[1]),
            messages=int(match[2]),
            done=match[3] == b"true",
            value=_payload(line, match.end()),
        )
    return _small_frame(line)


def decode_run(line: bytes) -> Run:
    """Return the host's request, hardly checked: the guest trusts the host."""
    content = json.loads(line)
    del content["type"]
    return Run(**content)


def decode_order(line: bytes) -> Next | Stop | Pause | Resume | Parcel:
    """Return a host frame other than a request; trusted likewise."""
    content = json.loads(line)
    return _ORDERS[content.pop("type")](**content)  # type: ignore[no-any-return]


def decode_cell(line: bytes) -> Cell:
    """Return the host's order to a zygote; trusted as its other frames are."""
    content = json.loads(line)
    del content["type"]
    return Cell(**content)


def is_file_name(name: str) -> bool:
    """Return whether a path of a file in `/out` can be shown, and stays below a directory."""
    parts = name.split("/")
    return (
        len(name) <= MAX_FILE_NAME
        and name.isprintable()
        and "\\" not in name
        and not {"", ".", ".."} & {*parts}
    )


class OrderReader:
    """Cuts the bytes for PID 1 into the host's frames, and refuses too long ones."""

    def __init__(self) -> None:
        self._line = b""
        self._left = 0

    def feed(self, data: bytes) -> Iterator[Next | Stop | Pause | Resume | bytes]:
        """Yield the frames that are complete with `data`, and the bytes of parcels as they come.

        Raises ProtocolError or ValueError.
        """
        while data:
            if self._left:
                piece, data = data[: self._left], data[self._left :]
                self._left -= len(piece)
                yield piece
                continue
            line, newline, data = data.partition(b"\n")
            self._line += line
            if len(self._line) > MAX_ORDER_BYTES:
                msg = f"a frame of the host of more than {MAX_ORDER_BYTES} bytes"
                raise ProtocolError(msg)
            if newline:
                order, self._line = decode_order(self._line), b""
                if isinstance(order, Parcel):
                    self._left = order.size
                else:
                    yield order


def check_json(text: str) -> JsonText:
    """Return `text` if it is strict JSON within the limits of depth and nodes.

    Raises ProtocolError for anything else: syntax, NaN and infinities (`1e999` too), integers that
    Python refuses to convert, nesting deeper than `MAX_DEPTH`, more than `MAX_NODES` nodes.
    """
    try:
        strict.check(text, MAX_DEPTH, MAX_NODES)
    except (ValueError, RecursionError, MemoryError) as error:
        msg = f"not JSON: {type(error).__name__}: {error!s:.120}"
        raise ProtocolError(msg) from None
    return JsonText(text)


class FrameReader:
    """Cuts a stream of bytes into frames, however the bytes are split.

    `max_line_bytes` bounds both a line and the memory held for an unfinished one.
    """

    def __init__(self, max_line_bytes: int) -> None:
        self._max_line_bytes = max_line_bytes
        self._buffer = bytearray()
        self._filled = 0

    @property
    def is_empty(self) -> bool:
        """True if the stream so far ends with a complete frame."""
        return not self._filled

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that `data` completes.  Raises ProtocolError at the first bad one."""
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            piece = memoryview(data)[start:end]
            start = end + 1
            yield self._finish(piece) if self._filled else self._decode(piece)
        if start < len(data):
            self._keep(memoryview(data)[start:])

    def _finish(self, piece: memoryview) -> Frame:
        """Return the frame that ends with this piece."""
        self._keep(piece)
        size, self._filled = self._filled, 0
        # Drop the buffer if it is large, or if the frame is bad: a traceback may still refer to it.
        buffer, self._buffer = self._buffer, bytearray()
        frame = self._decode(memoryview(buffer)[:size])
        if size <= _KEPT_BYTES:
            self._buffer = buffer
        return frame

    def _keep(self, piece: memoryview) -> None:
        """Append a piece, in memory that earlier lines have used where possible."""
        end = self._filled + len(piece)
        self._check_length(end)
        room = len(self._buffer) - self._filled
        with memoryview(self._buffer) as there:
            there[self._filled : end] = piece[:room]
        self._buffer += piece[room:]
        self._filled = end

    def _decode(self, line: memoryview) -> Frame:
        self._check_length(len(line))
        return decode(line)

    def _check_length(self, length: int) -> None:
        if length > self._max_line_bytes:
            msg = f"a line of more than {self._max_line_bytes} bytes"
            raise ProtocolError(msg)


def _payload(line: bytes | bytearray | memoryview, start: int) -> JsonText:
    if line[-1:] != b"}":
        msg = "a frame that does not end where its payload ends"
        raise ProtocolError(msg)
    is_wide = len(line) > MAX_WIDE_BYTES
    try:
        text = str(memoryview(line)[start:-1], "ascii" if is_wide else "utf-8")
    except UnicodeDecodeError as error:
        msg = f"a payload that is not UTF-8: {error.reason} at byte {error.start}"
        if is_wide:
            msg = f"a payload of more than {MAX_WIDE_BYTES} bytes that is not ASCII"
        raise ProtocolError(msg) from None
    return check_json(text)


def _small_frame(line: bytes | bytearray | memoryview) -> Frame:
    if len(line) > MAX_SMALL_FRAME_BYTES:
        msg = f"a frame without payload of more than {MAX_SMALL_FRAME_BYTES} bytes"
        raise ProtocolError(msg)
    try:
        text = str(line, "utf-8")
    except UnicodeDecodeError as error:
        msg = f"a line that is not UTF-8: {error.reason} at byte {error.start}"
        raise ProtocolError(msg) from None
    if _NESTED.search(_STRING.sub('""', text), 1):
        msg = "a frame without payload that has values inside values"
        raise ProtocolError(msg)
    content = _loads(text, object_pairs_hook=_unique_keys)
    if not isinstance(content, dict):
        msg = f"a frame that is a JSON {type(content).__name__}, not an object"
        raise ProtocolError(msg)
    kind = content.pop("type", None)
    frame = _SMALL.get(kind) if isinstance(kind, str) else None
    if frame is None:
        msg = f"a frame of the unknown type {kind!r:.40}"
        raise ProtocolError(msg)
    _check_fields(frame, content)
    return frame(**content)  # type: ignore[no-any-return]


def _check_fields(frame: Any, content: dict[str, Any]) -> None:
    known = {each.name: each for each in fields(frame)}
    if set(content) != set(known):
        msg = f"a {frame.__name__.lower()} frame whose keys are not {', '.join(known)}"
        raise ProtocolError(msg)
    for name, value in content.items():
        accepted = _ACCEPTED[str(known[name].type)]
        if not isinstance(value, accepted) or isinstance(value, bool):
            msg = f"a {frame.__name__.lower()} frame whose {name} is a {type(value).__name__}"
            raise ProtocolError(msg)


def _loads(text: str, **hooks: Any) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant, **hooks)
    except ProtocolError:
        raise
    except (ValueError, RecursionError, MemoryError) as error:
        msg = f"not JSON: {type(error).__name__}: {error!s:.120}"
        raise ProtocolError(msg) from None


def _refuse_constant(name: str) -> None:
    msg = f"not JSON: {name}"
    raise ProtocolError(msg)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        msg = "a frame that has a key twice"
        raise ProtocolError(msg)
    return content
