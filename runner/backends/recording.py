"""A held backend that is played again from what it answered before, without any device."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Self

from runner.errors import RequestError
from runner.job.device import HELD, MAX_KEPT_BYTES, Answer, Consumption, Line
from sandbox.wire import protocol
from sandbox.wire.protocol import Call, JsonText, ProtocolError

_CONTROLS: Final = frozenset({"status", "cancel"})
SOURCE: Final = "recording"
FORMAT: Final = 1
"""The version of a recording's file."""


class Recording:
    """The answers of one job, for another that asks the same.

    Attributes:
        backend: the description of the held backend that answered.
    """

    def __init__(self, backend: Mapping[str, Any], answers: Sequence[Answer]) -> None:
        self.backend = backend
        self._answers = tuple(answers)

    @classmethod
    def of_job(cls, job_id: str, backend: Mapping[str, Any], answers: Sequence[Answer]) -> Self:
        """Return the recording of a kept job.  Raises RequestError if nothing was kept of it."""
        if not answers:
            msg = (
                f"job {job_id} has no recording: its backend was not held by the host, it asked "
                f"for nothing, or its answers took more than {MAX_KEPT_BYTES} bytes"
            )
            raise RequestError(msg)
        return cls(backend, answers)

    @classmethod
    def from_text(cls, text: str, where: str) -> Self:
        """Return the recording that `to_text` wrote.  Raises RequestError, which `where` begins.

        The text may come from a stranger: whatever is in it only reaches the sandbox.
        """
        try:
            content = json.loads(protocol.check_json(text))
            if content["recording"] != FORMAT:
                msg = f"{where}: a recording of version {content['recording']!r:.40}, not {FORMAT}"
                raise RequestError(msg)
            backend = {"name": content["backend"]["name"], "options": content["backend"]["options"]}
            answers = [
                Answer(
                    verb=str(each["verb"]),
                    signature=str(each["signature"]),
                    body=JsonText(json.dumps(each["body"])),
                )
                for each in content["answers"]
            ]
            if backend["name"] != HELD or type(backend["options"]) is not dict:
                msg = "its backend is not a held one"
                raise ValueError(msg)
        except (ProtocolError, ValueError, TypeError, LookupError) as error:
            msg = f"{where}: not a recording as `qrunner recording JOB` writes it: {error!s:.200}"
            raise RequestError(msg) from error
        return cls(backend, answers)

    def to_text(self) -> str:
        """Return the recording as JSON, an answer on each line."""
        head = json.dumps({"recording": FORMAT, "backend": dict(self.backend)})[:-1]
        answers = ",\n".join(
            f'{{"verb": {json.dumps(each.verb)}, "signature": {json.dumps(each.signature)}, '
            f'"body": {each.body}}}'
            for each in self._answers
        )
        return f'{head}, "answers": [\n{answers}\n]}}\n'

    def open(self, job: str, user: str, reply: Callable[[int, JsonText], object]) -> Line:
        """Return a line for one job."""
        del job, user
        return _RecordedLine(self._answers, reply)


class _RecordedLine:
    """Answers each call with what the same call got: equal ones in their order."""

    def __init__(self, answers: Sequence[Answer], reply: Callable[[int, JsonText], object]) -> None:
        self._reply = reply
        self._count = len(answers)
        self._taken = 0
        self._left: dict[tuple[str, str], deque[JsonText]] = {}
        for each in answers:
            self._left.setdefault((each.verb, each.signature), deque()).append(each.body)

    @property
    def used(self) -> Consumption:
        """Nothing: no device has done anything."""
        return Consumption(source=SOURCE)

    def call(self, call: Call) -> None:
        """Answer a call at once."""
        if call.verb in _CONTROLS:
            self._reply(call.call, JsonText('{"answer":null}'))
            return
        found = self._left.get((call.verb, call.signature))
        body = found.popleft() if found else None
        self._taken += body is not None
        if body is None:
            reason = (
                f"the recording has no answer left for this {call.verb}: the program asks for "
                f"something else than then ({self._taken} of {self._count} answers are used)"
            )
            body = JsonText(json.dumps({"refusal": reason}))
        self._reply(call.call, body)

    def close(self) -> None:
        """Do nothing: there is nothing to cancel."""
