"""One job's turn in a session: what belongs to it ends where only the parent can say so."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.policy import Limits
from runner.running.relay import LimitReachedError, Relay
from runner.sandboxes.turn import Report
from sandbox.wire.protocol import (
    Cleared,
    Exited,
    JsonText,
    Message,
    Next,
    ProtocolError,
    Ready,
    Result,
    encode,
)

TOKEN = "0123456789abcdef" * 2
NUMBER = 7


class Recorded:
    """Stands for a job: what a relay gives to it is kept."""

    def __init__(self):
        self.bodies = []
        self.log = b""

    def add_message(self, body):
        self.bodies.append(body)

    def add_log(self, data):
        self.log += data


class Turn:
    """A relay behind a report, as an execution has them in a session's sandbox."""

    def __init__(self, job, *, stdio, **limits):
        order = Next(job=NUMBER, wall_s=1.0, token=TOKEN)
        self.report = Report(order)
        self.relay = Relay(
            job,
            Limits().lowered_by(limits),
            stdio=stdio,
            log_end=order.log_end,
            number=NUMBER,
        )
        self.feed_socket, self.feed_stderr = self.relay.feed_socket, self.relay.feed_stderr

    def feed_stdout(self, data):
        was_cleared = self.report.cleared is not None
        own = self.report.feed(data)
        self.relay.feed_stdout(own)
        if self.report.cleared and not was_cleared:
            self.relay.end_of_stdout()


def make(*, stdio=False, **limits):
    job = Recorded()
    return job, Turn(job, stdio=stdio, **limits)


def message(body, job=NUMBER):
    return encode(Message(job=job, body=JsonText(body)))


def result(value="1", job=NUMBER, messages=0):
    return encode(Result(job=job, messages=messages, done=True, value=JsonText(value)))


def cleared(token=TOKEN, job=NUMBER):
    return encode(Cleared(token=token, job=job, status=0, cpu_us=5, memory_peak_bytes=6))


LOG_END = f"\x1e{TOKEN}\n".encode()


def feed(turn, stream, data, sizes):
    for size in sizes:
        getattr(turn, stream)(data[:size])
        data = data[size:]
    getattr(turn, stream)(data)


@given(st.lists(st.integers(1, 40), max_size=40))
def test_the_pieces_in_which_bytes_arrive_make_no_difference(sizes):
    job, turn = make(stdio=True)
    feed(turn, "feed_stdout", message("1") + result(messages=1) + cleared(), sizes)
    feed(turn, "feed_stderr", b"the log\x1e0123" + LOG_END, sizes)
    assert job.bodies == ["1"]
    assert turn.relay.result.value == "1"
    assert turn.report.cleared.cpu_us == 5
    assert turn.relay.log_ended
    assert job.log == b"the log\x1e0123"


@given(st.binary(max_size=300), st.integers(0, 300), st.booleans())
def test_any_bytes_on_any_stream_are_events_or_a_violation(data, cut, mute):
    for stream in ("feed_socket", "feed_stdout", "feed_stderr"):
        _, turn = make()
        for piece in (data[:cut], cleared()[:cut], LOG_END[:cut], data[cut:]):
            try:
                getattr(turn, stream)(piece)
            except (ProtocolError, LimitReachedError):
                break
            if mute:
                turn.relay.mute()


def test_a_result_is_there_as_soon_as_its_line_is():
    _, turn = make()
    turn.feed_stdout(result())
    assert turn.relay.is_complete
    assert turn.report.cleared is None


@pytest.mark.parametrize(
    "data",
    [
        cleared(token="f" * 32),
        cleared(job=NUMBER + 1),
        result(job=NUMBER + 1),
        encode(Exited(job=0, status=0)),
        encode(Ready(protocol=1, build="x")),
        result()[:-9] + cleared(),
        b"\n" + cleared(),
        cleared() + b"\n",
        cleared() + cleared(),
        cleared() + result(),
        cleared()[:-3] + b"x" * 2000,
        cleared()[:-3] + b"\n",
    ],
)
def test_nothing_but_the_report_of_this_job_ends_its_frames(data):
    _, turn = make()
    with pytest.raises(ProtocolError):
        turn.feed_stdout(data)


def test_a_job_that_is_muted_gets_nothing_more_but_its_end_is_found():
    job, turn = make(log_bytes=10)
    turn.feed_stderr(b"begun")
    turn.relay.mute()
    turn.feed_stderr(b"x" * 100 + LOG_END)
    turn.feed_socket(message("1") + b"garbage\n")
    turn.feed_stdout(b"half a fra" + cleared())
    turn.relay.end_of_socket()
    assert turn.report.cleared is not None
    assert turn.relay.log_ended
    assert (job.bodies, job.log) == ([], b"begun")


def test_what_follows_the_end_of_the_log_belongs_to_nobody_else():
    job, turn = make()
    turn.feed_stderr(b"mine" + LOG_END)
    assert job.log == b"mine"
    other, later = make()
    later.feed_stderr(b"yours" + f"\x1e{'f' * 32}\n".encode())
    assert not later.relay.log_ended
    assert other.log.startswith(b"yours")
