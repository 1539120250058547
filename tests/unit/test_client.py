"""The client of a service where there is none, or another than it was told."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time

import pytest

import runner
from runner.client import connection
from runner.errors import RunnerError
from runner.service.certificates import self_signed

AT_ONCE_S = connection.FIRST_PATIENCE_S / 2


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def answering(listener, answer):
    """Answer every connection in a thread, until the listener is closed."""

    def serve():
        while True:
            try:
                channel, _ = listener.accept()
            except OSError:
                return
            with channel:
                answer(channel)

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1]


def took_s(url, said):
    started = time.monotonic()
    with pytest.raises(RunnerError, match=said):
        runner.connect(url, "token")
    return time.monotonic() - started


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "unix:/nowhere/at/all"])
def test_a_service_that_never_answered_is_not_waited_for_as_for_a_restart(monkeypatch, url):
    monkeypatch.setattr(connection, "FIRST_PATIENCE_S", 0.5)
    assert 0.5 <= took_s(url, "cannot be reached.*does `qrunner serve` run") < 5


def test_http_where_https_was_asked_for_is_said_at_once(listener):
    port = answering(listener, lambda channel: channel.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    assert took_s(f"https://127.0.0.1:{port}", "speaks no TLS that fits.*http://") < AT_ONCE_S


def test_a_certificate_that_is_not_trusted_is_said_at_once(listener, tmp_path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*self_signed(tmp_path / "tls", ""))

    def refuse(channel):
        with contextlib.suppress(OSError), context.wrap_socket(channel, server_side=True):
            pass

    port = answering(listener, refuse)
    assert took_s(f"https://127.0.0.1:{port}", "not trusted.*QRUNNER_CA") < AT_ONCE_S
