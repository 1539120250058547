"""The backends that a supervisor holds for its jobs: by their names, or as objects."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import secrets
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from runner.backends.device_jobs import DeviceJobs
from runner.backends.holder import Holder
from runner.backends.holdings import InlineHolding, ProcessHolding
from runner.backends.ledger import Ledger
from runner.backends.lines import HeldLine
from runner.backends.readers import Readers
from runner.backends.table import BackendError
from runner.errors import BackendUnavailableError
from runner.job.device import HELD, Line
from runner.policy.held import Budget, HeldBackend
from sandbox.wire import protocol
from sandbox.wire.protocol import JsonText

log = logging.getLogger(__name__)

AnyBackend: TypeAlias = Any
"""A name, a description, None, or a `BackendV2` object, whose type the runner cannot name."""

_FAKE: Final = HeldBackend(name="fake", factory="holder.recipes:fake")


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldState:
    """What one of the operator's backends does; `used` is what users have used of it today."""

    backend: HeldBackend
    is_running: bool
    used: Mapping[str, Budget]


class HeldDevice:
    """One held backend with its operator's bounds, for the jobs that may call it."""

    def __init__(
        self, holder: Holder, definition: HeldBackend | None, ledger: Ledger | None
    ) -> None:
        self._holder = holder
        self._definition = definition
        self._ledger = ledger if definition and definition.per_day != Budget() else None
        self._readers = Readers(holder.holding)

    def describe(self, user: str, *, is_kept: bool = True) -> dict[str, Any]:
        """Return the backend's description for a request of a user.

        `is_kept` says whether somebody keeps the answers for a recording.  Raises BackendError if
        the user may not call it, and BackendUnavailableError.
        """
        self.check(user)
        self._readers.prepare()
        options = {"backend": self._holder.name, "kept": is_kept, **self._holder.describe()}
        if (size := len(json.dumps(options))) > protocol.MAX_BACKEND_BYTES:
            limit = protocol.MAX_BACKEND_BYTES
            msg = f"backend {self._holder.name!r}: its description takes {size} bytes of {limit}"
            raise BackendError(msg)
        return {"name": HELD, "options": options}

    def start(self) -> None:
        """Start its holder.  Raises BackendUnavailableError."""
        self._holder.describe()

    def try_out(self) -> str:
        """Start what a job's call needs, and return in words what there is.

        Raises BackendUnavailableError.
        """
        found = self._holder.describe()
        link, process = self._readers.fork()
        link.close()
        os.close(process)
        qubits = found["target"]["num_qubits"]
        return f"{found['name']}, {qubits} qubits, Qiskit {found['qiskit']} (QPY {found['qpy']})"

    def check(self, user: str) -> None:
        """Raise BackendError if a user may not call it."""
        name = self._holder.name
        users = self._definition.users if self._definition else None
        if users is not None and user not in users:
            msg = f"backend {name!r} is not for user {user!r:.80}: its operator has not named them"
            raise BackendError(msg)

    @property
    def is_running(self) -> bool:
        """Return True while its process is there."""
        return self._holder.is_running

    def open(self, job: str, user: str, reply: Callable[[int, JsonText], object]) -> Line:
        """Return a line for one job."""
        del job
        return HeldLine(
            self._holder,
            self._readers,
            ledger=self._ledger,
            per_job=self._definition.per_job if self._definition else Budget(),
            per_day=self._definition.per_day if self._definition else Budget(),
            user=user,
            reply=reply,
        )

    def close(self) -> None:
        """End the processes."""
        self._readers.close()
        self._holder.close()


class Holders:
    """All held backends of a supervisor.  For any thread.

    Arguments:
        definitions: the operator's backends.
        environment: where the variables that they name are taken from.
        ledger: the file of budgets per day; None means that these do not count.
    """

    def __init__(
        self,
        definitions: Iterable[HeldBackend],
        environment: Mapping[str, str],
        ledger: Path | None = None,
    ) -> None:
        self._definitions = {each.name: each for each in definitions}
        self._environment = environment
        self._ledger = None if ledger is None else Ledger(ledger)
        self._jobs = None if self._ledger is None else DeviceJobs(self._ledger)
        self._lock = threading.Lock()
        self._devices: dict[str, HeldDevice] = {}
        self._objects: dict[str, Any] = {}
        for name in self._jobs.with_left_behind() if self._jobs is not None else ():
            if self._definition(name) is not None:
                threading.Thread(
                    target=self._start, args=(name,), name="qrunner-abandoned", daemon=True
                ).start()

    def _start(self, name: str) -> None:
        """Start the holder of a backend on which a dead process has left jobs: it cancels them."""
        try:
            if (device := self._named(name)) is not None:
                device.start()
        except BackendUnavailableError as error:
            log.warning("what was left on backend %r is not cancelled yet: %s", name, error)

    def find(self, backend: Any) -> HeldDevice | None:
        """Return the held backend that a request asks for, None if it asks for another.

        `backend` is a name, a `BackendV2` object, or the description of a kept request.
        """
        if isinstance(backend, Mapping) and backend.get("name") == HELD:
            backend = backend.get("options", {}).get("backend", "")
            if backend not in self._devices and self._definition(backend) is None:
                msg = f"backend {backend!r:.80} is not held by this supervisor"
                raise BackendError(msg)
        if isinstance(backend, str):
            return self._named(backend)
        return self._object(backend) if is_backend(backend) else None

    def names(self, user: str | None = None) -> list[str]:
        """Return the names of the operator's backends: all, or those that a user may call."""
        return [
            name
            for name, each in self._definitions.items()
            if user is None or each.users is None or user in each.users
        ]

    def states(self) -> list[HeldState]:
        """Return what the operator's backends do, without starting one.

        Raises BackendUnavailableError if the budgets cannot be read.
        """
        with self._lock:
            running = {name for name, each in self._devices.items() if each.is_running}
        return [
            HeldState(
                backend=each,
                is_running=name in running,
                used=self._ledger.used(name) if self._ledger and each.per_day != Budget() else {},
            )
            for name, each in self._definitions.items()
        ]

    def _definition(self, name: str) -> HeldBackend | None:
        """Return the definition of a name; `FAMILY:NAME` is what the factory of FAMILY calls NAME.

        The family `fake` is there without one: the fake devices of this environment.
        """
        family, colon, member = name.partition(":")
        found = self._definitions.get(name)
        if found is not None or not colon:
            return found
        of_all = self._definitions.get(family) or (_FAKE if family == _FAKE.name else None)
        if of_all is None:
            return None
        return dataclasses.replace(of_all, name=name, args={**of_all.args, "name": member})

    def _named(self, name: str) -> HeldDevice | None:
        with self._lock:
            if name not in self._devices and (definition := self._definition(name)):
                holding = ProcessHolding(definition, self._environment)
                holder = Holder(name, holding, self._jobs)
                self._devices[name] = HeldDevice(holder, definition, self._ledger)
            return self._devices.get(name)

    def _object(self, backend: Any) -> HeldDevice:
        with self._lock:
            for name, each in self._objects.items():
                if each is backend:
                    return self._devices[name]
            # A kept job must not find another object by its name in another process.
            name = f"{backend.name!s:.32}@{secrets.token_hex(4)}"
            self._objects[name] = backend
            self._devices[name] = HeldDevice(Holder(name, InlineHolding(backend)), None, None)
            return self._devices[name]

    def close(self) -> None:
        """End all holders, which cancels what they have on their devices."""
        with self._lock:
            devices, self._devices = self._devices, {}
        for each in devices.values():
            with contextlib.suppress(OSError):
                each.close()


def is_backend(value: object) -> bool:
    """Return True for a `BackendV2` object; imports nothing, as it can only be one if Qiskit is."""
    kind = getattr(sys.modules.get("qiskit.providers"), "BackendV2", None)
    return kind is not None and isinstance(value, kind)
