"""One held backend, seen from the runner: started on first use, asked from any thread, and ended.

What arrives from a holder is bounded, is passed on as text, and is withheld if it holds a value of
the holder's environment.
"""

from __future__ import annotations

import itertools
import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from holder.link import VERSION, Link, LinkError
from runner.backends.device_jobs import DeviceJobs
from runner.backends.holdings import Holding, Opened
from runner.errors import BackendUnavailableError
from sandbox.wire import protocol

log = logging.getLogger(__name__)

START_S: Final = 120.0
"""How long a holder may take to start: providers import much, and ask their services."""

ANSWER_S: Final = 24 * 3600.0
"""How long a device may take for one call, at the longest; a job's own limit is usually shorter."""

ABANDON_S: Final = 60.0
"""How long cancelling what was left on a device may take, in seconds."""

_SECRET_CHARS: Final = 4
"""Shorter values of variables are found in any text by chance."""


@dataclass(slots=True)
class _Pending:
    """A call that waits for its answer."""

    submitted: Callable[[str], object]
    answered: threading.Event = field(default_factory=threading.Event)
    head: dict[str, Any] = field(default_factory=dict)
    body: bytes = b""


class Connection:
    """One life of a holder: from its start to its end or death."""

    def __init__(self, name: str, opened: Opened, secrets: list[bytes]) -> None:
        self._name = name
        self._opened = opened
        self._secrets = secrets
        self._lock = threading.Lock()
        self._pending: dict[int, _Pending] = {}
        self.is_alive = True
        try:
            self.description = self._wait_ready(opened.link)
        except BaseException:
            opened.end()
            opened.link.close()
            raise
        self._is_ending = False
        self._thread = threading.Thread(target=self._listen, name="qrunner-holder", daemon=True)
        self._thread.start()

    def _wait_ready(self, link: Link) -> dict[str, Any]:
        try:
            received = link.receive(START_S)
        except LinkError as error:
            received = ({"kind": "failed", "error": str(error)}, b"")
        head, body = received or ({"kind": "failed", "error": "its process ended at once"}, b"")
        if head.get("kind") != "ready" or head.get("version") != VERSION:
            why = self._without_secrets(str(head.get("error", "it speaks another protocol")))
            msg = f"backend {self._name!r} cannot be held: {why:.1000}"
            raise BackendUnavailableError(msg)
        if self._holds_secret(body):
            msg = f"backend {self._name!r} describes itself with a value of its environment"
            raise BackendUnavailableError(msg)
        return json.loads(body)  # type: ignore[no-any-return]

    def ask(
        self,
        call: int,
        head: dict[str, Any],
        body: bytes,
        timeout_s: float,
        submitted: Callable[[str], object],
    ) -> tuple[dict[str, Any], bytes]:
        """Send a call and return head and body of its answer.

        `submitted` is told, in the thread that listens, the id of a job on the device that can be
        found again.  Raises LinkError if the holder dies or does not answer.
        """
        pending = _Pending(submitted)
        with self._lock:
            if not self.is_alive:
                msg = "its process has ended"
                raise LinkError(msg)
            self._pending[call] = pending
        try:
            self._opened.link.send({**head, "call": call}, body)
            if not pending.answered.wait(timeout_s):
                msg = f"no answer within {timeout_s:g} s"
                raise LinkError(msg)
        finally:
            with self._lock:
                self._pending.pop(call, None)
        if not pending.head:
            msg = "its process has ended"
            raise LinkError(msg)
        return pending.head, pending.body

    def _listen(self) -> None:
        try:
            while (received := self._opened.link.receive()) is not None:
                head, body = received
                if self._holds_secret(body) or self._holds_secret(json.dumps(head).encode()):
                    log.error("backend %r: an answer with a value of its environment", self._name)
                    head, body = {"kind": "refusal", "call": head.get("call")}, b"withheld"
                with self._lock:
                    pending = self._pending.get(head.get("call", -1))
                if pending is not None and head.get("kind") == "submitted":
                    pending.submitted(str(head.get("job")))
                elif pending is not None:
                    pending.head, pending.body = head, body
                    pending.answered.set()
        except LinkError as error:
            if not self._is_ending:
                log.error("backend %r: %s", self._name, error)
        finally:
            self._die()

    def _die(self) -> None:
        with self._lock:
            self.is_alive = False
            left = list(self._pending.values())
        for each in left:
            each.answered.set()

    def end(self) -> None:
        """End the holder, which cancels what it has on its device."""
        self._is_ending = True
        self._opened.end()
        self._thread.join()
        self._opened.link.close()

    def _holds_secret(self, text: bytes) -> bool:
        return any(each in text for each in self._secrets)

    def _without_secrets(self, text: str) -> str:
        for each in self._secrets:
            text = text.replace(each.decode(), "…")
        return text


class Holder:
    """One held backend.  For any thread; a holder that has died is started again when asked.

    `jobs` keeps what is on the device, so that it is cancelled even if this process dies.
    """

    def __init__(self, name: str, holding: Holding, jobs: DeviceJobs | None = None) -> None:
        self.name = name
        self.holding = holding
        self._jobs = jobs
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._connection: Connection | None = None
        self._is_closed = False

    def describe(self) -> dict[str, Any]:
        """Return what a sandbox is told of the backend.  Raises BackendUnavailableError."""
        return self._connected().description

    @property
    def is_running(self) -> bool:
        """Return True while its process is there."""
        connection = self._connection
        return connection is not None and connection.is_alive

    def number(self) -> int:
        """Return a number for a call."""
        return next(self._numbers)

    def ask(
        self, call: int, head: dict[str, Any], body: bytes = b"", timeout_s: float = ANSWER_S
    ) -> tuple[dict[str, Any], bytes]:
        """Send a call to the holder, and return head and body of its answer.

        Raises BackendUnavailableError, in words that a program may read.
        """
        started = time.monotonic()
        kept: list[str] = []

        def submitted(job: str) -> None:
            if self._jobs is not None:
                self._jobs.keep(self.name, job)
                kept.append(job)

        try:
            answer, said = self._connected().ask(call, head, body, timeout_s, submitted)
        except LinkError as error:  # what it has on the device is known, and cancelled later
            msg = f"the holder of backend {self.name!r} did not answer: {error}"
            raise BackendUnavailableError(msg) from error
        if self._jobs is not None and kept:
            self._jobs.forget(self.name, kept)
        if len(said) > protocol.MAX_REPLY_BYTES:
            msg = f"an answer of {len(said)} bytes, and {protocol.MAX_REPLY_BYTES} are the most"
            raise BackendUnavailableError(msg)
        answer.setdefault("used", {})
        answer["seconds"] = time.monotonic() - started
        return answer, said

    def _connected(self) -> Connection:
        with self._lock:
            if self._is_closed:
                msg = f"backend {self.name!r} is closed with its supervisor"
                raise BackendUnavailableError(msg)
            if self._connection is None or not self._connection.is_alive:
                if self._connection is not None:
                    self._connection.end()
                    self._connection = None
                self._connection = self._connect()
                if self._jobs is not None and (left := self._jobs.left_behind(self.name)):
                    arguments = (self._connection, self._jobs, left)
                    name = "qrunner-abandoned"
                    threading.Thread(target=self._abandon, args=arguments, name=name).start()
            return self._connection

    def _abandon(self, connection: Connection, jobs: DeviceJobs, left: list[str]) -> None:
        """Cancel on the device what a process before has left there."""
        asked = {"verb": "abandon", "cost": {}}
        body = json.dumps({"jobs": left}).encode()
        try:
            head, said = connection.ask(self.number(), asked, body, ABANDON_S, lambda _job: None)
            found = json.loads(said) if head.get("kind") == "answer" else []
        except (LinkError, ValueError) as error:
            log.warning("backend %r: %s", self.name, error)
            return
        jobs.forget(self.name, [each for each in found if each in left])
        for each in left:
            done = "was cancelled" if each in found else "cannot be found, and may go on"
            log.warning("backend %r: its job %s of an earlier process %s", self.name, each, done)

    def _connect(self) -> Connection:
        secrets = [each for each in self.holding.secrets if len(each) >= _SECRET_CHARS]
        forms = {form for each in secrets for form in (each, json.dumps(each)[1:-1])}
        return Connection(self.name, self.holding.open(), [each.encode() for each in forms])

    def close(self) -> None:
        """End the holder if it runs; it is not started again."""
        with self._lock:
            self._is_closed = True
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.end()
