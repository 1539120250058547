"""Publishing: the messenger that a program gets, and the outbox that sends and counts frames.

`Outbox` sends frames, counts them and enforces the limits.  `UserMessenger`, the object that `main`
gets, is the contract of IBM's runtime programs and nothing else.  Both may be used from any thread
and from processes that the program has forked (not spawned): frames never interleave, and all are
counted.  A child that is killed during a publish leaves a torn frame.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import struct
import sys
import types
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from sandbox import codec
from sandbox.wire import channel, protocol

DEFAULTS: Final = {
    "message_bytes": protocol.MAX_MESSAGE_BYTES,
    "messages_bytes": protocol.MAX_MESSAGES_BYTES,
    "messages": protocol.MAX_MESSAGES,
    "result_bytes": protocol.MAX_RESULT_BYTES,
}


_MEETING_POINT: Final = "_messenger_of_forked_processes"
"""The module that holds the messenger for unpickling: our own modules are hidden by then."""


class LimitError(ValueError):
    """The program reached a limit of the sandbox; has its name, its value and what was observed."""

    kind = "message_limit"

    def __init__(self, text: str, *, limit: str, value: int, observed: int) -> None:
        super().__init__(f"{text}: {observed}, and the limit ({limit}) is {value}")
        self.limit = limit
        self.value = value
        self.observed = observed


class MessageLimitError(LimitError):
    """An interim result is too large, or there are too many."""


class ResultLimitError(LimitError):
    """A final result is too large."""

    kind = "result_limit"


class ResultEncodingError(codec.EncodingError):
    """A final result cannot be encoded as JSON."""


class Outbox:
    """Sends a job's frames and counts them; made before there is a job, which `begin` gives it."""

    def __init__(self, outlet: channel.Channel) -> None:
        self._outlet = outlet
        self._job = 0
        self._limits = dict(DEFAULTS)
        self._turnstile = channel.Turnstile()
        self._account = _Account()
        self._note: str | None = None

    def begin(self, job: int, limits: Mapping[str, float]) -> None:
        """Set the number and the limits of the job."""
        self._job = job
        self._limits = {name: int(limits.get(name, value)) for name, value in DEFAULTS.items()}

    @property
    def messages(self) -> int:
        """The number of messages sent."""
        return self._account.messages

    @property
    def has_result(self) -> bool:
        """True if the final result has been sent."""
        return self._account.has_result

    def send_message(self, body: protocol.JsonText) -> None:
        """Send one interim result.  Raises MessageLimitError if it exceeds a limit."""
        self._turnstile.run(lambda: self._send_message(body))

    def send_call(self, call: int, verb: str, signature: str, body: protocol.JsonText) -> None:
        """Send a call to the held backend."""
        asked = protocol.Call(job=self._job, call=call, verb=verb, signature=signature, body=body)
        self._turnstile.run(lambda: self._outlet.messages.write(protocol.encode(asked)))

    def send_result(self, value: protocol.JsonText) -> None:
        """Send the final result while `main` runs; drop it if one was sent before."""
        self.check_result(value)
        if not self._turnstile.run(lambda: self._send_result(value, done=False)):
            self.drop_result("a second final result was published")

    def send_file(self, name: str, content: str) -> None:
        """Send a file of the program; `content` is base64."""
        file = protocol.File(job=self._job, name=name, content=content)
        self._turnstile.run(lambda: self._outlet.results.write(protocol.encode(file), None, b""))

    def send_end(self, value: protocol.JsonText) -> None:
        """Send what `main` returned as the last frame."""
        self._turnstile.run(lambda: self._send_end(value), last=True)

    def send_done(self) -> None:
        """Report that `main` has ended after its final result."""
        self._turnstile.run(self._send_done, last=True)

    def send_fault(self, fault: protocol.Fault) -> None:
        """Report how the program failed."""
        self._turnstile.run(lambda: self._send(replace(fault, messages=self.messages)), last=True)

    def check_result(self, value: protocol.JsonText) -> None:
        """Raise ResultLimitError if the result is too large."""
        observed, limit = len(value), self._limits["result_bytes"]
        if observed > limit:
            msg = "the result's bytes"
            raise ResultLimitError(msg, limit="result_bytes", value=limit, observed=observed)

    def drop_result(self, reason: str) -> None:
        """Note in the log and in the last frame that a second final result was dropped."""
        self._note = f"{reason}; it is dropped, the first result stands"
        with contextlib.suppress(OSError):  # the program may have closed stderr
            os.write(2, f"user_messenger: {self._note}\n".encode())

    def _send_message(self, body: protocol.JsonText) -> None:
        account = self._account
        self._check("a message's bytes", "message_bytes", len(body))
        self._check("bytes of all messages", "messages_bytes", account.total_bytes + len(body))
        self._check("number of messages", "messages", account.messages + 1)
        frame = protocol.encode(protocol.Message(job=self._job, body=body))
        self._outlet.messages.write(frame, account.memory, account.with_message(len(body)))

    def _send_result(self, value: protocol.JsonText, *, done: bool) -> bool:
        if self.has_result:
            return False
        account = self._account
        frame = protocol.Result(job=self._job, messages=self.messages, done=done, value=value)
        self._send(frame, account.memory, account.with_result())
        return True

    def _send_end(self, value: protocol.JsonText) -> None:
        if not self._send_result(value, done=True):  # another thread of the program was first
            self.drop_result("main returned a value after a final result was published")
            self._send_done()

    def _send_done(self) -> None:
        self._send(protocol.Done(job=self._job, messages=self.messages, note=self._note))

    def _send(
        self, frame: protocol.Frame, account: mmap.mmap | None = None, entry: bytes = b""
    ) -> None:
        with contextlib.suppress(OSError):  # the host may have closed this one only
            self._outlet.messages.finish()
        self._outlet.results.write(protocol.encode(frame), account, entry)

    def _check(self, what: str, limit: str, observed: int) -> None:
        value = self._limits[limit]
        if observed > value:
            raise MessageLimitError(what, limit=limit, value=value, observed=observed)


class UserMessenger:
    """Publishes a program's results while it runs.

    A messenger that the program makes itself, to try out its `main`, prints them instead.  A copy
    is the same messenger; pickled, it becomes the messenger of the process that unpickles it.
    """

    def __init__(self, outbox: Outbox | None = None) -> None:
        self._outbox = outbox
        if outbox is not None:
            _meet(self)

    def __copy__(self) -> UserMessenger:
        return self

    def __deepcopy__(self, _memo: object) -> UserMessenger:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        if self._outbox is None:
            msg = "a UserMessenger that the program has made itself cannot be pickled"
            raise TypeError(msg)
        return sys.modules[_MEETING_POINT].here, ()

    def publish(
        self,
        message: Any,
        encoder: type[json.JSONEncoder] | None = None,
        final: bool = False,  # noqa: FBT001, FBT002 (the signature that programs are written for)
    ) -> None:
        """Send an interim result, or with `final` the job's result.

        `encoder` replaces the default encoding, as in `json.dumps(message, cls=encoder)`.  Blocks
        while the host does not read.  A second final result is dropped, with a note in the log.

        Raises:
            EncodingError (a TypeError): the message cannot be encoded; the text says where.
            MessageLimitError, ResultLimitError (ValueErrors): a limit is reached; with numbers.
            OSError: the host has closed the channel.
        """
        name = "result" if final else "message"
        try:
            text = codec.encode(message, name) if encoder is None else _encode(message, encoder)
        except codec.EncodingError as error:
            if final:
                raise ResultEncodingError(*error.args) from error.__cause__
            raise
        if self._outbox is None:
            sys.stdout.write(f"{text}\n")
        elif not final:
            self._outbox.send_message(text)
        else:
            self._outbox.send_result(text)


def _meet(messenger: UserMessenger) -> None:
    """Put a messenger where unpickling finds it in this process and in its forks."""

    def here() -> UserMessenger:
        return messenger

    here.__module__, here.__qualname__ = _MEETING_POINT, "here"
    module = types.ModuleType(_MEETING_POINT)
    vars(module)["here"] = here
    sys.modules[_MEETING_POINT] = module


class _Account:
    """Counts of what was sent, shared with forked processes; an entry replaces all of them."""

    _LAYOUT = struct.Struct("qq?")

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, self._LAYOUT.size)

    @property
    def messages(self) -> int:
        return self._read()[0]

    @property
    def total_bytes(self) -> int:
        return self._read()[1]

    @property
    def has_result(self) -> bool:
        return self._read()[2]

    def with_message(self, size: int) -> bytes:
        messages, total, has_result = self._read()
        return self._LAYOUT.pack(messages + 1, total + size, has_result)

    def with_result(self) -> bytes:
        messages, total, _ = self._read()
        return self._LAYOUT.pack(messages, total, True)  # noqa: FBT003 (a field of the layout)

    def _read(self) -> tuple[int, int, bool]:
        return self._LAYOUT.unpack_from(self.memory, 0)


def _encode(message: Any, encoder: type[json.JSONEncoder]) -> protocol.JsonText:
    """Encode with the program's own encoder, but strictly: one line, NaN and infinities tagged."""
    text = json.dumps(message, cls=encoder)
    try:
        data = json.loads(text, parse_constant=codec.tag_constant)
        return protocol.check_json(codec.write(data))
    except ValueError as error:
        msg = f"{encoder.__name__} does not write JSON that can be carried: {error}"
        raise codec.EncodingError(msg) from None
