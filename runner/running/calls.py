"""A job's calls to its held backend, as the job's own thread sees them: their count, their time.

While calls are unanswered, the program's clocks stand, and the time for waiting runs.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Final

from runner.job.device import MAX_KEPT_BYTES, Answer
from sandbox.wire import protocol
from sandbox.wire.protocol import Call, JsonText, Order, Pause, ProtocolError, Reply, Resume

_MAX_UNSENT_BYTES: Final = 2 * protocol.MAX_REPLY_BYTES
"""Of replies that the program does not read; a reply beyond is replaced by a refusal."""

_MAX_EXCESS_BYTES: Final = protocol.MIB
"""Of such refusals: the guest has at most `MAX_CALLS` of them."""


class Calls:
    """The calls of one job.  Used by the job's thread."""

    def __init__(self, number: int, wait_s: float) -> None:
        self._number = number
        self._wait_s = wait_s
        self._open: dict[int, Call] = {}
        self._kept_bytes = 0
        self.answers: list[Answer] = []
        self._since: float | None = None
        self._waited_s = 0.0

    @property
    def waited_s(self) -> float:
        """Seconds during which there were calls without an answer."""
        now = 0.0 if self._since is None else time.monotonic() - self._since
        return self._waited_s + now

    @property
    def left_s(self) -> float | None:
        """Seconds that the job may still wait; None while it does not."""
        return None if self._since is None else max(0.0, self._wait_s - self.waited_s)

    def take(self, call: Call, unsent_bytes: int) -> list[Order]:
        """Count a new call, and return what its guest must be told.  Raises ProtocolError.

        `unsent_bytes` are waiting for the guest to read.
        """
        if call.call in self._open or len(self._open) >= protocol.MAX_CALLS:
            msg = f"a call more than the {protocol.MAX_CALLS} that may be without a reply"
            raise ProtocolError(msg)
        if unsent_bytes > _MAX_UNSENT_BYTES + _MAX_EXCESS_BYTES:
            msg = f"more calls, and {unsent_bytes} bytes of replies that nobody reads"
            raise ProtocolError(msg)
        # Without the body, which may be large, and is somebody else's now.
        self._open[call.call] = replace(call, body=JsonText(""))
        if self._since is not None:
            return []
        self._since = time.monotonic()
        return [Pause(job=self._number, at_most_s=max(0.0, self._wait_s - self._waited_s))]

    def answered(self, reply: Reply, unsent_bytes: int) -> list[Order]:
        """Count a reply, and return what the guest must be told; `unsent_bytes` as for `take`."""
        if reply.call not in self._open:
            return []
        self._keep(self._open.pop(reply.call), reply)
        if unsent_bytes + len(reply.body) > _MAX_UNSENT_BYTES:
            reason = (
                f"replies of more than {_MAX_UNSENT_BYTES} bytes are waiting: take the results of "
                "earlier calls before you make more"
            )
            reply = Reply(job=reply.job, call=reply.call, body=_refusal(reason))
        if self._open or self._since is None:
            return [reply]
        self._waited_s, self._since = self.waited_s, None
        return [Resume(job=self._number), reply]

    def _keep(self, call: Call, reply: Reply) -> None:
        """Keep an answer for later; of a job with too large ones, none."""
        self._kept_bytes += len(reply.body)
        if self._kept_bytes > MAX_KEPT_BYTES:
            self.answers.clear()
        elif call.signature:
            answer = Answer(verb=call.verb, signature=call.signature, body=reply.body)
            self.answers.append(answer)


def _refusal(reason: str) -> JsonText:
    """Return the reply that refuses a call."""
    return JsonText(json.dumps({"refusal": reason}))
