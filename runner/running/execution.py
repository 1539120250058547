"""One job in one sandbox: hand out the request, pump the streams, decide how it ended.

This thread owns the deadline and the cancellation and waits for nobody: what it reads goes into
the job's record, from which others deliver.  The outcome is decided here, by what the host saw
first and by what the guest reports only last.
"""

from __future__ import annotations

import contextlib
import itertools
import operator
import selectors
import time
from dataclasses import dataclass, field, replace
from typing import Final

from runner.engine import Engine
from runner.engine.attachment import Stream
from runner.errors import EngineError, NoSuchObjectError
from runner.host.interrupt import Waker
from runner.job import Job
from runner.job.record import Evidence, Outcome, Usage
from runner.policy import Limits
from runner.policy.isolation import host_tasks
from runner.running.pace import Pace
from runner.running.relay import LimitReachedError, Relay
from runner.sandboxes.cgroup import Counters
from runner.sandboxes.launcher import Sandbox
from runner.sandboxes.spec import Carrier
from sandbox.wire.protocol import Fault, JsonText, ProtocolError

_RECEIVE_BYTES: Final = 1 << 18
_DRAIN_S: Final = 5.0
"""How long messages that were published before the end may take to arrive after it."""

_LOG_RATE: Final = 64 << 20
"""Bytes of one job's log that are read in a second, once there are more than are kept."""

_PING_S: Final = 1.0
"""How long the engine may take to say that it lives, when the time is up."""

_LOG_QUIET_S: Final = 0.003
_LOG_TAIL_S: Final = 0.5
"""The log of a program that was cut off is whole when nothing more came for the first; else it
ends with the guest's mark, or after the second at the latest."""

_EXIT_S: Final = 5.0
"""How long a container whose streams have ended may take to be gone for the engine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How a job ended, before it is cleaned up."""

    outcome: Outcome
    evidence: Evidence = field(default_factory=Evidence)
    result: JsonText | None = None
    error: str | None = None
    traceback: str | None = None
    usage: Usage = field(default_factory=Usage)


class Execution:
    """Runs one request in a ready sandbox.  Used once, by one thread."""

    def __init__(
        self,
        engine: Engine,
        sandbox: Sandbox,
        job: Job,
        limits: Limits,
        waker: Waker,
        *,
        log_end: str = "",
    ) -> None:
        self._engine = engine
        self._sandbox = sandbox
        self._job = job
        self._limits = limits
        self._waker = waker
        stdio = sandbox.carrier is Carrier.STDIO
        self._relay = Relay(job, limits, stdio=stdio, log_end=log_end)
        self._selector: selectors.BaseSelector
        self._socket_ended = sandbox.connection is None
        self._streams_ended = False
        self._reads = Pace()

    def run(self, request: bytes) -> Verdict:
        """Hand the request out and return the verdict.  Raises EngineError if we lost the engine.

        Returns within the time limit and a few seconds, whatever the guest or a consumer does.
        """
        started = time.monotonic()
        try:
            with selectors.PollSelector() as self._selector:
                ended = self._pump(memoryview(request), started)
        except (LimitReachedError, ProtocolError) as error:
            ended = _ended_by(error)
            self._read_announced()
        wall_s = time.monotonic() - started
        self._settle(ended)
        return self._verdict(ended, wall_s)

    def _settle(self, ended: Verdict | None) -> None:
        """Leave the sandbox as the next job needs it, where there is one."""

    # --- pumping --------------------------------------------------------------------------------

    def _pump(self, unsent: memoryview, started: float) -> Verdict | None:
        """Move bytes until the job is over; return the host's reason to end it, if it has one."""
        deadline = started + self._limits.timeout_s
        attachment = self._sandbox.attachment
        assert attachment is not None
        self._selector.register(self._waker, selectors.EVENT_READ)
        while True:
            rest_s = self._watch_attachment(is_sent=not unsent)
            self._watch_socket()
            left = max(0.0, deadline - time.monotonic())
            for key, events in self._selector.select(min(left, rest_s) if rest_s else left):
                if key.fileobj is self._waker:
                    self._waker.clear()
                elif key.fileobj is not attachment:
                    self._read_socket()
                else:
                    if events & selectors.EVENT_WRITE:
                        unsent = self._send(unsent)
                    if events & selectors.EVENT_READ:
                        self._read_attachment()
            if self._is_over(deadline):
                return None
            if self._job.is_cancelled:
                return Verdict(outcome=Outcome.CANCELLED)
            if left <= 0:
                return self._time_limit(time.monotonic() - started)

    def _time_limit(self, seen: float) -> Verdict:
        detail = None
        if not self._engine.is_responsive(timeout_s=_PING_S):
            # Then nobody knows whether the program had ended before.
            detail = "the engine does not answer: results that it has not passed on are lost"
        evidence = Evidence(
            limit="timeout_s",
            value=self._limits.timeout_s,
            observed=round(seen, 3),
            source="host",
            detail=detail,
        )
        return Verdict(outcome=Outcome.TIME_LIMIT, evidence=evidence)

    def _send(self, unsent: memoryview) -> memoryview:
        """Write what fits of the request; a guest that is gone shows at the end of its streams."""
        attachment = self._sandbox.attachment
        assert attachment is not None
        try:
            unsent = unsent[attachment.send(unsent) :]
        except EngineError:
            unsent = memoryview(b"")
        if not unsent:
            self._job.trace.mark("hand-out")
        return unsent

    def _is_over(self, deadline: float) -> bool:
        relay = self._relay
        if relay.end is None and relay.exited is None and not self._streams_ended:
            return False
        self._job.trace.mark("program")
        self._drain(deadline, wait=relay.end is not None and not self._streams_ended)
        self._read_log_tail(deadline)
        self._job.trace.mark("drain")
        return True

    def _read_log_tail(self, deadline: float) -> None:
        """Read the log's last bytes: written before the end, but the engine may pass them later.

        A guest that has come to its end marks that of the log; else silence has to do.
        """
        attachment = self._sandbox.attachment
        assert attachment is not None
        relay = self._relay
        until = min(deadline, time.monotonic() + _LOG_TAIL_S)
        with selectors.PollSelector() as selector:
            selector.register(attachment, selectors.EVENT_READ)
            while not (self._streams_ended or relay.log_ended) and time.monotonic() < until:
                patience_s = _LOG_QUIET_S if relay.end is None else until - time.monotonic()
                if not selector.select(max(0.0, patience_s)):
                    break
                self._read_attachment()
        relay.end_of_log()

    def _watch_attachment(self, *, is_sent: bool) -> float:
        """Read the streams at their pace; return for how many seconds they are not read now."""
        attachment, rest_s = self._sandbox.attachment, self._reads.rest_s()
        assert attachment is not None
        wanted = (0 if rest_s else selectors.EVENT_READ) | (0 if is_sent else selectors.EVENT_WRITE)
        key = self._selector.get_map().get(attachment)
        if key is None and wanted:
            self._selector.register(attachment, wanted)
        elif key is not None and not wanted:
            self._selector.unregister(attachment)
        elif key is not None and key.events != wanted:
            self._selector.modify(attachment, wanted)
        return rest_s

    def _watch_socket(self) -> None:
        """Read the channel only while the job's consumers keep up: publishing blocks meanwhile."""
        connection = self._sandbox.connection
        if connection is None:
            return
        wanted = not self._socket_ended and not self._job.is_congested
        watched = connection.fileno() in self._selector.get_map()
        if wanted and not watched:
            self._selector.register(connection, selectors.EVENT_READ)
        elif watched and not wanted:
            self._selector.unregister(connection)

    def _drain(self, deadline: float, *, wait: bool) -> None:
        """Read what was published before the end: what is there, or all that was announced."""
        connection = self._sandbox.connection
        if connection is None:
            return
        until = min(deadline, time.monotonic() + _DRAIN_S)
        with selectors.PollSelector() as selector:
            selector.register(connection, selectors.EVENT_READ)
            while not self._socket_ended and not self._relay.is_complete:
                left = max(0.0, until - time.monotonic()) if wait else 0.0
                if not selector.select(left):
                    return
                self._read_socket()

    def _read_announced(self) -> None:
        """Read what a result has announced, although something behind the result ended the job.

        It was sent before the result, so it is there, and nothing has to be waited for.
        """
        if self._relay.announced > self._relay.messages:
            with contextlib.suppress(LimitReachedError, ProtocolError):  # the first reason stands
                self._drain(time.monotonic(), wait=False)

    def _read_socket(self) -> None:
        connection = self._sandbox.connection
        assert connection is not None
        try:
            data = connection.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if data:
            self._relay.feed_socket(data)
            if self._relay.messages:
                self._job.trace.mark_once("first message")
        else:
            self._socket_ended = True
            self._relay.end_of_socket()

    def _read_attachment(self) -> None:
        assert self._sandbox.attachment is not None
        pieces = self._sandbox.attachment.receive()
        if pieces is None:
            self._streams_ended = True
            return
        self._reads.note(sum(len(data) for _, data in pieces))
        # A program may write byte by byte, and the engine frames each write.
        for stream, group in itertools.groupby(pieces, key=operator.itemgetter(0)):
            data = b"".join(piece for _, piece in group)
            if stream is Stream.STDOUT:
                self._relay.feed_stdout(data)
            else:
                self._relay.feed_stderr(data)
                self._pace(len(data))

    def _pace(self, size: int) -> None:
        """Take a flood of output no faster than `_LOG_RATE` once it is more than what is kept.

        Engine and supervisor work for every byte, beyond the CPU time that the job may use.
        """
        if self._relay.stderr_bytes > self._limits.log_kept_bytes:
            time.sleep(size / _LOG_RATE)  # a few milliseconds

    # --- deciding -------------------------------------------------------------------------------

    def _verdict(self, ended: Verdict | None, wall_s: float) -> Verdict:
        """Apply the order: complete result, cancelled, host's limit, violation, guest's report."""
        relay = self._relay
        counters, source = self._counters()
        usage = self._usage(wall_s, counters, source)
        value = relay.result.value if relay.result else None
        if relay.result is not None and not isinstance(relay.end, Fault):
            evidence = self._completed_evidence(ended)
            verdict = Verdict(outcome=Outcome.COMPLETED, evidence=evidence)
        else:
            verdict = ended or self._limit_in_cgroup(counters, source) or self._report(counters)
        evidence = self._with_missing(verdict.evidence)
        return replace(verdict, evidence=evidence, result=value, usage=usage)

    def _with_missing(self, evidence: Evidence) -> Evidence:
        """Add that fewer messages have arrived than the guest has announced, if that is so."""
        announced, arrived = self._relay.announced, self._relay.messages
        if arrived >= announced:
            return evidence
        missing = f"{announced} messages were announced, and {arrived} have arrived"
        detail = missing if evidence.detail is None else f"{evidence.detail}; {missing}"
        return replace(evidence, source=evidence.source or "host", detail=detail)

    def _completed_evidence(self, ended: Verdict | None) -> Evidence:
        """Say what happened between a published final result and the end of `main`."""
        if ended is not None:
            return ended.evidence
        note = getattr(self._relay.end, "note", None)
        if note is None and self._relay.end is None and self._relay.exited is not None:
            note = f"main ended with status {self._relay.exited.status} after its final result"
        return Evidence(detail=note, source="guest") if note else Evidence()

    def _report(self, counters: Counters) -> Verdict:
        """Believe the guest about its own program, else say that there was no result."""
        end, exited = self._relay.end, self._relay.exited
        if isinstance(end, Fault):
            evidence = Evidence()
            if end.kind == Outcome.PROCESS_LIMIT:
                detail = "main failed where nothing more could be started"
                evidence = self._process_evidence("guest", detail)
            elif end.limit is not None:
                evidence = Evidence(
                    limit=end.limit, value=end.value, observed=end.observed, source="guest"
                )
            return Verdict(
                outcome=Outcome(end.kind),
                evidence=evidence,
                error=end.error,
                traceback=end.traceback,
            )
        if exited is not None:
            how = f"exit code {exited.status}" if exited.status >= 0 else f"signal {-exited.status}"
            detail = f"the program's process ended with {how} before there was a result"
            return Verdict(
                outcome=Outcome.NO_RESULT, evidence=Evidence(source="guest", detail=detail)
            )
        return self._lost_sandbox(counters)

    def _lost_sandbox(self, counters: Counters) -> Verdict:
        """Find out from the engine why the streams ended without a word of PID 1."""
        container = self._sandbox.container
        assert container is not None
        try:
            self._engine.wait(container, timeout_s=_EXIT_S)
            state = self._engine.inspect(container)
        except NoSuchObjectError:
            detail = "the container was removed from outside while the job ran"
        except EngineError as error:
            detail = f"the engine was lost while the job ran: {error}"
        else:
            if state.oom_killed:
                return self._memory_limit(counters.memory_peak_bytes, "engine")
            if self._sandbox.spec.policy.isolation.program_can_end_sandbox:
                return self._ended_as_a_whole(counters, state.exit_code)
            # Nothing inside is known to end PID 1, but nobody says who did.
            how = f"exit code {state.exit_code}" + (f", {state.error}" if state.error else "")
            detail = f"the sandbox was stopped from outside, as far as can be told ({how})"
        evidence = Evidence(source="engine", detail=detail)
        return Verdict(outcome=Outcome.SANDBOX_ERROR, evidence=evidence, error=detail)

    def _ended_as_a_whole(self, counters: Counters, exit_code: int) -> Verdict:
        """Name the limit at which the whole sandbox died, else accuse nobody but its program."""
        peak = counters.memory_peak_bytes
        if peak is not None and peak >= self._limits.memory_bytes:
            return self._memory_limit(peak, "cgroup")
        isolation = self._sandbox.spec.policy.isolation
        if (counters.tasks_peak or 0) >= host_tasks(isolation, self._limits.processes):
            evidence = self._process_evidence("cgroup", "the kernel inside could not grow")
            return Verdict(outcome=Outcome.PROCESS_LIMIT, evidence=evidence)
        detail = f"the sandbox ended as a whole (exit code {exit_code}), its first process with it"
        return Verdict(outcome=Outcome.NO_RESULT, evidence=Evidence(source="engine", detail=detail))

    def _limit_in_cgroup(self, counters: Counters, source: str) -> Verdict | None:
        if counters.oom_kills:
            return self._memory_limit(counters.memory_peak_bytes, source)
        if counters.process_limit_hits:
            refused = f"{counters.process_limit_hits} attempts to start one more were refused"
            evidence = self._process_evidence(source, refused)
            return Verdict(outcome=Outcome.PROCESS_LIMIT, evidence=evidence)
        return None

    def _process_evidence(self, source: str, detail: str) -> Evidence:
        limit = self._limits.processes
        return Evidence(
            limit="processes", value=limit, observed=limit, source=source, detail=detail
        )

    def _memory_limit(self, observed: float | None, source: str) -> Verdict:
        limit = self._limits.memory_bytes
        evidence = Evidence(limit="memory_bytes", value=limit, observed=observed, source=source)
        return Verdict(outcome=Outcome.MEMORY_LIMIT, evidence=evidence)

    # --- measuring ------------------------------------------------------------------------------

    def _counters(self) -> tuple[Counters, str]:
        """Return the kernel's figures, or what the guest told where there is no group of ours."""
        if self._sandbox.cgroup is not None:
            return self._sandbox.cgroup.read(), "cgroup"
        if self._relay.exited is not None:
            return Counters(oom_kills=self._relay.exited.oom_kills), "guest"
        return Counters(), ""

    def _usage(self, wall_s: float, counters: Counters, source: str) -> Usage:
        missing = (
            "the kernel counts this only in the container's own group, which was gone"
            if self._sandbox.cgroup is not None
            else "the engine's control groups cannot be read from this host"
        )
        measured = {
            "cpu_s": counters.cpu_s,
            "memory_peak_bytes": counters.memory_peak_bytes,
            "oom_kills": counters.oom_kills,
        }
        sources = {name: missing if value is None else source for name, value in measured.items()}
        counted = ("wall_s", "messages", "stdout_bytes", "stderr_bytes")
        cpu_s = counters.cpu_s
        return Usage(
            wall_s=round(wall_s, 6),
            cpu_s=None if cpu_s is None else max(0.0, cpu_s - self._sandbox.spent_s),
            memory_peak_bytes=counters.memory_peak_bytes,
            oom_kills=counters.oom_kills,
            messages=self._relay.messages,
            stdout_bytes=self._relay.stdout_bytes,
            stderr_bytes=self._relay.stderr_bytes,
            sources={**dict.fromkeys(counted, "host"), **sources},
        )


def _ended_by(error: LimitReachedError | ProtocolError) -> Verdict:
    if isinstance(error, LimitReachedError):
        return Verdict(outcome=error.outcome, evidence=error.evidence)
    evidence = Evidence(source="host", detail=str(error))
    return Verdict(outcome=Outcome.PROTOCOL_VIOLATION, evidence=evidence)
