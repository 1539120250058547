"""Every exception that the runner raises, and the exit code that each one means.

    RunnerError                      4   a fault of the runner or of the engine
    ├── RequestError                 2   the caller's mistake; nothing was started
    │   ├── ManifestError                program.yaml is wrong
    │   │   └── SourceOnlyError          it needs packages that have no wheel
    │   ├── InputsError                  the inputs do not fit the program
    │   ├── UnknownProgramError          no such program
    │   └── UnknownJobError              no such job in the store
    ├── EngineError                  4   the container engine refused, failed or vanished
    │   ├── EngineUnavailableError       no engine answers
    │   ├── NoAnswerError                the engine hung up or is late: what it did is unknown
    │   ├── NoSuchObjectError            the engine does not know this container or image
    │   └── NameTakenError               the engine has a container of this name already
    ├── BackendUnavailableError      4   a held backend cannot be started, or does not answer
    ├── PolicyError                  4   the engine or the kernel cannot honour the policy
    ├── ImageError                   4   an image could not be built or fetched
    ├── StoreError                   4   the store of jobs cannot be read or written
    └── JobFailedError           1   a job did not complete; raised only by `Job.result()`

A program that fails is a normal result and is returned as a value, a `JobRecord`.  Exceptions are
for the caller's mistakes and for faults of the runner.  Every message says what is wrong, with the
value, then why, then what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class RunnerError(Exception):
    """Base class of all these errors: the runner or the engine failed."""

    exit_code: ClassVar[int] = 4


class RequestError(RunnerError):
    """The request cannot be carried out as it was made; no sandbox was used."""

    exit_code: ClassVar[int] = 2


class ManifestError(RequestError):
    """The manifest or the directory of a program cannot be used."""


class SourceOnlyError(ManifestError):
    """A program needs packages that are there as source only; `packages` are their names."""

    def __init__(self, message: str, packages: tuple[str, ...]) -> None:
        super().__init__(message)
        self.packages = packages


class InputsError(RequestError):
    """The inputs do not fit the program: not JSON, too large, or against its schema.

    `problems` are the single ones in it, if it has several.
    """

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class UnknownProgramError(RequestError):
    """No program has this name, and no file or directory of this name exists."""


class UnknownJobError(RequestError):
    """No job has this id, or several ids begin with it."""


class EngineError(RunnerError):
    """The container engine refused, failed, or stopped answering."""


class EngineUnavailableError(EngineError):
    """No container engine answers at the configured address."""


class NoAnswerError(EngineError):
    """The engine did not answer in time or hung up; it is unknown if it did what was asked."""


class NoSuchObjectError(EngineError):
    """The engine does not know this container or image."""


class NameTakenError(EngineError):
    """The engine has a container of this name already."""


class BackendUnavailableError(RunnerError):
    """A backend that this host holds cannot be started, or does not answer."""


class PolicyError(RunnerError):
    """The engine or the kernel cannot honour an option that may not be missing."""


class ImageError(RunnerError):
    """An image could not be built, fetched or bootstrapped."""


class StoreError(RunnerError):
    """The store of jobs cannot be opened, read or written; the message names its path."""


class JobFailedError(RunnerError):
    """A job did not complete; raised by `Job.result()` only.

    Attributes:
        job_id: the job's id.
        outcome: why it ended, an `Outcome` such as "program_error".
        evidence: the limit that was met: limit, value, observed, source; empty if none was.
        traceback: the program's frames, or None.
        log_tail: the last lines of the log.

    Text from the program is escaped in the message (`reason`), and unchanged in the attributes.
    """

    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        job_id: str,
        outcome: str,
        *,
        evidence: dict[str, object],
        traceback: str | None,
        log_tail: str,
        reason: str,
    ) -> None:
        self.job_id = job_id
        self.outcome = outcome
        self.evidence = evidence
        self.traceback = traceback
        self.log_tail = log_tail
        super().__init__(f"job {job_id} ended as {outcome}" + (f":\n{reason}" if reason else ""))


def our_own(error: Exception) -> str:
    """Return the message for an unexpected exception."""
    return f"a fault of the runner itself: {type(error).__name__}: {error}"
