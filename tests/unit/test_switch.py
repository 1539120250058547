"""PID 1 takes its own frames out of the host's stream, in whatever pieces they come."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.processes.switch import Switch
from sandbox.wire import protocol
from sandbox.wire.protocol import Begin, Pause, Resume, Run, Stop

BEGIN = Begin(job=1, timeout_s=3.0, token="0f")
RUN = Run(job=1, entry="program.py", inputs={"text": "a\\nü\u2028" * 50}, backend={"name": "none"})
WORDS = [BEGIN, RUN, Pause(job=1, at_most_s=2.0), Resume(job=1), Stop(job=1)]
REPLY = b'{"type":"reply","job":1,"body":[]}\n'  # a kind that PID 1 does not know
STREAM = b"".join(map(protocol.encode, WORDS)) + REPLY


def sort(pieces, *, is_session):
    reader, writer = os.pipe()
    try:
        switch = Switch(writer, is_session=is_session)
        taken = [order for piece in pieces for order in switch.feed(piece)]
        assert not switch.is_full
        return taken, os.read(reader, 1 << 16)
    finally:
        os.close(reader)
        os.close(writer)


@given(st.lists(st.integers(1, 60), max_size=60), st.booleans())
def test_every_frame_goes_where_it_belongs(sizes, is_session):
    pieces, rest = [], STREAM
    for size in sizes:
        pieces.append(rest[:size])
        rest = rest[size:]
    taken, passed = sort([*pieces, rest], is_session=is_session)
    assert taken == [each for each in WORDS if each is not RUN]
    parents = [BEGIN, RUN, Stop(job=1)] if is_session else [RUN]
    assert passed == b"".join(map(protocol.encode, parents)) + REPLY


def test_a_worker_that_does_not_read_is_not_waited_for():
    reader, writer = os.pipe()
    switch = Switch(writer, is_session=False)
    line = b'{"type":"run","inputs":"' + b"x" * (1 << 20) + b'"}\n'
    sent = received = b""
    while not switch.is_full:
        piece = line[len(sent) : len(sent) + 65536]
        assert switch.feed(piece) == []
        sent += piece
    assert len(sent) < len(line)
    while received != sent:
        received += os.read(reader, 4096)
        switch.flush()
    assert switch.feed(protocol.encode(BEGIN)) == []  # still within the request
    os.close(reader)
    assert switch.feed(line[:65536]) == []  # nobody will ever read it
    assert not switch.is_full
    os.close(writer)


@pytest.mark.parametrize(
    "data",
    [b"nonsense\n", b"\n", b"x" * 40, b'{"type":"BEGIN"}\n', b'{"type":"begin",' + b" " * 4096],
)
def test_what_is_no_frame_is_refused(data):
    with pytest.raises(protocol.ProtocolError):
        sort([data], is_session=False)
