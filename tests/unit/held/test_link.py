"""Parts of the holder's protocol: whole, bounded, and never waited for without end."""

import socket
import threading

import pytest

from holder import link
from holder.link import Link, LinkError


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Link(ours), theirs


def test_parts_arrive_whole_and_in_order(ends):
    ours, theirs = ends
    other = Link(theirs)
    bodies = [b"", b"x" * 3_000_000, b"\n\n", b"{}"]
    sender = threading.Thread(
        target=lambda: [other.send({"n": n}, b) for n, b in enumerate(bodies)]
    )
    sender.start()
    assert [ours.receive(10) for _ in bodies] == [({"n": n}, b) for n, b in enumerate(bodies)]
    sender.join()
    other.close()
    assert ours.receive(10) is None


@pytest.mark.parametrize(
    "data",
    [
        b"x" * (link.MAX_HEAD_BYTES + 1),
        b"no json\n",
        b"[]\n",
        b"{}\n",
        b'{"size": -1}\n',
        b'{"size": true}\n',
        b'{"size": "9"}\n',
        b'{"size": 99999999999}\n',
        b"[" * 50_000 + b"\n",
        b"\xff\n",
    ],
)
def test_what_is_no_part_is_an_error(ends, data):
    ours, theirs = ends
    theirs.sendall(data)
    theirs.shutdown(socket.SHUT_WR)
    with pytest.raises(LinkError):
        ours.receive(10)


def test_an_end_in_the_middle_of_a_part_is_an_error(ends):
    ours, theirs = ends
    theirs.sendall(b'{"size": 5}\nabc')
    theirs.close()
    with pytest.raises(LinkError, match="middle"):
        ours.receive(10)


def test_silence_has_an_end(ends):
    with pytest.raises(LinkError, match=r"silent for 0\.05 s"):
        ends[0].receive(0.05)


def test_whoever_does_not_read_is_not_waited_for(ends, monkeypatch):
    ours, theirs = socket.socketpair()
    monkeypatch.setattr(link, "SEND_S", 0.05)
    with ours, theirs, pytest.raises(LinkError, match="cannot be sent"):
        Link(ours).send({}, bytes(10_000_000))


def test_a_part_over_the_limit_is_not_sent(ends, monkeypatch):
    monkeypatch.setattr(link, "MAX_BODY_BYTES", 10)
    with pytest.raises(LinkError, match="larger than a part may be"):
        ends[0].send({}, bytes(11))
