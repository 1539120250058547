"""One job in one place: hand out the request, transfer the streams, know when it is over.

The thread that runs an `Execution` owns the deadline and the cancellation, and waits for no
consumer: everything it reads goes into the job's history, from which other threads deliver.
`runner/running/verdict.py` decides how the job ended.
"""

from __future__ import annotations

import contextlib
import selectors
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import Final

from runner.errors import EngineError
from runner.host.interrupt import Waker
from runner.job.device import Device, Line
from runner.job.life import Life
from runner.job.record import Outcome, Usage
from runner.job.request import Request
from runner.policy import Limits
from runner.running.calls import Calls
from runner.running.pace import Pace
from runner.running.relay import LimitReachedError, Relay
from runner.running.verdict import Verdict, decide, ended_by, time_limit
from runner.sandboxes.cgroup import Counters
from runner.sandboxes.place import EVERYTHING, Account, Place, Stream, set_events, usage_of
from runner.sandboxes.spec import Carrier
from sandbox.wire.clock import Clock
from sandbox.wire.protocol import JsonText, Order, Pause, ProtocolError, Reply, Resume

_MESSAGES: Final = frozenset({Stream.MESSAGES})
_OUTPUT: Final = EVERYTHING - _MESSAGES
"""Streams that are read even when a consumer is behind; only publishing messages blocks then."""

_DRAIN_S: Final = 5.0
"""How long messages published before the end may take to arrive after it, in seconds."""

_LOG_RATE: Final = 64 << 20
"""Bytes per second that are read of a job's log, once it is longer than what is kept."""

_PING_S: Final = 1.0
"""How long the engine may take to answer a ping after the time limit, in seconds."""

_LOG_QUIET_S: Final = 0.003
_LOG_TAIL_S: Final = 0.5
"""The log ends with the guest's mark, or after `_LOG_TAIL_S` at the latest.  The log of a program
that was cut off has no mark, and ends when nothing arrived for `_LOG_QUIET_S`."""

_CLEARING_S: Final = 2.0
"""How long an ended job may take to leave no process in a place that outlives it, in seconds."""

_FIGURES_S: Final = 0.5
"""How long PID 1 may take to report figures that this host cannot read itself, in seconds."""

_STOPPING_S: Final = 1.0
"""The same for a job that the host stops; after that, its place is removed."""


class Execution:
    """Runs one request in a place that is ready for it.  Used once, by one thread.

    Afterwards `is_clean` is True if another job may use the place.
    """

    def __init__(
        self,
        place: Place,
        job: Life,
        limits: Limits,
        waker: Waker,
        device: Device | None = None,
    ) -> None:
        self._place = place
        self._device = device
        self._calls = Calls(place.number, limits.device_wait_s)
        self._line: Line | None = None
        self._job = job
        self._limits = limits
        self._waker = waker
        stdio = place.carrier is Carrier.STDIO
        self._relay = Relay(
            job,
            limits,
            stdio=stdio,
            log_end=place.log_end,
            number=place.number,
            can_call=device is not None,
        )
        self._ended = {Stream.MESSAGES} if stdio else set()
        self._said: deque[Order] = deque()
        self._clock: Clock
        self._selector: selectors.BaseSelector
        self._reads = Pace()
        self.is_clean = False

    def say(self, order: Order) -> None:
        """Send an order to the guest while its job runs, from any thread.

        `Pause` and `Resume` also act on the host's clock, so both clocks are paused together.
        """
        self._said.append(order)
        self._waker.wake()

    def run(self, request: Request) -> Verdict:
        """Hand out the request and return the verdict.  Raises EngineError if the engine is lost.

        Returns within the time limit (without pauses) and a few seconds, whatever the guest or a
        consumer does.
        """
        started = time.monotonic()
        self._clock = Clock(self._limits.timeout_s)
        with selectors.PollSelector() as self._selector, self._open_line(request):
            try:
                self._place.begin(request)
                ended = self._pump()
            except (LimitReachedError, ProtocolError) as error:
                ended = ended_by(error)
                self._read_announced()
            wall_s = time.monotonic() - started
            if self._place.outlives_job:
                self._settle(ended)
            account = self._place.account()
            if not account.source and not self._place.outlives_job:
                self._wait_for_figures()
        account = self._completed(account)
        verdict = decide(ended, self._relay, self._place, self._limits, account)
        return replace(verdict, usage=self._usage(wall_s, account.usage))

    @contextlib.contextmanager
    def _open_line(self, request: Request) -> Iterator[None]:
        """Let the program call its held backend in this block; what is not done then is cancelled.

        The line stays there to be asked what the job has used.
        """
        if self._device is None:
            yield
            return
        self._line = self._device.open(self._job.id, request.user, self._reply)
        try:
            yield
        finally:
            self._line.close()
            self._job.answers = self._calls.answers

    def _reply(self, call: int, body: JsonText) -> None:
        self.say(Reply(job=self._place.number, call=call, body=body))

    # --- transferring ---------------------------------------------------------------------------

    def _pump(self) -> Verdict | None:
        """Transfer bytes until the job is over; return the host's reason to end it, or None."""
        self._selector.register(self._waker, selectors.EVENT_READ)
        is_told = False
        while True:
            rest_s = self._reads.rest_s()
            self._place.watch(self._selector, self._wanted(is_resting=rest_s > 0))
            waits_s = self._calls.left_s
            left = self._clock.left_s if waits_s is None else min(self._clock.left_s, waits_s)
            for key, events in self._selector.select(min(left, rest_s) if rest_s else left):
                if key.fileobj is self._waker:
                    self._waker.clear()
                    self._pass_on_what_was_said()
                else:
                    self._move(key.fileobj, events)
            if not is_told and not self._place.unsent_bytes:
                is_told = True
                self._job.trace.mark("hand-out")
            if self._is_over():
                return None
            if self._job.is_cancelled:
                return Verdict(outcome=Outcome.CANCELLED)
            if left <= 0:
                return self._time_limit() if waits_s is None or waits_s > 0 else self._wait_limit()

    def _wanted(self, *, is_resting: bool) -> frozenset[Stream]:
        """Return the streams to read now: messages if consumers keep up, others at a set pace."""
        messages = frozenset() if self._job.is_congested else _MESSAGES
        return messages if is_resting else messages | _OUTPUT

    def _pass_on_what_was_said(self) -> None:
        while self._said:
            order = self._said.popleft()
            if isinstance(order, Reply):
                self._tell(self._calls.answered(order, self._place.unsent_bytes))
            else:
                self._tell([order])

    def _tell(self, orders: list[Order]) -> None:
        for order in orders:
            if isinstance(order, Pause):
                self._clock.pause(order.at_most_s)
            elif isinstance(order, Resume):
                self._clock.resume()
        if orders:
            self._place.tell(*orders)

    def _take_calls(self) -> None:
        """Pass on what the program asks of its held backend."""
        while self._relay.calls:
            call = self._relay.calls.popleft()
            self._tell(self._calls.take(call, self._place.unsent_bytes))
            assert self._line is not None
            self._line.call(call)

    def _wait_limit(self) -> Verdict:
        detail = "the held backend had not answered by then"
        limit_s = self._limits.device_wait_s
        return time_limit("device_wait_s", limit_s, self._calls.waited_s, detail)

    def _time_limit(self) -> Verdict:
        spent_s = self._clock.spent_s  # before the ping, which is not the job's time
        detail = None
        if not self._place.answers(timeout_s=_PING_S):
            # It is then unknown if the program had ended before.
            detail = "the engine does not answer: results that it has not passed on are lost"
        return time_limit("timeout_s", self._limits.timeout_s, spent_s, detail)

    def _move(self, source: object, events: int) -> None:
        """Send pending data to the place, and process what has arrived from it."""
        relay = self._relay
        pieces = self._place.exchange(source, events)
        if size := sum(len(data) for stream, data in pieces if stream in _OUTPUT):
            self._reads.note(size)
        for stream, data in pieces:
            if not data:
                self._end_of(stream)
            elif stream is Stream.MESSAGES:
                relay.feed_socket(data)
                self._take_calls()
                if relay.messages:
                    self._job.trace.mark_once("first message")
            elif stream is Stream.RESULTS:
                relay.feed_stdout(data)
                self._take_calls()
            else:
                relay.feed_stderr(data)
                self._pace(len(data))

    def _end_of(self, stream: Stream) -> None:
        self._ended.add(stream)
        if stream is Stream.MESSAGES:
            self._relay.end_of_socket()
        elif stream is Stream.RESULTS:
            self._relay.end_of_stdout()

    def _is_over(self) -> bool:
        """Return True if the job or its place has ended; then read the rest of its output."""
        relay = self._relay
        can_report = Stream.RESULTS not in self._ended and not self._is_lost()
        if relay.end is None and can_report:
            return False
        self._job.trace.mark("program")
        set_events(self._selector, self._waker, 0)
        self._read_messages()
        self._read_log_tail()
        self._job.trace.mark("drain")
        return True

    def _is_lost(self) -> bool:
        """Return True if the place has ended, or its first process reports the end."""
        return self._place.has_ended or self._relay.exited is not None

    def _read_messages(self) -> None:
        """Read messages published before the end: those present, or all that were announced."""
        waits = self._relay.end is not None and not self._place.has_ended and self._clock.left_s
        self._read_on(
            lambda: Stream.MESSAGES in self._ended or self._relay.is_complete,
            {Stream.MESSAGES},
            within_s=min(self._clock.left_s, _DRAIN_S) if waits else _DRAIN_S,
            quiet_s=None if waits else 0.0,
        )

    def _read_announced(self) -> None:
        """Read the messages that a result announced, even if a later error ended the job.

        They were sent before the result, so they are present and nothing has to be waited for.
        """
        set_events(self._selector, self._waker, 0)
        with contextlib.suppress(LimitReachedError, ProtocolError):  # the first error counts
            self._read_on(
                lambda: self._relay.messages >= self._relay.announced,
                _MESSAGES,
                within_s=_DRAIN_S,
                quiet_s=0.0,
            )

    def _read_log_tail(self) -> None:
        """Read the last bytes of the log: written before the end, but the engine may deliver later.

        A guest that reached its end marks the end of the log; otherwise a quiet period must do.
        """
        relay = self._relay
        marks = relay.end is not None or self._place.exit_status is not None
        self._read_on(
            lambda: self._place.has_ended or relay.log_ended,
            {Stream.LOG},
            within_s=min(self._clock.left_s, _LOG_TAIL_S),
            quiet_s=None if marks else _LOG_QUIET_S,
        )
        relay.end_of_log()

    def _read_on(
        self,
        is_done: Callable[[], bool],
        wanted: Collection[Stream],
        *,
        within_s: float,
        quiet_s: float | None = None,
    ) -> None:
        """Read these streams until `is_done()`, `within_s` is over, or `quiet_s` of silence."""
        until = time.monotonic() + within_s
        while not is_done() and (left := until - time.monotonic()) > 0:
            self._place.watch(self._selector, wanted)
            ready = self._selector.select(left if quiet_s is None else min(left, quiet_s))
            if not ready:
                return
            for key, events in ready:
                self._move(key.fileobj, events)

    def _pace(self, size: int) -> None:
        """Slow down to `_LOG_RATE` once the log is longer than what is kept.

        Every byte costs the engine and the supervisor CPU time that the job's limit does not cover.
        """
        if self._relay.stderr_bytes > self._limits.log_kept_bytes:
            time.sleep(size / _LOG_RATE)  # a few milliseconds

    def _settle(self, ended: Verdict | None) -> None:
        """Wait for the end of the job, discarding its output, so that the next job may begin."""
        if ended is not None and ended.outcome is Outcome.PROTOCOL_VIOLATION:
            return
        self._relay.mute()
        set_events(self._selector, self._waker, 0)
        try:
            if ended is None:
                self._read_on(self._is_settled, EVERYTHING, within_s=_CLEARING_S)
            if not self._is_settled():
                self._place.stop()
                self._read_on(self._is_settled, EVERYTHING, within_s=_STOPPING_S)
        except (ProtocolError, LimitReachedError, EngineError):
            return
        self.is_clean = not self._place.unsent_bytes and not self._is_lost() and self._is_settled()

    def _wait_for_figures(self) -> None:
        """Let PID 1 report the end, with the figures that this host cannot read itself."""
        self._relay.mute(but_figures=True)
        set_events(self._selector, self._waker, 0)
        with contextlib.suppress(ProtocolError, LimitReachedError, EngineError):
            self._place.stop()
            self._read_on(self._is_lost, EVERYTHING, within_s=_FIGURES_S)

    def _is_settled(self) -> bool:
        """Return True if the job will produce nothing more, or the place is lost with it."""
        is_whole = self._place.exit_status is not None and self._relay.log_ended
        return (is_whole and Stream.MESSAGES in self._ended) or self._is_lost()

    # --- measuring ------------------------------------------------------------------------------

    def _completed(self, account: Account) -> Account:
        """Return the place's account, or the figures of PID 1 where the place has none.

        In a session those are of all its jobs together, so they say nothing of one.
        """
        exited = self._relay.exited
        if account.source or exited is None or self._place.outlives_job:
            return account
        counters = Counters(
            cpu_s=None if exited.cpu_us is None else exited.cpu_us / 1e6,
            memory_peak_bytes=exited.memory_peak_bytes,
            oom_kills=exited.oom_kills,
            process_limit_hits=exited.process_limit_hits,
        )
        missing = "the sandbox does not see its own control group"
        return Account(
            counters=counters, source="guest", usage=usage_of(counters, "guest", missing)
        )

    def _usage(self, wall_s: float, known: Usage) -> Usage:
        counted = ("wall_s", "messages", "stdout_bytes", "stderr_bytes")
        if self._line is not None:
            used = self._line.used
            known = replace(
                known,
                **used.figures,
                device_wait_s=round(self._calls.waited_s, 6),
                sources={**used.sources, "device_wait_s": "host", **known.sources},
            )
        return replace(
            known,
            wall_s=round(wall_s, 6),
            messages=self._relay.messages,
            stdout_bytes=self._relay.stdout_bytes,
            stderr_bytes=self._relay.stderr_bytes,
            sources={**dict.fromkeys(counted, "host"), **known.sources},
        )
