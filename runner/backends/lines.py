"""One job's line to a held backend: its reader, its budget, and a thread for each of its calls.

A call is read and written anew, booked, and only then seen by the holder.  Whatever fails on the
way becomes a refusal in the reply, and never a traceback.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from typing import Any, Final

from runner.backends.holder import Holder
from runner.backends.ledger import Ledger, OverBudgetError, check
from runner.backends.readers import Reader, Readers, UnreadableError
from runner.errors import BackendUnavailableError, our_own
from runner.job.device import Consumption
from runner.policy.held import Budget
from sandbox.wire import protocol
from sandbox.wire.protocol import Call, JsonText, ProtocolError

log = logging.getLogger(__name__)

CONTROL_S: Final = 60.0
"""How long a holder may take to say a status, or to cancel, in seconds."""

_CONTROLS: Final = frozenset({"status", "cancel"})
_VERBS: Final = frozenset({"run", "sampler", "estimator", *_CONTROLS})


class HeldLine:
    """A job's line.  Its methods are for the job's thread, and return at once."""

    def __init__(  # noqa: PLR0913  what belongs to the backend, and what to the job
        self,
        holder: Holder,
        readers: Readers,
        *,
        ledger: Ledger | None,
        per_job: Budget,
        per_day: Budget,
        user: str,
        reply: Callable[[int, JsonText], object],
    ) -> None:
        self._holder = holder
        self._reader = Reader(readers)
        self._ledger = ledger
        self._per_job = per_job
        self._per_day = per_day
        self._user = user
        self._reply = reply
        self._lock = threading.Lock()
        self._numbers: dict[int, int] = {}
        self._booked: dict[str, float] = {"circuits": 0, "shots": 0, "seconds": 0.0}
        self._device_s: float | None = None
        self._is_closed = False

    def call(self, call: Call) -> None:
        """Begin a call in a thread of its own."""
        arguments = (call.call, call.verb, call.body)
        thread = threading.Thread(
            target=self._answer, args=arguments, name="qrunner-call", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:
            self._reply(call.call, _refusal("this host cannot start a thread for it"))

    @property
    def used(self) -> Consumption:
        """What the calls have used so far, failed ones included."""
        with self._lock:
            return Consumption(
                circuits=int(self._booked["circuits"]),
                shots=int(self._booked["shots"]),
                device_s=self._device_s,
            )

    def close(self) -> None:
        """Cancel on the device what is not done, in the background."""
        with self._lock:
            self._is_closed = True
            left = list(self._numbers.values())
        threading.Thread(
            target=self._clean_up, args=(left,), name="qrunner-cancel", daemon=True
        ).start()

    def _clean_up(self, left: list[int]) -> None:
        self._reader.close()
        for number in left:
            try:
                self._control("cancel", number)
            except BackendUnavailableError as error:
                log.warning("a call may go on on its device: %s", error)

    # --- in a call's thread -----------------------------------------------------------------------

    def _answer(self, call: int, verb: str, body: JsonText) -> None:
        try:
            text = self._answered(call, verb, body)
        except (UnreadableError, OverBudgetError, BackendUnavailableError) as error:
            text = _refusal(str(error))
        except ProtocolError as error:
            text = _refusal(f"the device's answer is not JSON that can be passed on: {error}")
        except Exception as error:
            log.exception("a call to a held backend failed inside the supervisor")
            text = _refusal(our_own(error))
        with self._lock:
            self._numbers.pop(call, None)
            is_closed = self._is_closed
        if not is_closed:
            self._reply(call, text)

    def _answered(self, call: int, verb: str, body: JsonText) -> JsonText:
        if verb not in _VERBS:
            msg = f"a held backend does not know {verb!r:.40}"
            raise UnreadableError(msg)
        cost, rewritten = self._reader.rewrite(verb, body.encode())
        if verb in _CONTROLS:
            of = json.loads(rewritten)["of"]
            with self._lock:
                number = self._numbers.get(of)
            head, said = self._control(verb, number) if number is not None else (_NOTHING, b"null")
        else:
            head, said = self._paid(call, verb, rewritten, cost)
        if head.get("kind") != "answer":
            return _refusal(said.decode(errors="replace")[:2000])
        text = protocol.check_json(said.decode("ascii", errors="strict"))
        return JsonText(f'{{"answer":{text}}}')

    def _control(self, verb: str, number: int) -> tuple[dict[str, Any], bytes]:
        asked = {"verb": verb, "cost": {}}
        content = json.dumps({"of": number}).encode()
        return self._holder.ask(self._holder.number(), asked, content, CONTROL_S)

    def _paid(
        self, call: int, verb: str, body: bytes, cost: dict[str, int]
    ) -> tuple[dict[str, Any], bytes]:
        """Book a call, have it answered, and book its seconds, whatever became of it."""
        self._book(dict(cost))
        number = self._holder.number()
        with self._lock:
            if self._is_closed:
                msg = "the job has ended"
                raise UnreadableError(msg)
            self._numbers[call] = number
        head, said = self._holder.ask(number, {"verb": verb, "cost": cost}, body)
        device_s = head["used"].get("device_s")
        self._note(device_s, device_s if device_s is not None else head["seconds"])
        return head, said

    def _book(self, cost: dict[str, float]) -> None:
        with self._lock:
            check(self._per_job, self._booked, cost, "of the job")
            if self._ledger is not None:
                self._ledger.book(self._holder.name, self._user, self._per_day, cost)
            for name, value in cost.items():
                self._booked[name] += value

    def _note(self, device_s: float | None, seconds: float) -> None:
        with self._lock:
            self._booked["seconds"] += seconds
            if device_s is not None:
                self._device_s = (self._device_s or 0.0) + device_s
            if self._ledger is not None:
                self._ledger.book(self._holder.name, self._user, Budget(), {"seconds": seconds})


_NOTHING: Final[dict[str, Any]] = {"kind": "answer"}


def _refusal(reason: str) -> JsonText:
    return JsonText(json.dumps({"refusal": reason}))
