"""What is said of jobs, as values: where one is, why it ended, what it used, what it told.

No behaviour and nothing mutable: `Job` is the handle, `runner/store/jobs.py` what keeps them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeAlias

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
        """The exit code of `qrunner run` for a job that ended so."""
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
    """Where a job is, in the words that Qiskit users know."""

    INITIALIZING = "INITIALIZING"
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    DONE = "DONE"
    ERROR = "ERROR"
    CANCELLED = "CANCELLED"

    @classmethod
    def of(cls, outcome: Outcome) -> JobStatus:
        """Return the status of a job that has ended so."""
        ends = {Outcome.COMPLETED: cls.DONE, Outcome.CANCELLED: cls.CANCELLED}
        return ends.get(outcome, cls.ERROR)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a job consumed; None where nobody could tell, with the reason in `sources`.

    `wall_s` runs from hand-out to the end.  `stdout_bytes` are those of the result stream,
    `stderr_bytes` those of the log, to which everything the program prints goes.  `sources` says
    for each figure who measured it ("host", "cgroup", "engine", "guest") or why it is null.
    """

    wall_s: float | None = None
    cpu_s: float | None = None
    memory_peak_bytes: int | None = None
    oom_kills: int | None = None
    messages: int = 0
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    sources: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the outcome rests on: a limit, its value, what was seen, and who measured it.

    All four are None when no limit was met; `detail` then says in words what happened.
    """

    limit: str | None = None
    value: float | None = None
    observed: float | None = None
    source: str | None = None
    detail: str | None = None

    def as_dict(self) -> dict[str, object]:
        """Return the keys of the job record; `detail` only where there is one."""
        content: dict[str, object] = {
            "limit": self.limit,
            "value": self.value,
            "observed": self.observed,
            "source": self.source,
        }
        return content if self.detail is None else {**content, "detail": self.detail}

    def in_words(self) -> str:
        """Return one line for people, empty if there is nothing to say."""
        if self.limit is None:
            return self.detail or ""
        value = "" if self.value is None else f" {self.value:g}"
        seen = "" if self.observed is None else f", {self.observed:g} seen"
        return f"{self.limit}{value}{seen}, by {self.source}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageEvent:
    """One interim result; `seq` and `time` (seconds since the epoch) are the host's."""

    seq: int
    time: float
    body: JsonText


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEvent:
    """A piece of the log: one or more whole lines, unless a line is very long."""

    stream: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedEvent:
    """The request was handed out: the program's time runs from here.

    Of a job on a cluster, `node` runs it; a second one, whose `attempt` is 2, says that the first
    was lost with its node and that what follows is another run, from its beginning.
    """

    job: str
    program: str
    image: str | None
    node: str | None = None
    attempt: int = 1


Event: TypeAlias = StartedEvent | MessageEvent | LogEvent


def length(event: Event) -> int:
    """Return how many characters of the program's an event holds."""
    match event:
        case MessageEvent():
            return len(event.body)
        case LogEvent():
            return len(event.text)
        case StartedEvent():
            return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """Everything that is known of how a job ended.

    `policy` is the hash of all that the sandbox was made of; `exceptions` names what the operator
    has loosened in it, or allowed to be missing.  `versions` are those of the runner, the
    protocol, the guest's build and the stack in the image.  `stored` says whether the job is in
    the store; None if there is none, False if the store has failed.  `node` and `attempt` are
    those of a job that ran on a cluster.  `user` is the person for whom it ran, "" if nobody said.
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
        """Why it ended so, in words that may be the program's; limit and numbers, or the error."""
        evidence = self.evidence
        if evidence.limit is None or evidence.value is None:
            return self.error or evidence.detail or ""
        return evidence.in_words()
