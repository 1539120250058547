"""The process of a service: its sockets, when it is ready, and how it ends in order."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import ipaddress
import logging
import os
import resource
import signal
import socket
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import uvicorn
from anyio.to_thread import current_default_thread_limiter
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from runner.errors import RequestError, RunnerError
from runner.service.app import application
from runner.service.certificates import self_signed
from runner.service.desk import THREADS, Desk
from runner.service.pages.rendering import SIGN_IN
from runner.service.pages.signing import ONCE

log = logging.getLogger(__name__)

DEFAULT_ADDRESS: Final = "127.0.0.1:8765"
_HEAD_BYTES: Final = 64 << 10
_KEEP_ALIVE_S: Final = 75
_FRAME_BYTES: Final = 64 << 10
"""Clients send nothing of any size over a WebSocket."""

_CLOSING_S: Final = 5
_PING_S: Final = 30.0
_PONG_S: Final = 120.0
"""A client that decodes a large frame answers late."""

_FORWARDED: Final = b"x-forwarded-for"
_BACKLOG: Final = 1024
_FILES_OF_JOBS: Final = 4000
_SILENT_MS: Final = 300_000
_USER_TIMEOUT: Final[int | None] = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux only
_START_TICK_S: Final = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """Where a service listens: on a TCP address, a Unix socket, or both.

    `beside` is a further socket, beside the store, where the commands here find the service.
    With `certificate` and `key` it speaks TLS on the address; `self_signed` is the directory where
    it makes its own.  `is_behind_proxy` says that a proxy on the way speaks TLS.
    """

    address: str | None = None
    path: Path | None = None
    beside: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    self_signed: Path | None = None
    is_behind_proxy: bool = False

    @property
    def host(self) -> str:
        """The host of the address, without brackets."""
        return self._parts()[0]

    @property
    def has_tls(self) -> bool:
        """Return True if it speaks TLS itself."""
        return self.certificate is not None or self.self_signed is not None

    def _parts(self) -> tuple[str, int]:
        host, _, port = (self.address or "").rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not host or not port.isdecimal() or int(port) > 0xFFFF:
            msg = f"--listen {self.address!r:.80}: write it as HOST:PORT, such as {DEFAULT_ADDRESS}"
            raise RequestError(msg)
        return host, int(port)

    def check(self) -> None:
        """Raise RequestError for what is not safe: anything but loopback in plain text."""
        if (self.certificate is None) != (self.key is None):
            msg = "--tls-cert and --tls-key belong together: give both"
            raise RequestError(msg)
        if self.certificate is not None and self.self_signed is not None:
            msg = "--tls-cert and --tls-self-signed are both given: choose one"
            raise RequestError(msg)
        if self.address is None or self.has_tls or self.is_behind_proxy:
            return
        if not is_loopback(self.host):
            msg = (
                f"--listen {self.address}: tokens would travel in plain text; off loopback give "
                "--tls-cert and --tls-key, --tls-self-signed DIR, or, where a proxy in front "
                "speaks TLS, --behind-proxy"
            )
            raise RequestError(msg)

    def tcp(self, most: int) -> BoundedListener:
        """Return the listening TCP socket, for so many connections.  Raises RequestError."""
        host, port = self._parts()
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            family, kind, protocol, _, address = found[0]
            listener = BoundedListener(family, kind, protocol, most=most)
        except OSError as error:
            msg = f"--listen {self.address}: {error.strerror or error}"
            raise RequestError(msg) from error
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            msg = f"--listen {self.address}: cannot listen there: {error.strerror}"
            raise RequestError(msg) from error
        return listener


class BoundedListener(socket.socket):
    """A listening socket that hangs up on the next connection when `most` are open.

    It counts them from the moment they are accepted: before the event loop tells of a connection,
    it waits for its client to agree on TLS.
    """

    def __init__(self, *arguments: Any, most: int) -> None:
        super().__init__(*arguments)
        self._most = most
        self._open = 0

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection.  Raises ConnectionAbortedError for one too many."""
        accepted, address = super().accept()
        if self._open >= self._most:
            accepted.close()
            msg = "there are as many connections as there may be"
            raise ConnectionAbortedError(msg)
        self._open += 1
        return _Accepted(accepted, self._forget), address

    def _forget(self) -> None:
        self._open -= 1


class _Accepted(socket.socket):
    """A connection whose listener is told of its end."""

    def __init__(self, accepted: socket.socket, on_close: Callable[[], object]) -> None:
        family, kind, protocol = accepted.family, accepted.type, accepted.proto
        super().__init__(family, kind, protocol, fileno=accepted.detach())
        self._on_close = on_close

    def close(self) -> None:
        """Close it."""
        if self.fileno() >= 0:
            self._on_close()
        super().close()


@contextlib.contextmanager
def unix_socket(path: Path, most: int) -> Iterator[BoundedListener]:
    """Provide a listening Unix socket that only this user may open; remove it afterwards.

    Raises RequestError if another service listens there, or something else is there.
    """
    listener = BoundedListener(socket.AF_UNIX, socket.SOCK_STREAM, most=most)
    with contextlib.closing(listener):
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _remove_dead(path)
            before = os.umask(0o177)
            try:
                listener.bind(str(path))
            finally:
                os.umask(before)
            listener.listen(_BACKLOG)
            inode = path.stat().st_ino
        except OSError as error:
            msg = f"--socket {path}: cannot listen there: {error.strerror or error}"
            raise RequestError(msg) from error
        try:
            yield listener
        finally:
            with contextlib.suppress(OSError):
                if path.stat().st_ino == inode:  # not that of a service which came after us
                    path.unlink()


def _remove_dead(path: Path) -> None:
    """Remove the socket of a service that is gone."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise OSError(errno.EEXIST, "there is a file of this name")
    except FileNotFoundError:
        return
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise OSError(errno.EADDRINUSE, "another service listens there")


def is_loopback(host: str) -> bool:
    """Return True if only this machine can reach a host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class PatientProtocol(H11Protocol):
    """HTTP/1.1 with a bound on each wait for a client."""

    head_s = 30.0

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first head."""
        super().connection_made(transport)
        _give_up_silent_peers(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Stop waiting when a head is complete; begin again with the first byte of the next."""
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._stop_waiting()
        elif self._late is None and getattr(before, "response_complete", True):
            self._wait_for_head()

    def handle_websocket_upgrade(self, event: Any) -> None:
        """Leave the connection to the WebSocket protocol."""
        self._stop_waiting()
        super().handle_websocket_upgrade(event)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait_for_head(self) -> None:
        self._late = self.loop.call_later(self.head_s, self._give_up)

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _give_up(self) -> None:
        self._late = None
        if not self.transport.is_closing():
            self.transport.abort()


def _give_up_silent_peers(transport: asyncio.Transport) -> None:
    """Have the kernel end a connection whose peer has taken nothing for long.

    That is a lost client, or one that does not read: its answer would wait for ever.
    """
    channel = transport.get_extra_info("socket")
    if channel is not None and channel.family != socket.AF_UNIX and _USER_TIMEOUT is not None:
        channel.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, _SILENT_MS)


class PatientSocket(WebSocketsSansIOProtocol):
    """A WebSocket that answers no ping while its client does not read: answers take memory."""

    def handle_ping(self) -> None:
        """Answer a ping."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()


class _Server(uvicorn.Server):
    """A server whose end is decided here, and not by its own handling of signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run(desk: Desk, listening: Listening, say: Callable[[str], object]) -> None:
    """Serve until SIGTERM or SIGINT, then end in order; a second signal ends at once.

    Raises RequestError if it cannot listen.
    """
    listening.check()
    most = _allow_files(desk.rules.connections)
    with contextlib.ExitStack() as opened:
        servers: list[tuple[_Server, socket.socket]] = []
        where = f"unix:{listening.path}"
        app = application(desk)
        if listening.address is not None:
            listener = opened.enter_context(contextlib.closing(listening.tcp(most)))
            servers.append((_Server(_config(app, desk, listening)), listener))
            host, port = listener.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            scheme = "https" if listening.has_tls else "http"
            where = f"{scheme}://{shown}:{port}"
            if desk.is_single_user:
                desk.link.announce_to(functools.partial(_say_link, say, where))
        for path in filter(None, (listening.path, listening.beside)):
            try:
                listener = opened.enter_context(unix_socket(path, most))
            except RequestError as error:
                if path == listening.path:
                    raise
                log.warning("commands here do not use this service: %s", error)
            else:
                local = Listening(path=path)
                servers.append((_Server(_config(_from_unix(app), desk, local)), listener))
        asyncio.run(_serve(desk, servers, functools.partial(say, f"serving at {where}")))


def _say_link(say: Callable[[str], object], where: str, secret: str) -> None:
    say(f"open {where}{SIGN_IN}?{ONCE}={secret} in a browser: this link works once")


def _allow_files(connections: int) -> int:
    """Raise this process's own limit on open files to what connections and jobs may need.

    Return how many connections there may be, so that jobs have theirs.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _FILES_OF_JOBS
    if soft >= wanted or soft == resource.RLIM_INFINITY:
        return connections
    files = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    most = min(connections, max(files - _FILES_OF_JOBS, files // 2))
    if most < connections:
        log.warning(
            "only %s files may be open, so there are %s connections at most: raise `ulimit -n` to "
            "%s, or lower `connections`",
            *(files, most, wanted),
        )
    return most


def _config(app: ASGIApp, desk: Desk, listening: Listening) -> uvicorn.Config:
    if listening.is_behind_proxy:
        app = _from_proxy(app)
    protocol = type("Protocol", (PatientProtocol,), {"head_s": desk.rules.request_s})
    certificate, key = listening.certificate, listening.key
    if listening.self_signed is not None:
        certificate, key = self_signed(listening.self_signed, listening.host)
    config = uvicorn.Config(
        app,
        http=protocol,
        ws=PatientSocket,
        ws_max_size=_FRAME_BYTES,
        ws_ping_interval=_PING_S,
        ws_ping_timeout=_PONG_S,
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # `_from_proxy` reads them
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_CLOSING_S,
        h11_max_incomplete_event_size=_HEAD_BYTES,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    try:
        config.load()
    except OSError as error:  # an SSLError, too
        msg = f"the certificate {certificate} with the key {key} cannot be used: {error}"
        raise RequestError(msg) from error
    return config


def _from_proxy(app: ASGIApp) -> ASGIApp:
    """Believe what a proxy says of its clients: their addresses, and if they speak TLS.

    Most proxies add the address that they see to those that the client has sent; only that last one
    is no invention.
    """
    believing: Any = ProxyHeadersMiddleware(cast("Any", app), "*")  # its types are its own

    async def believed(scope: Scope, receive: Receive, send: Send) -> None:
        said = b",".join(value for name, value in scope["headers"] if name == _FORWARDED)
        others = [each for each in scope["headers"] if each[0] != _FORWARDED]
        headers = [*others, (_FORWARDED, said.rpartition(b",")[2])]
        await believing({**scope, "headers": headers}, receive, send)

    return believed


def _from_unix(app: ASGIApp) -> ASGIApp:
    async def marked(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "qrunner.unix": True}, receive, send)

    return marked


async def _serve(
    desk: Desk, servers: list[tuple[_Server, socket.socket]], ready: Callable[[], object]
) -> None:
    loop, signals = asyncio.get_running_loop(), asyncio.Queue[int]()
    current_default_thread_limiter().total_tokens = THREADS
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, signals.put_nowait, int(each))
    running = [
        asyncio.ensure_future(server.serve(sockets=[listener])) for server, listener in servers
    ]
    try:
        while not all(server.started for server, _ in servers):
            if any(each.done() for each in running):
                msg = "the server has not started"
                raise RunnerError(msg)
            await asyncio.sleep(_START_TICK_S)
        ready()
        notify("READY=1")
        await signals.get()
        notify("STOPPING=1")
        await _drain(desk, signals)
    finally:
        desk.streams.end()
        for server, _ in servers:
            server.should_exit = True
        await asyncio.gather(*running, return_exceptions=True)


async def _drain(desk: Desk, signals: asyncio.Queue[int]) -> None:
    """Let running jobs end, for as long as the rules say and no second signal comes.

    Requests are answered meanwhile, so that clients can fetch what ends now.
    """
    draining = asyncio.ensure_future(asyncio.to_thread(desk.jobs.drain, desk.rules.grace_s))
    again = asyncio.ensure_future(signals.get())
    await asyncio.wait({draining, again}, return_when=asyncio.FIRST_COMPLETED)
    if not draining.done():
        desk.jobs.stop_draining()
    again.cancel()
    if not await draining:
        log.warning("some jobs have not ended in time, and are cancelled")


def notify(state: str) -> None:
    """Tell systemd, if it has started this process."""
    name = os.environ.get("NOTIFY_SOCKET", "")
    if not name.startswith(("/", "@")):
        return
    address = f"\0{name[1:]}" if name.startswith("@") else name
    with (
        contextlib.suppress(OSError),
        contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as channel,
    ):
        channel.sendto(state.encode(), address)
