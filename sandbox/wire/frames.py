"""The frames between host and guest, as values; `sandbox.wire.protocol` defines their encoding."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NewType, TypeAlias

JsonText = NewType("JsonText", str)
"""Strict JSON (RFC 8259) as text: the form of a payload until its value is needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """The guest is connected and waits for its `Run`.

    `build` is the digest of its code, `seen` its report of `sandbox.processes.confinement`, `cell`
    the number of the cell that says so, 0 for a container.
    """

    protocol: int
    build: str
    seen: str = ""
    cell: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One interim result."""

    job: int
    body: JsonText


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """The program asks its held backend for something; `call` is the number that the reply has.

    `signature` is the guest's digest of what is asked, "" for what is not kept: by it a recording
    is found again.
    """

    job: int
    call: int
    verb: str
    signature: str
    body: JsonText


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The final result.  `messages` were published before it; unless `done`, `main` still runs."""

    job: int
    messages: int
    done: bool
    value: JsonText


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file that the program has left in `/out`; `content` is base64."""

    job: int
    name: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """`main` has ended after publishing its final result; `note` reports a second, ignored one."""

    job: int
    messages: int
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """The guest's own report that the program failed.

    `kind` is one of `FAULT_KINDS`; `error` is the exception as one line; `traceback` shows the
    program's frames only; `limit`, `value` and `observed` are set for a limit that was reached
    inside.
    """

    job: int
    messages: int
    kind: str
    error: str
    traceback: str | None = None
    limit: str | None = None
    value: int | None = None
    observed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exited:
    """PID 1's report that the program's process has ended without a report of its own.

    `status` is the result of `os.waitstatus_to_exitcode`: the exit code, or minus the signal's
    number.  The figures are those of the sandbox's control group as seen from inside
    (`sandbox.processes.counters`), None where it is hidden; `cpu_us` leaves out the warm-up.
    """

    job: int
    status: int
    oom_kills: int | None = None
    cpu_us: int | None = None
    memory_peak_bytes: int | None = None
    process_limit_hits: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleared:
    """In a session: the job's process has ended, and nothing of the job is left.

    `token` proves that the process above the job reports it.  `status` is as in `Exited`.  Two
    figures are those of `wait4`: user and system CPU time, and the size of the largest process.
    The others are by how much those of the sandbox's control group grew in the time of the job.
    """

    token: str
    job: int
    status: int
    cpu_us: int
    memory_peak_bytes: int
    oom_kills: int | None = None
    process_limit_hits: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Next:
    """In a session, before each `Run`: the job's number, its time, and the token for its end.

    The job's process is forked before this is read, so it never had the token in its memory: it can
    forge neither the end of its log nor that of its frames.  Inside a sandbox, the same frame
    without a token tells PID 1 that a job begins.
    """

    job: int
    wall_s: float
    token: str

    @property
    def log_end(self) -> str:
        """The mark at the end of the job's log."""
        return f"\x1e{self.token}\n"

    @property
    def frames_end(self) -> bytes:
        """The mark on stdout after the job's frames, before the report of its end."""
        return f'{{"type":"cleared","token":"{self.token}"'.encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """End this job now, if it has not ended."""

    job: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Stop the clock of this job until `Resume`, or for `at_most_s` seconds: `sandbox.wire.clock`.

    A second one replaces the first.
    """

    job: int
    at_most_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Let the clock of this job run again."""

    job: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """To a zygote: make a cell of this number; the job's three streams come along as descriptors.

    The other figures are the sizes, in bytes and inodes, of its `/tmp` and `/dev/shm`.
    """

    number: int
    tmp_bytes: int
    tmp_inodes: int
    shm_bytes: int
    shm_inodes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The host's answer to a call: an object with `answer`, or with `refusal` and the reason.

    On the wire it is a `Parcel` and its bytes, so that whoever passes it on need not hold it.
    """

    job: int
    call: int
    body: JsonText

    @property
    def line(self) -> bytes:
        """What the job's process reads."""
        return f'{{"call":{self.call},"body":{self.body}}}\n'.encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """Announces `size` bytes on the same stream, which are for the job's process and not read."""

    job: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A request: the program, its inputs and its limits.

    `log_end` is written to the log by the guest after all output of this job: a line that the host
    has chosen at random, and removes again.
    """

    job: int
    entry: str
    inputs: dict[str, Any]
    backend: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, float] = field(default_factory=dict)
    log_end: str = ""


Frame: TypeAlias = Ready | Message | Call | Result | File | Done | Fault | Exited | Cleared
Order: TypeAlias = Run | Next | Stop | Pause | Resume | Reply | Parcel | Cell
"""The host's frames, which the guest trusts."""
