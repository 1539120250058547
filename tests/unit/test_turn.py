"""One job's turn in a session: what belongs to it ends where only the parent can say so."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.policy import Limits
from runner.running.relay import LimitReachedError
from runner.running.turn import TurnRelay
from sandbox.wire.protocol import (
    Begin,
    Cleared,
    Exited,
    JsonText,
    Message,
    ProtocolError,
    Ready,
    Result,
    encode,
)

TOKEN = "0123456789abcdef" * 2
NUMBER = 7


class Recorded:
    """Stands for a task and for its job: what a relay gives to it is kept."""

    def __init__(self, **limits):
        self.limits = Limits().lowered_by(limits)
        self.job = self
        self.bodies = []
        self.log = b""

    def add_message(self, body):
        self.bodies.append(body)

    def add_log(self, data):
        self.log += data


def make(*, stdio=False, **limits):
    task = Recorded(**limits)
    order = Begin(job=NUMBER, timeout_s=1.0, token=TOKEN)
    return task, TurnRelay(task, order, stdio=stdio)


def message(body, job=NUMBER):
    return encode(Message(job=job, body=JsonText(body)))


def result(value="1", job=NUMBER, messages=0):
    return encode(Result(job=job, messages=messages, done=True, value=JsonText(value)))


def cleared(token=TOKEN, job=NUMBER):
    return encode(Cleared(token=token, job=job, status=0, cpu_us=5, memory_peak_bytes=6))


LOG_END = f"\x1e{TOKEN}\n".encode()


def feed(relay, stream, data, sizes):
    for size in sizes:
        getattr(relay, stream)(data[:size])
        data = data[size:]
    getattr(relay, stream)(data)


@given(st.lists(st.integers(1, 40), max_size=40))
def test_the_pieces_in_which_bytes_arrive_make_no_difference(sizes):
    task, relay = make(stdio=True)
    feed(relay, "feed_stdout", message("1") + result(messages=1) + cleared(), sizes)
    feed(relay, "feed_stderr", b"the log\x1e0123" + LOG_END, sizes)
    assert task.bodies == ["1"]
    assert relay.result.value == "1"
    assert relay.cleared.cpu_us == 5
    assert relay.log_ended
    assert task.log == b"the log\x1e0123"


@given(st.binary(max_size=300), st.integers(0, 300), st.booleans())
def test_any_bytes_on_any_stream_are_events_or_a_violation(data, cut, mute):
    for stream in ("feed_socket", "feed_stdout", "feed_stderr"):
        _, relay = make()
        for piece in (data[:cut], cleared()[:cut], LOG_END[:cut], data[cut:]):
            try:
                getattr(relay, stream)(piece)
            except (ProtocolError, LimitReachedError):
                break
            if mute:
                relay.mute()


def test_a_result_is_there_as_soon_as_its_line_is():
    _, relay = make()
    relay.feed_stdout(result())
    assert relay.is_complete
    assert relay.cleared is None


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
    _, relay = make()
    with pytest.raises(ProtocolError):
        relay.feed_stdout(data)


def test_a_job_that_is_muted_gets_nothing_more_but_its_end_is_found():
    task, relay = make(log_bytes=10)
    relay.feed_stderr(b"begun")
    relay.mute()
    relay.feed_stderr(b"x" * 100 + LOG_END)
    relay.feed_socket(message("1") + b"garbage\n")
    relay.feed_stdout(b"half a fra" + cleared())
    relay.end_of_socket()
    assert relay.cleared is not None
    assert relay.log_ended
    assert (task.bodies, task.log) == ([], b"begun")


def test_what_follows_the_end_of_the_log_belongs_to_nobody_else():
    task, relay = make()
    relay.feed_stderr(b"mine" + LOG_END)
    assert task.log == b"mine"
    other, later = make()
    later.feed_stderr(b"yours" + f"\x1e{'f' * 32}\n".encode())
    assert not later.log_ended
    assert other.log.startswith(b"yours")
