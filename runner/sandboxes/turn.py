"""One job's turn in the sandbox of a session: a place that outlives the job.

The guest's session parent reports when nothing of the job is left, with a token that the job has
never seen (`sandbox.wire.protocol.Next`).  Everything before the report belongs to this job, and
nothing after it does.
"""

from __future__ import annotations

import secrets
import selectors
from collections.abc import Collection
from dataclasses import replace
from typing import Any, Final

from runner.engine import Engine
from runner.job.request import Request, frame
from runner.sandboxes.cgroup import Counters
from runner.sandboxes.launcher import Sandbox
from runner.sandboxes.place import (
    Account,
    Container,
    Piece,
    Stream,
    overlap,
    set_events,
    usage_of,
)
from runner.sandboxes.spec import Carrier
from sandbox.wire import protocol
from sandbox.wire.protocol import Cleared, Next, ProtocolError

_REPORT_BYTES: Final = 1024


class Report:
    """Separates the report of a job's end from the stream of its results.

    `cleared` is the report, None before.
    """

    def __init__(self, order: Next) -> None:
        self._order = order
        self._held = b""
        self._line: bytearray | None = None
        self.cleared: Cleared | None = None

    def feed(self, data: bytes) -> bytes:
        """Return the job's part of the data.  Raises ProtocolError for a wrong report."""
        if self._line is not None:
            self._read(data)
            return b""
        mark = self._order.frames_end
        data = self._held + data
        start = data.find(mark)
        end = len(data) - overlap(data, mark) if start < 0 else start
        frames, self._held = data[:end], data[end:]
        if start >= 0:
            self._line = bytearray()
            self._read(self._held)
        return frames

    def _read(self, data: bytes) -> None:
        if self.cleared is not None:
            if not data:
                return
            msg = "bytes after the end of a job"
            raise ProtocolError(msg)
        assert self._line is not None
        self._line += data
        line, newline, rest = self._line.partition(b"\n")
        if len(line) > _REPORT_BYTES:
            msg = "a report without an end"
            raise ProtocolError(msg)
        if not newline:
            return
        frame = protocol.decode(line)
        if not isinstance(frame, Cleared) or frame.job != self._order.job or rest:
            msg = "a report that is not about the end of this job"
            raise ProtocolError(msg)
        self.cleared = frame


class Turn(Container):
    """A session's sandbox for one job.

    `before` holds the kernel's counters for the sandbox when the last turn ended, None for the
    first turn; `counted` is the `before` of the next.
    """

    first_process = "the session's parent process"
    outlives_job = True

    def __init__(
        self, engine: Engine, sandbox: Sandbox, number: int, before: Counters | None = None
    ) -> None:
        super().__init__(engine, sandbox)
        self.number = number
        self._order = Next(job=number, wall_s=0.0, token=secrets.token_hex(16))
        self.log_end = self._order.log_end
        self._report = Report(self._order)
        self._messages_ended = sandbox.carrier is Carrier.STDIO
        if before is None:
            before = sandbox.cgroup.read() if sandbox.cgroup is not None else Counters()
        self._before = self.counted = before

    def begin(self, request: Request) -> None:
        self._sandbox.refuse_waiting()
        self.tell(replace(self._order, wall_s=request.limits.timeout_s))
        # The mark after the log contains the token, which must not be in the job's request.
        self._outgoing.add(frame(request, self.number))

    # --- streams --------------------------------------------------------------------------------

    def watch(self, selector: selectors.BaseSelector, wanted: Collection[Stream]) -> None:
        super().watch(selector, wanted)
        awaited = Stream.MESSAGES in wanted and not self._messages_ended
        awaited = awaited and self._sandbox.connection is None
        set_events(selector, self._sandbox.listener, selectors.EVENT_READ if awaited else 0)

    def exchange(self, source: Any, events: int) -> list[Piece]:
        if source is self._sandbox.listener:
            self._sandbox.accept_next()
            return []
        return super().exchange(source, events)

    def _read_streams(self) -> list[Piece]:
        found = []
        for stream, data in super()._read_streams():
            own = self._report.feed(data) if stream is Stream.RESULTS else data
            if own:
                found.append((stream, own))
        cleared = self._report.cleared
        if cleared is not None and self.exit_status is None:
            self.exit_status = cleared.status
            found.append((Stream.RESULTS, b""))
            found += self._end_of_messages()
        return found

    def _end_of_messages(self) -> list[Piece]:
        """Accept a connection that an ended job made just before it was killed, if there is one."""
        if self._messages_ended or self._sandbox.connection or self._sandbox.accept_next():
            return []
        self._messages_ended = True
        return [(Stream.MESSAGES, b"")]

    # --- its cost -------------------------------------------------------------------------------

    def account(self) -> Account:
        """Return the differences since the turn began, and the guest's figures for the job."""
        kernels, cleared = super().account(), self._report.cleared
        self.counted = now = kernels.counters
        counters = replace(
            now,
            oom_kills=_since(self._before.oom_kills, now.oom_kills),
            process_limit_hits=_since(self._before.process_limit_hits, now.process_limit_hits),
        )
        if not kernels.source and cleared is not None:  # as the guest reads them
            counters = Counters(
                oom_kills=cleared.oom_kills, process_limit_hits=cleared.process_limit_hits
            )
            kernels = replace(kernels, source="guest", usage=usage_of(counters, "guest", "hidden"))
        told = "guest" if cleared else "unknown: the sandbox ended with the job"
        usage = replace(
            kernels.usage,
            oom_kills=counters.oom_kills,
            cpu_s=cleared.cpu_us / 1e6 if cleared else None,
            memory_peak_bytes=cleared.memory_peak_bytes if cleared else None,
            sources={**kernels.usage.sources, "cpu_s": told, "memory_peak_bytes": told},
        )
        return replace(kernels, counters=counters, usage=usage)


def _since(before: int | None, now: int | None) -> int | None:
    return None if now is None else now - (before or 0)
