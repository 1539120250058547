"""Values that describe a job: its status, why it ended, what it used, what it reported.

No behaviour and nothing mutable: `Job` is the handle, and `runner/store/jobs.py` stores the values.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeAlias

from runner.policy import size
from sandbox.wire.protocol import JsonText


class Outcome(StrEnum):
    """Why a job ended."""

    COMPLETED = "completed"
    PROGRAM_ERROR = "program_error"
    INIT_ERROR = "init_error"
    NO_RESULT = "no_result"
    RESULT_ERROR = "result_error"
    INVALID_INPUTS = "invalid_inputs"
    TIME_LIMIT = "time_limit"
    MEMORY_LIMIT = "memory_limit"
    OUTPUT_LIMIT = "output_limit"
    MESSAGE_LIMIT = "message_limit"
    RESULT_LIMIT = "result_limit"
    PROCESS_LIMIT = "process_limit"
    PROTOCOL_VIOLATION = "protocol_violation"
    SANDBOX_ERROR = "sandbox_error"
    INTERRUPTED = "interrupted"
    CANCELLED = "cancelled"

    @property
    def exit_code(self) -> int:
        """The exit code of `qrunner run` for this outcome."""
        return _EXIT_CODES[self]


_EXIT_CODES: Final = {
    Outcome.COMPLETED: 0,
    Outcome.PROGRAM_ERROR: 1,
    Outcome.INIT_ERROR: 1,
    Outcome.NO_RESULT: 1,
    Outcome.RESULT_ERROR: 1,
    Outcome.INVALID_INPUTS: 2,
    Outcome.TIME_LIMIT: 3,
    Outcome.MEMORY_LIMIT: 3,
    Outcome.OUTPUT_LIMIT: 3,
    Outcome.MESSAGE_LIMIT: 3,
    Outcome.RESULT_LIMIT: 3,
    Outcome.PROCESS_LIMIT: 3,
    Outcome.PROTOCOL_VIOLATION: 3,
    Outcome.SANDBOX_ERROR: 4,
    Outcome.INTERRUPTED: 4,
    Outcome.CANCELLED: 130,
}


class JobStatus(StrEnum):
    """The status of a job, with the names that Qiskit uses."""

    INITIALIZING = "INITIALIZING"
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    DONE = "DONE"
    ERROR = "ERROR"
    CANCELLED = "CANCELLED"

    @classmethod
    def of(cls, outcome: Outcome) -> JobStatus:
        """Return the status of a job that ended with this outcome."""
        ends = {Outcome.COMPLETED: cls.DONE, Outcome.CANCELLED: cls.CANCELLED}
        return ends.get(outcome, cls.ERROR)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """The resources that a job used; None where they are unknown, with the reason in `sources`.

    `wall_s` runs from hand-out to the end, waiting for a held backend included.  `circuits`,
    `shots`, `device_s` (the device's own count of its seconds) and `device_wait_s` are only set for
    a job with a held backend.  `stdout_bytes` counts the result stream, `stderr_bytes`
    the log, to which everything the program prints goes.  `sources` names for each figure its
    source ("host", "cgroup", "engine", "guest"), or the reason why it is None.
    """

    wall_s: float | None = None
    cpu_s: float | None = None
    memory_peak_bytes: int | None = None
    oom_kills: int | None = None
    messages: int = 0
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    circuits: int | None = None
    shots: int | None = None
    device_s: float | None = None
    device_wait_s: float | None = None
    sources: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The evidence for an outcome: a limit, its value, what was observed, and who measured it.

    All four are None when no limit was met; `detail` then says in words what happened.
    """

    limit: str | None = None
    value: float | None = None
    observed: float | None = None
    source: str | None = None
    detail: str | None = None

    def as_dict(self) -> dict[str, object]:
        """Return the members of the job record; `detail` only if it is set."""
        content: dict[str, object] = {
            "limit": self.limit,
            "value": self.value,
            "observed": self.observed,
            "source": self.source,
        }
        return content if self.detail is None else {**content, "detail": self.detail}

    def in_words(self) -> str:
        """Return one line for people, empty if there is nothing to report."""
        if self.limit is None:
            return self.detail or ""
        value, seen = self._amount(self.value), self._amount(self.observed)
        if value == seen and self.value != self.observed:  # by a few bytes
            value, seen = f" {self.value:.0f} bytes", f" {self.observed:.0f} bytes"
        return f"{self.limit}{value}{seen and f',{seen} seen'}, by {self.source}"

    def _amount(self, number: float | None) -> str:
        if number is None:
            return ""
        is_size = self.limit is not None and self.limit.endswith("_bytes")
        return f" {size(int(number))}" if is_size else f" {number:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageEvent:
    """One interim result; the host sets `seq` and `time` (seconds since the epoch)."""

    seq: int
    time: float
    body: JsonText


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEvent:
    """A piece of the log: one or more whole lines, unless a line is very long."""

    stream: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEvent:
    """A file that the program has left in `/out`: its path there, and its content in base64."""

    name: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedEvent:
    """The request was handed out; the program's time runs from here.

    On a cluster, `node` is the node that runs the job.  A further event with `attempt` 2 means that
    the first node was lost, and that another run follows, from the beginning.
    """

    job: str
    program: str
    image: str | None
    node: str | None = None
    attempt: int = 1


Event: TypeAlias = StartedEvent | MessageEvent | LogEvent | FileEvent


def length(event: Event) -> int:
    """Return the number of characters from the program that an event holds."""
    match event:
        case MessageEvent():
            return len(event.body)
        case LogEvent():
            return len(event.text)
        case FileEvent():
            return len(event.content)
        case StartedEvent():
            return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """Everything that is known about how a job ended.

    `place` is the kind of place where the job ran: "cell", "container", or "session" for a fork
    that shares its sandbox with other jobs.  `policy` is the hash of everything that defines the
    sandbox; `exceptions` lists what the operator has loosened, or allowed to be missing.
    `versions` holds the versions of the runner, of the protocol, of the guest and of the stack in
    the image.  `stored` is True if the job is in the store, False if the store has failed, None
    without a store.  `node` and `attempt` are set for a job that ran on a cluster.  `user` is the
    person for whom it ran, "" if none was given.
    """

    job: str
    program: str
    outcome: Outcome
    result: JsonText | None = None
    error: str | None = None
    traceback: str | None = None
    evidence: Evidence = field(default_factory=Evidence)
    usage: Usage = field(default_factory=Usage)
    image: str | None = None
    isolation: str | None = None
    carrier: str | None = None
    place: str | None = None
    policy: str | None = None
    exceptions: tuple[str, ...] = ()
    timestamps: dict[str, str | None] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    stored: bool | None = None
    node: str | None = None
    attempt: int = 1
    user: str = ""

    @property
    def reason(self) -> str:
        """Why the job ended, as text: limit and numbers, or an error in the program's words."""
        evidence = self.evidence
        if evidence.limit is None or evidence.value is None:
            return self.error or evidence.detail or ""
        return evidence.in_words()
