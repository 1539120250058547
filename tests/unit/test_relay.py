"""The relay: whatever arrives, in whatever pieces, becomes events or a verdict."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runner.job.life import Life
from runner.job.record import JobRecord, LogEvent, MessageEvent, Outcome
from runner.policy import Limits
from runner.running.relay import LimitReachedError, Relay
from sandbox.wire import protocol
from sandbox.wire.protocol import (
    Done,
    Exited,
    Fault,
    File,
    JsonText,
    Message,
    ProtocolError,
    Ready,
    Result,
    encode,
)


def make_job() -> Life:
    return Life(
        "job-1",
        "p",
        log_kept_bytes=1000,
        decode=json.loads,
        compare=lambda *_: [],
        on_cancel=lambda: None,
    )


def make_relay(*, stdio: bool = False, **limits: float) -> tuple[Life, Relay]:
    job = make_job()
    return job, Relay(job, Limits().lowered_by(limits), stdio=stdio)


def message(body: str, job: int = 0) -> bytes:
    return encode(Message(job=job, body=JsonText(body)))


def result(value: str, *, job: int = 0, messages: int = 0, done: bool = True) -> bytes:
    return encode(Result(job=job, messages=messages, done=done, value=JsonText(value)))


def bodies(job: Life) -> list[str]:
    return [each.body for each in job.history.since() if isinstance(each, MessageEvent)]


def test_messages_get_numbers_from_the_host_in_the_order_they_arrive():
    job, relay = make_relay()
    relay.feed_socket(message("1") + message('"two"'))
    events = [each for each in job.history.since() if isinstance(each, MessageEvent)]
    assert [(each.seq, each.body) for each in events] == [(0, "1"), (1, '"two"')]
    assert events[0].time <= events[1].time


@given(st.lists(st.integers(1, 7), max_size=60))
def test_the_pieces_in_which_bytes_arrive_make_no_difference(sizes: list[int]):
    job, relay = make_relay()
    data = message('{"a": [1, 2]}') + message('"é"') + message("[]")
    for size in sizes:
        relay.feed_socket(data[:size])
        data = data[size:]
    relay.feed_socket(data)
    assert bodies(job) == ['{"a": [1, 2]}', '"é"', "[]"]


PIECES = (
    *(
        b"\n",
        b"\xff",
        b"{",
        b"}",
        b"[",
        b'"',
        b"\\",
        b",",
        b":",
        b"0",
        b"NaN",
        b"null",
        b"1" * 5000,
    ),
    *(encode(Done(job=0, messages=0)), encode(Exited(job=0, status=0)), message("1"), result("2")),
    *(b'{"type":"message","job":0,"body":', b'{"type":"done","job":0,"messages":', b"[" * 300),
)


@given(st.binary(max_size=300) | st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join))
@example(b"\xff\n")
@example(b'{"type":"message","job":0,"body":"\xff"}\n')
def test_any_bytes_on_any_stream_are_events_or_a_violation(data: bytes):
    for stream in ("feed_socket", "feed_stdout", "feed_stderr"):
        _, relay = make_relay()
        try:
            getattr(relay, stream)(data)
        except (ProtocolError, LimitReachedError):
            continue


def test_the_job_is_complete_only_when_every_announced_message_is_there():
    _, relay = make_relay()
    relay.feed_stdout(result("1", messages=2))
    assert not relay.is_complete
    relay.feed_socket(message("1"))
    assert not relay.is_complete
    relay.feed_socket(message("2"))
    assert relay.is_complete


def test_a_published_final_result_does_not_end_the_job():
    _, relay = make_relay()
    relay.feed_stdout(result("1", done=False))
    assert relay.result is not None
    assert not relay.is_complete
    relay.feed_stdout(encode(Done(job=0, messages=0)))
    assert relay.is_complete


@pytest.mark.parametrize(
    "data",
    [
        encode(Ready(protocol=1, build="x")),
        message("1"),
        encode(Done(job=0, messages=0)),
        encode(Done(job=1, messages=0)),
        encode(Fault(job=0, messages=0, kind="time_limit", error="x")),
        encode(Fault(job=0, messages=0, kind="cancelled", error="x")),
        result("1") + result("2"),
        result("1", done=False) + result("2"),
        result("1") + encode(Done(job=0, messages=0)),
        result("1", job=1),
        result("1", done=False) + encode(Done(job=1, messages=0)),
        encode(Fault(job=1, messages=0, kind="program_error", error="x")),
        encode(Exited(job=1, status=0)),
        b"hello\n",
        b'{"type":"result","job":0,"messages":0,"done":true,"value":NaN}\n',
    ],
)
def test_frames_that_do_not_belong_on_the_result_stream_are_violations(data: bytes):
    _, relay = make_relay()
    with pytest.raises(ProtocolError):
        relay.feed_stdout(data)


@pytest.mark.parametrize(
    "data", [result("1"), encode(Exited(job=0, status=0)), message("1", job=3), b"\xff\n"]
)
def test_only_messages_of_this_job_belong_on_the_channel(data: bytes):
    _, relay = make_relay()
    with pytest.raises(ProtocolError):
        relay.feed_socket(data)


def test_with_the_stdio_carrier_messages_belong_on_the_result_stream():
    job, relay = make_relay(stdio=True)
    relay.feed_stdout(message("1") + result("2", messages=1))
    assert bodies(job) == ["1"]
    assert relay.is_complete


def test_half_a_frame_at_the_end_of_the_channel_is_a_violation():
    _, relay = make_relay()
    relay.feed_socket(message("1")[:-5])
    with pytest.raises(ProtocolError, match="middle of a frame"):
        relay.end_of_socket()


@pytest.mark.parametrize(
    ("limits", "data", "limit", "observed"),
    [
        ({"messages": 2}, message("1") * 3, "messages", 3),
        ({"messages_bytes": 10}, message('"1234"') * 2, "messages_bytes", 12),
        ({"message_bytes": 10}, message('"' + "x" * 20 + '"'), "message_bytes", 22),
        ({"message_bytes": 10}, message('"' + "é" * 10 + '"'), "message_bytes", 22),
    ],
)
def test_message_limits_are_reached_with_numbers(limits, data, limit, observed):
    _, relay = make_relay(**limits)
    with pytest.raises(LimitReachedError) as caught:
        relay.feed_socket(data)
    evidence = caught.value.evidence
    assert caught.value.outcome is Outcome.MESSAGE_LIMIT
    assert (evidence.limit, evidence.value, evidence.observed) == (limit, limits[limit], observed)
    assert evidence.source == "host"


def test_a_result_over_its_limit_is_an_outcome_with_numbers():
    _, relay = make_relay(result_bytes=5)
    with pytest.raises(LimitReachedError) as caught:
        relay.feed_stdout(result('"123456"'))
    assert caught.value.outcome is Outcome.RESULT_LIMIT
    assert caught.value.evidence.observed == 8


def test_an_endless_line_is_refused_before_it_fills_the_memory():
    _, relay = make_relay(message_bytes=1000)
    with pytest.raises(ProtocolError, match="a line of more than"):
        for _ in range(100):
            relay.feed_socket(b"x" * 100)


def test_output_is_limited_and_only_its_ends_are_kept():
    job, relay = make_relay(log_bytes=100_000)
    with pytest.raises(LimitReachedError) as caught:
        for number in range(100_000):
            relay.feed_stderr(b"%06d\n" % number)
    assert caught.value.outcome is Outcome.OUTPUT_LIMIT
    assert relay.stderr_bytes == 100_002
    assert sum(len(each.text) for each in job.history.since() if isinstance(each, LogEvent)) <= 500
    job.finish(JobRecord(job="job-1", program="p", outcome=Outcome.OUTPUT_LIMIT))
    assert len(job.history.logs()) <= 1000 + len("\n[… 99000 bytes of output dropped …]\n")


@given(
    st.binary(max_size=60),
    st.lists(st.integers(0, 90), max_size=8),
    st.booleans(),
)
def test_the_mark_behind_the_log_is_taken_out_wherever_it_is_cut(said, cuts, is_marked):
    mark = "\x1e0123456789abcdef\n"
    job = make_job()
    relay = Relay(job, Limits(), stdio=False, log_end=mark)
    data = said + (mark.encode() if is_marked else b"\x1e0123")
    edges = sorted({0, len(data), *(each for each in cuts if each < len(data))})
    for start, end in itertools.pairwise(edges):
        relay.feed_stderr(data[start:end])
    assert relay.log_ended == is_marked
    relay.end_of_log()
    kept = said if is_marked else data
    assert relay.stderr_bytes == len(kept)


# --- files ----------------------------------------------------------------------------------------


def a_file(name="a.csv", content="MSwyCg==", job=0):
    return encode(File(job=job, name=name, content=content))


def test_files_before_the_end_are_kept_with_their_content():
    job, relay = make_relay()
    relay.feed_stdout(a_file() + a_file("deep/b", "") + result("1"))
    assert job.history.files() == {"a.csv": b"1,2\n", "deep/b": b""}
    assert relay.is_complete


@pytest.mark.parametrize(
    "frames",
    [
        result("1") + a_file(),
        a_file(job=5),
        a_file(content="no base64!"),
        *(a_file(name) for name in ("", "/etc/x", "../x", "a/../b", "a//b", ".", "a\nb", "a\\b")),
        a_file("x" * (protocol.MAX_FILE_NAME + 1)),
        a_file() * (protocol.MAX_FILES + 1),
    ],
)
def test_a_file_that_is_none_of_ours_violates_the_protocol(frames):
    _, relay = make_relay()
    with pytest.raises(ProtocolError):
        relay.feed_stdout(frames)


def test_the_host_bounds_files_itself(monkeypatch):
    monkeypatch.setattr("runner.running.relay.MAX_FILE_BYTES", 4)
    monkeypatch.setattr("runner.running.relay.MAX_FILES_BYTES", 6)
    job, relay = make_relay()
    relay.feed_stdout(a_file())
    with pytest.raises(ProtocolError, match="one too many"):
        relay.feed_stdout(a_file("b"))
    with pytest.raises(ProtocolError, match="malformed"):
        make_relay()[1].feed_stdout(a_file(content="MTIzNDU="))
    assert job.history.files() == {"a.csv": b"1,2\n"}


def test_a_file_on_the_channel_of_messages_violates_the_protocol():
    _, relay = make_relay()
    with pytest.raises(ProtocolError, match="file frame on the message channel"):
        relay.feed_socket(a_file())
