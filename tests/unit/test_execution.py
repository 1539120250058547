"""An execution over real sockets, with the test in the place of engine and guest."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import struct
import threading
import time
from types import SimpleNamespace

import pytest

from runner.engine.attachment import Attachment, Stream
from runner.host.interrupt import Waker
from runner.job.life import Life
from runner.job.record import MessageEvent, Outcome
from runner.job.request import Request
from runner.policy import Limits
from runner.running.execution import Execution
from runner.sandboxes.place import Container
from runner.sandboxes.spec import Carrier
from runner.sandboxes.turn import Turn
from sandbox.wire.protocol import Done, Exited, Fault, JsonText, Message, Result, encode

STDOUT, STDERR = Stream.STDOUT, Stream.STDERR
REQUEST = Request(program="p")


def framed(stream: Stream, data: bytes) -> bytes:
    return struct.pack(">BxxxL", stream, len(data)) + data


def message(body: str, job: int = 0) -> bytes:
    return encode(Message(job=job, body=JsonText(body)))


def result(messages: int, *, done: bool = True, job: int = 0) -> bytes:
    return encode(Result(job=job, messages=messages, done=done, value=JsonText("1")))


class Guest:
    """Three connected sockets: what the test writes on one end, an execution reads at the other."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self.streams, streams = map(stack.enter_context, socket.socketpair())
        self.channel, self.connection = map(stack.enter_context, socket.socketpair())
        self.connection.setblocking(False)
        response = SimpleNamespace(close=lambda: None)
        self.attachment = Attachment(streams, response)
        self.waker = Waker()
        self.waker.open()
        stack.callback(self.waker.close)

    def says(self, *pieces: tuple[Stream, bytes]) -> None:
        """Let all of it arrive in one read."""
        self.streams.sendall(b"".join(itertools.starmap(framed, pieces)))

    def sandbox(self, **parts: object) -> SimpleNamespace:
        return SimpleNamespace(
            **{
                "carrier": Carrier.SOCKET,
                "attachment": self.attachment,
                "connection": self.connection,
                "listener": None,
                "container": None,
                "cgroup": None,
                "spent_s": 0.0,
                **parts,
            }
        )


@pytest.fixture
def guest():
    with contextlib.ExitStack() as stack:
        yield Guest(stack)


def make_job() -> Life:
    return Life(
        "job-1",
        "p",
        log_kept_bytes=1000,
        decode=json.loads,
        compare=lambda *_: [],
        on_cancel=lambda: None,
    )


def run(guest: Guest, **limits: float):
    job = make_job()
    held = Limits().lowered_by({"timeout_s": 5.0, **limits})
    place = Container(None, guest.sandbox())
    return job, Execution(place, job, held, guest.waker).run(REQUEST)


def bodies(job: Life) -> list[str]:
    return [each.body for each in job.history.since() if isinstance(each, MessageEvent)]


ANSWER_S = 0.5


def test_the_time_that_the_engine_takes_to_answer_is_not_the_jobs(guest):
    def is_responsive(timeout_s):
        time.sleep(min(ANSWER_S, timeout_s))
        return True

    limits = Limits().lowered_by({"timeout_s": 0.1})
    place = Container(SimpleNamespace(is_responsive=is_responsive), guest.sandbox())
    verdict = Execution(place, make_job(), limits, guest.waker).run(REQUEST)
    assert verdict.outcome is Outcome.TIME_LIMIT
    assert 0.1 <= verdict.evidence.observed < verdict.usage.wall_s - ANSWER_S / 2


BEHIND = {
    "a second result": (STDOUT, result(0)),
    "bytes that are no frame": (STDOUT, b"nonsense\n"),
    "a frame of another job": (STDOUT, encode(Exited(job=7, status=0))),
    "too much of a log": (STDERR, b"x" * 2000),
}


@pytest.mark.parametrize("behind", BEHIND.values(), ids=BEHIND)
@pytest.mark.parametrize("done", [True, False])
def test_what_a_result_announced_is_read_whatever_comes_behind_it(guest, behind, done):
    guest.channel.sendall(message("1") + message("2"))
    guest.says((STDOUT, result(2, done=done)), behind)
    job, verdict = run(guest, log_bytes=1000)
    assert bodies(job) == ["1", "2"]
    assert verdict.outcome is Outcome.COMPLETED
    assert verdict.usage.messages == 2
    # What ended the job is in the evidence, and nothing is said to be missing.
    assert verdict.evidence.source
    assert "announced" not in (verdict.evidence.detail or "")


ENDS = {
    "result": result(3),
    "published result": result(3, done=False) + encode(Exited(job=0, status=-9)),
    "result before fewer": result(3, done=False) + encode(Done(job=0, messages=1)),
    "done": result(0, done=False) + encode(Done(job=0, messages=3)),
    "result and a violation": result(3) + b"nonsense\n",
    "fault": encode(Fault(job=0, messages=3, kind="program_error", error="x")),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_fewer_messages_than_announced_stand_in_the_evidence(guest, end):
    guest.channel.sendall(message("1"))
    guest.channel.shutdown(socket.SHUT_WR)
    guest.says((STDOUT, end))
    job, verdict = run(guest)
    assert bodies(job) == ["1"]
    is_fault = b'"fault"' in end
    assert verdict.outcome is (Outcome.PROGRAM_ERROR if is_fault else Outcome.COMPLETED)
    assert "3 messages were announced, and 1 have arrived" in verdict.evidence.detail
    assert verdict.evidence.source


def test_messages_that_are_no_frames_leave_the_evidence_at_that(guest):
    guest.channel.sendall(message("1") + b"nonsense\n" + message("2"))
    guest.says((STDOUT, result(2)))
    job, verdict = run(guest)
    assert bodies(job) == ["1"]
    assert verdict.outcome is Outcome.COMPLETED
    assert verdict.evidence.detail.startswith("not JSON")
    assert "2 messages were announced, and 1 have arrived" in verdict.evidence.detail


@pytest.mark.parametrize("behind", [result(0, job=1), b"nonsense\n"])
def test_in_a_session_they_are_read_from_a_connection_that_was_not_accepted_yet(guest, behind):
    guest.channel.sendall(message("1", job=1) + message("2", job=1))
    guest.says((STDOUT, result(2, job=1) + behind))
    listener = guest.streams  # anything that a selector takes and where nothing arrives
    sandbox = guest.sandbox(connection=None, listener=listener, refuse_waiting=lambda: None)

    def accept_next() -> bool:
        sandbox.connection = guest.connection
        return True

    sandbox.accept_next = accept_next
    job, limits = make_job(), Limits().lowered_by({"timeout_s": 5.0})
    execution = Execution(Turn(None, sandbox, 1), job, limits, guest.waker)
    verdict = execution.run(REQUEST)
    assert bodies(job) == ["1", "2"]
    assert verdict.outcome is Outcome.COMPLETED
    assert not execution.is_clean


def test_a_log_that_comes_byte_by_byte_is_read_in_few_reads_and_whole(guest):

    reads = []
    receive = guest.attachment.receive

    def counted():
        reads.append(time.monotonic())
        return receive()

    guest.attachment.receive = counted

    def dribble():
        for _ in range(2000):
            guest.says((STDERR, b"x"))
            time.sleep(0.0002)
        guest.says((STDOUT, result(0)))

    writer = threading.Thread(target=dribble)
    writer.start()
    began = time.monotonic()
    _, verdict = run(guest, timeout_s=30.0)
    took = time.monotonic() - began
    writer.join()
    assert verdict.outcome is Outcome.COMPLETED
    assert verdict.usage.stderr_bytes == 2000
    # 64 at once, one each 5 ms, and those of the end.
    assert len(reads) <= 64 + took / 0.005 + 4


def test_a_job_is_cancelled_at_once_while_its_streams_rest(guest):
    job = make_job()
    for _ in range(200):
        guest.says((STDERR, b"x"))
    job.cancel()
    execution = Execution(Container(None, guest.sandbox()), job, Limits(), guest.waker)
    for _ in range(10_000):
        execution._reads.note(1)
    assert execution._reads.rest_s() > 10
    assert execution.run(REQUEST).outcome is Outcome.CANCELLED
