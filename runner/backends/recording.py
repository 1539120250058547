"""A held backend that is played again from what it answered before, without any device."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from runner.job.device import Answer, Consumption, Line
from sandbox.wire.protocol import Call, JsonText

_CONTROLS: Final = frozenset({"status", "cancel"})
SOURCE: Final = "recording"


class Recording:
    """The answers of one job, for another that asks the same."""

    def __init__(self, answers: Sequence[Answer]) -> None:
        self._answers = tuple(answers)

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
