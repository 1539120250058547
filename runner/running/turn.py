"""One job's turn in the sandbox of a session: as an `Execution`, but the sandbox lives on.

The guest's session parent reports when nothing of the job is left, with a token that the job has
never seen (`sandbox.wire.protocol.Begin`).  Everything before belongs to this job, nothing after it
does.
A sandbox that does not come to this in time, or after a violation, is not used again.
"""

from __future__ import annotations

import secrets
import selectors
import time
from dataclasses import replace
from typing import Final

from runner.engine import Engine
from runner.errors import EngineError
from runner.job.record import Evidence, Outcome, Usage
from runner.running.execution import Execution, Verdict
from runner.running.relay import LimitReachedError, Relay, overlap
from runner.running.task import Task
from runner.sandboxes.cgroup import Counters
from runner.sandboxes.launcher import Sandbox
from runner.sandboxes.spec import Carrier
from sandbox.wire import protocol
from sandbox.wire.protocol import Begin, Cleared, Exited, ProtocolError, Stop

_CLEARING_S: Final = 2.0
"""How long a job that has said its last word may take until nothing of it is left."""

_STOPPING_S: Final = 1.0
"""The same for a job that is ended: after that its sandbox is."""

_REPORT_BYTES: Final = 1024


class TurnRelay(Relay):
    """What one job of a session has said so far, up to the report of its end.

    As total as `Relay`.  `cleared` is the report, None before.
    """

    def __init__(self, task: Task, order: Begin, *, stdio: bool) -> None:
        super().__init__(
            task.job, task.limits, stdio=stdio, log_end=order.log_end, number=order.job
        )
        self._order = order
        self._tail = b""
        self._report: bytearray | None = None
        self._is_mute = False
        self.cleared: Cleared | None = None

    def mute(self) -> None:
        """Take nothing more for the job: only its end is still looked for."""
        self._is_mute = True

    def feed_socket(self, data: bytes) -> None:
        """Take bytes of the message channel."""
        if not self._is_mute:
            super().feed_socket(data)

    def end_of_socket(self) -> None:
        """Note that the message channel was closed."""
        if not self._is_mute:
            super().end_of_socket()

    def feed_stdout(self, data: bytes) -> None:
        """Take bytes of the result stream: the job's frames, then the report of its end."""
        if self._report is not None:
            self._feed_report(data)
            return
        mark = self._order.frames_end
        data = self._tail + data
        start = data.find(mark)
        end = len(data) - overlap(data, mark) if start < 0 else start
        frames, self._tail = data[:end], data[end:]
        if start >= 0:
            self._report = bytearray()
        if frames and not self._is_mute:
            super().feed_stdout(frames)
        if start >= 0:
            rest, self._tail = self._tail, b""
            self._feed_report(rest)

    def _log(self, data: bytes) -> None:
        if not self._is_mute:
            super()._log(data)

    def _feed_report(self, data: bytes) -> None:
        if self.cleared is not None:
            if not data:
                return
            msg = "bytes after the end of a job"
            raise ProtocolError(msg)
        assert self._report is not None
        self._report += data
        line, newline, rest = self._report.partition(b"\n")
        if len(line) > _REPORT_BYTES:
            msg = "a report without an end"
            raise ProtocolError(msg)
        if not newline:
            return
        frame = protocol.decode(line)
        if not isinstance(frame, Cleared) or frame.job != self._order.job or rest:
            msg = "a report that is none of this job's end"
            raise ProtocolError(msg)
        self.cleared = frame
        if not self.ends_whole and not self._is_mute:
            msg = "the result stream ended in the middle of a frame"
            raise ProtocolError(msg)


class Turn(Execution):
    """Runs one request in a session's sandbox.  Used once, by one thread.

    `before` is what the kernel had counted for the sandbox when the last turn ended, None for the
    first.  Afterwards `is_clean` says whether the next job may have the sandbox, and `counted` is
    the `before` of its turn.
    """

    def __init__(
        self,
        engine: Engine,
        sandbox: Sandbox,
        task: Task,
        number: int,
        before: Counters | None = None,
    ) -> None:
        super().__init__(engine, sandbox, task.job, task.limits, task.waker)
        token = secrets.token_hex(16)
        self._order = Begin(job=number, timeout_s=task.limits.timeout_s, token=token)
        self._request = replace(task.request, job=number)
        uses_socket = sandbox.carrier is Carrier.SOCKET
        self._turn = TurnRelay(task, self._order, stdio=not uses_socket)
        self._relay = self._turn
        self._socket_ended = not uses_socket
        self._is_ending = False
        self._is_sent = False
        self._is_violated = False
        if before is None:
            before = sandbox.cgroup.read() if sandbox.cgroup is not None else Counters()
        self._before = self.counted = before

    def do(self) -> Verdict:
        """Hand the request out and return the verdict; raises EngineError as `run` does."""
        self._sandbox.refuse_waiting()
        return self.run(protocol.encode(self._order) + protocol.encode(self._request))

    @property
    def is_clean(self) -> bool:
        """Whether the job has gone without a trace, and all that it sent has been read."""
        return self._has_ended() and self._is_sent and not self._is_violated

    def _has_ended(self) -> bool:
        relay = self._turn
        return relay.cleared is not None and relay.log_ended and self._socket_ended

    # --- pumping --------------------------------------------------------------------------------

    def _send(self, unsent: memoryview) -> memoryview:
        unsent = super()._send(unsent)
        self._is_sent = not unsent
        return unsent

    def _watch_socket(self) -> None:
        sandbox, watched = self._sandbox, self._selector.get_map()
        if self._socket_ended or (sandbox.connection is not None and not self._is_ending):
            super()._watch_socket()
            return
        awaited = sandbox.connection or sandbox.listener
        if awaited is not None and awaited.fileno() not in watched:
            self._selector.register(awaited, selectors.EVENT_READ)

    def _read_socket(self) -> None:
        listener = self._sandbox.listener
        if self._sandbox.connection is not None:
            super()._read_socket()
        elif self._sandbox.accept_next() and listener is not None:
            self._selector.unregister(listener)

    def _is_over(self, deadline: float) -> bool:
        relay = self._turn
        if relay.end is None and relay.cleared is None and not self._is_lost():
            return False
        if self._is_lost():
            return super()._is_over(deadline)
        self._await_end(_CLEARING_S)
        return True

    def _is_lost(self) -> bool:
        """Whether the sandbox has ended: by itself, or as PID 1 says."""
        return self._streams_ended or self._relay.exited is not None

    def _await_end(self, patience_s: float) -> None:
        """Read all streams to the end of this job, if that comes in time, for no consumer."""
        until = time.monotonic() + patience_s
        sandbox, self._is_ending = self._sandbox, True
        assert sandbox.attachment is not None
        with selectors.PollSelector() as self._selector:
            self._selector.register(sandbox.attachment, selectors.EVENT_READ)
            while not self._has_ended() and not self._is_lost():
                if self._turn.cleared and not (self._socket_ended or sandbox.connection):
                    # It may have connected just before it was killed, or never.
                    self._socket_ended = not sandbox.accept_next()
                    continue
                self._watch_socket()
                left = until - time.monotonic()
                if left <= 0:
                    return
                for key, _ in self._selector.select(left):
                    if key.fileobj is sandbox.attachment:
                        self._read_attachment()
                    else:
                        self._read_socket()

    # --- leaving --------------------------------------------------------------------------------

    def _settle(self, ended: Verdict | None) -> None:
        """End what is left of the job, so that the next one may have the sandbox."""
        self._is_violated = ended is not None and ended.outcome is Outcome.PROTOCOL_VIOLATION
        relay = self._turn
        if self._is_violated or self._is_lost() or self._has_ended() or not self._is_sent:
            return
        relay.mute()
        try:
            if relay.cleared is None:
                self._stop()
            self._await_end(_STOPPING_S)
        except (ProtocolError, LimitReachedError, EngineError):
            self._is_violated = True

    def _stop(self) -> None:
        attachment = self._sandbox.attachment
        assert attachment is not None
        line = protocol.encode(Stop(job=self._order.job))
        if attachment.send(memoryview(line)) != len(line):
            msg = "a session does not read what it is told"
            raise EngineError(msg)

    # --- deciding and measuring -----------------------------------------------------------------

    def _report(self, counters: Counters) -> Verdict:
        cleared, exited = self._turn.cleared, self._turn.exited
        if exited is not None and self._relay.end is None:
            detail = f"the session's parent process ended with status {exited.status}"
            evidence = Evidence(source="guest", detail=detail)
            return Verdict(outcome=Outcome.NO_RESULT, evidence=evidence)
        if cleared is not None:
            self._relay.exited = Exited(job=cleared.job, status=cleared.status)
        return super()._report(counters)

    def _counters(self) -> tuple[Counters, str]:
        """Return what the kernel has counted since this turn began; the peak is the sandbox's."""
        now, source = super()._counters()
        if source != "cgroup":
            return now, source
        self.counted = now
        return replace(
            now,
            oom_kills=_since(self._before.oom_kills, now.oom_kills),
            process_limit_hits=_since(self._before.process_limit_hits, now.process_limit_hits),
        ), source

    def _usage(self, wall_s: float, counters: Counters, source: str) -> Usage:
        """Return the figures with the job's own for CPU time and memory, where there are any."""
        usage = super()._usage(wall_s, counters, source)
        cleared = self._turn.cleared
        missing = "nobody has told: the sandbox ended with the job"
        told = "guest" if cleared else missing
        return replace(
            usage,
            cpu_s=cleared.cpu_us / 1e6 if cleared else None,
            memory_peak_bytes=cleared.memory_peak_bytes if cleared else None,
            sources={**usage.sources, "cpu_s": told, "memory_peak_bytes": told},
        )


def _since(before: int | None, now: int | None) -> int | None:
    return None if now is None else now - (before or 0)
