"""Jobs of a service's users: submitted once, within quotas, and seen by their owner only."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from runner.errors import InputsError, UnknownJobError
from runner.job import Job
from runner.job.device import HELD
from runner.job.record import Event, LogEvent, MessageEvent, StartedEvent, Usage
from runner.job.request import Origin
from runner.policy import Limits
from runner.policy.rules import Rules
from runner.programs import Program
from runner.running.requests import checked
from runner.service.faults import RefusedError, later, not_found, too_much
from runner.service.turns import Turns
from runner.store import Store
from runner.store.rows import Query, Summary
from runner.store.users import User
from runner.store.whole import whole_text
from runner.supervisor import Supervisor

_ID: Final = re.compile(r"job-[0-9a-f]{16}")
_DAY_S: Final = 86400.0
_TICK_S: Final = 0.1
_PAGE_BYTES: Final = 64 << 20
MAX_PAGE: Final = 200
MAX_KEY_CHARS: Final = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a client asks of a job, beside the program; the values are those of `Supervisor.run`.

    `inputs` are encoded already; `replay_of` is the id of the job that this one repeats.
    """

    inputs: Mapping[str, Any] = field(default_factory=dict)
    backend: str | Mapping[str, Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)
    origin: Origin = field(default_factory=Origin)
    replay_of: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """Part of what a job has said; `last` is the number of the last event in it while it runs."""

    messages: list[MessageEvent]
    log: str
    last: int | None


class Jobs:
    """The jobs, as each user sees them."""

    def __init__(self, store: Store, supervisor: Supervisor, rules: Rules) -> None:
        self._store = store
        self._supervisor = supervisor
        self._rules = rules
        self._turns = Turns()
        self._impatient = threading.Event()
        self.is_draining = False

    def submit(self, user: User, program: Program, order: Order) -> Job:
        """Submit a job and return it, or the one that the same key has started before.

        Raises RequestError, RefusedError for a quota, or while the service ends.
        """
        if self.is_draining:
            msg = "the service ends"
            raise later(msg)
        with self._turns.of(user.name):
            earlier = self._earlier(user, order.origin.key)
            if earlier is not None:
                return _same(earlier, order)
            self._check_quota(user)
            limits = self._supervisor.limits_of(program, order.limits)
            self._check_offered(order.backend, user)
            backend = self._supervisor.describe(order.backend, user.name)
            request = checked(program, order.inputs, limits, backend, order.options, user.name)
            request = dataclasses.replace(request, origin=order.origin, replay_of=order.replay_of)
            return self._supervisor.accept(program, request)

    def limits_of(self, program: Program) -> Limits:
        """Return the limits that a job of a program has unless it asks for lower ones."""
        return self._supervisor.limits_of(program)

    def _earlier(self, user: User, key: str) -> Job | None:
        """Return the job that this key has started, None if there is none, or no key."""
        if not key:
            return None
        if len(key) > MAX_KEY_CHARS or not key.isprintable():
            msg = f"the key {key!r:.80}: at most {MAX_KEY_CHARS} printable characters"
            raise RefusedError(HTTPStatus.BAD_REQUEST, msg)
        found = self._supervisor.search(Query(user=user.name, key=key, limit=1))
        return found[0] if found else None

    def find(self, job_id: str, user: User) -> Job:
        """Return a job of the user.  Raises RefusedError (404) for any other."""
        if _ID.fullmatch(job_id):  # a whole id: no beginning of one, and not `last`
            with contextlib.suppress(UnknownJobError):
                return self._supervisor.job(job_id, user=user.name)
        msg = "job"
        raise not_found(msg, job_id)

    def search(self, user: User, query: Query) -> tuple[list[Job], int]:
        """Return the user's jobs that match, and how many there are on all pages.

        The page ends early where its jobs would take too much memory.
        """
        own = dataclasses.replace(query, user=user.name)
        found: list[Job] = []
        size = 0
        for each in self._store.summaries(own):
            size += each.bytes
            if found and size > _PAGE_BYTES:
                break
            with contextlib.suppress(UnknownJobError):  # deleted meanwhile
                found.append(self._supervisor.job(each.id, user=user.name))
        return found, self._store.count(own)

    def summaries(self, user: User, query: Query) -> tuple[list[Summary], int]:
        """Return the summaries of the jobs that `search` returns."""
        own = dataclasses.replace(query, user=user.name)
        return self._store.summaries(own), self._store.count(own)

    def newest(self, user: User, query: Query) -> list[tuple[Summary, Usage]]:
        """Return the user's jobs that match, and what each has used; nothing counts them all."""
        found = self._store.summaries(dataclasses.replace(query, user=user.name))
        used = self._store.usages([each.id for each in found])
        return [(each, used.get(each.id, Usage())) for each in found]

    def said(self, job: Job, start: int | None = None, *, most: int, log_bytes: int) -> Said:
        """Return what a job has said: at most `most` messages, and the end of the log.

        The messages are those from number `start` on, None: the last ones.
        """
        record = job.record
        if record is None or not record.stored:
            return _said(job.events_so_far(), start, most, log_bytes)
        return Said(
            messages=self._store.messages(job.id, start, most, attempt=record.attempt),
            log=_end(self._store.log_tail(job.id, log_bytes), log_bytes),
            last=None,
        )

    def held_backends(self, user: User) -> list[str]:
        """Return the names of the host's own backends that a user may call."""
        return self._supervisor.held_backends(user.name)

    def files(self, job: Job) -> list[tuple[str, int]]:
        """Return path and size of each file that an ended job has left in `/out`."""
        return self._store.files(job.id)

    def file(self, job: Job, name: str) -> bytes | None:
        """Return a file that a job has left in `/out`, None if there is none of this path."""
        return self._store.read_file(job.id, name)

    def whole(self, job: Job) -> str:
        """Return everything that is kept of a job, as a line of JSON."""
        return whole_text(self._store, job.id)

    def delete(self, job: Job) -> None:
        """Remove a job with everything that is kept of it; one that runs is cancelled."""
        job.cancel()
        self._store.delete(job.id, even_running=True)

    def drain(self, grace_s: float) -> bool:
        """Accept no more jobs and wait until none runs; return False if some do after `grace_s`."""
        self.is_draining = True
        deadline = time.monotonic() + grace_s
        while is_busy := self._supervisor.is_busy:
            if time.monotonic() > deadline or self._impatient.wait(_TICK_S):
                break
        return not is_busy

    def stop_draining(self) -> None:
        """Let `drain` return at once."""
        self._impatient.set()

    def _check_offered(self, backend: str | Mapping[str, Any] | None, user: User) -> None:
        """Refuse families of held backends that the operator has not named.

        Each backend of a family has a process of its own, which stays.
        """
        name = backend
        if isinstance(backend, Mapping) and backend.get("name") == HELD:
            options = backend.get("options")
            name = options.get("backend") if isinstance(options, Mapping) else None
        if isinstance(name, str) and ":" in name:
            family = name.partition(":")[0]
            if not {name, family} & set(self.held_backends(user)):
                msg = f"backend {name!r:.80}: this service has none of that name"
                raise InputsError(msg)

    def _check_quota(self, user: User) -> None:
        pending = self._store.count(Query(user=user.name, pending=True))
        if pending >= self._rules.jobs:
            msg = (
                f"{pending} of your jobs wait or run, the quota is {self._rules.jobs}: wait for "
                "some to end, or cancel them"
            )
            raise too_much(msg)
        if self._rules.cpu_s_per_day:
            used = self._store.cpu_s(user.name, time.time() - _DAY_S)
            if used >= self._rules.cpu_s_per_day:
                msg = (
                    f"your jobs have used {used:.0f} CPU seconds within a day, the quota is "
                    f"{self._rules.cpu_s_per_day:g}: wait, or ask the operator for more"
                )
                raise too_much(msg)


def _same(earlier: Job, order: Order) -> Job:
    """Return the job that a key has started.  Raises RefusedError if it was for something else."""
    if earlier.request.origin.digest != order.origin.digest:
        msg = (
            f"the key {order.origin.key!r:.80} belongs to job {earlier.id}, which was asked for "
            "something else: choose another key"
        )
        raise RefusedError(HTTPStatus.CONFLICT, msg)
    return earlier


def _said(events: list[Event], start: int | None, most: int, log_bytes: int) -> Said:
    """Return what a job has said so far, all of it at the same moment."""
    starts = [n for n, each in enumerate(events) if isinstance(each, StartedEvent)]
    attempt = events[starts[-1] :] if starts else events
    messages = [each for each in attempt if isinstance(each, MessageEvent)]
    log = "".join(each.text for each in attempt if isinstance(each, LogEvent))
    found = messages[-most:] if start is None else messages[start:][:most]
    return Said(messages=found, log=_end(log, log_bytes), last=len(events) - 1)


def _end(log: str, most: int) -> str:
    """Return the end of a log, without the line that is cut."""
    if len(log) <= most:
        return log
    end = log[-most:]
    return end.partition("\n")[2] or end
