"""One connection to a service: requests with a token, over TCP or a Unix socket.

What the service refuses becomes our own exception with its words.  A request is repeated only where
that is harmless: nothing was changed, or the service knows the request by its key.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import time
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from runner.errors import (
    InputsError,
    RequestError,
    RunnerError,
    UnknownJobError,
    UnknownProgramError,
)

CONNECT_S: Final = 10.0
ANSWER_S: Final = 600.0
"""How long an answer may take: an upload may have to wait for the base image."""

SILENCE_S: Final = 60.0
"""After how long without a sign of life a stream is given up; the service sends one every 15 s."""

PATIENCE_S: Final = 60.0
"""How long a service may be away before that is an error: as long as its restart may take."""

FIRST_PATIENCE_S: Final = 5.0
"""The same for one that has never answered: its address may be wrong."""

_CONNECTIONS: Final = 64
"""Kept open at most; jobs that are followed at the same time have one each."""

_PROBE_S: Final = 2.0
_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 2.0
_UNIX: Final = "unix:"
_AWAY: Final = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE})


class Connection:
    """The requests to one service; its methods may be called from any thread.

    Arguments:
        url: `https://HOST:PORT`, `http://HOST:PORT` or `unix:PATH`.
        token: the user's token, None for a service that asks for none.
        ca: a file with the authority to trust, None for the usual ones.
    """

    def __init__(self, url: str, token: str | None, ca: str | os.PathLike[str] | None) -> None:
        self.url = url.rstrip("/")
        self._token = token
        self._has_answered = False
        self._session = requests.Session()
        self._session.trust_env = not _is_here(self.url)  # no proxy leads to this machine
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=_CONNECTIONS))
        if self.url.startswith(_UNIX):
            path = self.url.removeprefix(_UNIX)
            self._base = "http://localhost"
            self._session.mount("http://", _UnixAdapter(path))
        elif urlsplit(self.url).scheme in {"http", "https"} and urlsplit(self.url).hostname:
            self._base = self.url
        else:
            msg = f"server {url!r:.120}: write it as https://HOST:PORT, or as unix:PATH"
            raise RequestError(msg)
        if ca is not None:
            if not Path(ca).is_file():
                msg = f"{os.fspath(ca)}: there is no such file with an authority to trust"
                raise RequestError(msg)
            self._session.verify = os.fspath(ca)

    def close(self) -> None:
        """Close all connections."""
        self._session.close()

    def json(self, method: str, path: str, **more: Any) -> Any:
        """Return the JSON data of an answer.  Raises RunnerError."""
        return json.loads(self.text(method, path, **more) or "null")

    def text(
        self,
        method: str,
        path: str,
        *,
        content: Any = None,
        query: Mapping[str, Any] | None = None,
        key: str = "",
    ) -> str:
        """Return the text of an answer, "" if it has none.  Raises RunnerError.

        `key` names the request, so that it may be repeated although it changes something.
        """
        headers = {"Idempotency-Key": key} if key else {}
        body = None if content is None else json.dumps(content)
        patience_s = PATIENCE_S if self._has_answered else FIRST_PATIENCE_S
        deadline, pause = time.monotonic() + patience_s, _PAUSE_S
        while True:
            try:
                answer = self._send(method, path, data=body, params=query, headers=headers)
            except requests.exceptions.SSLError as error:
                raise self._unreachable(error) from error
            except requests.exceptions.ConnectionError as error:
                if not (method == "GET" or key) or time.monotonic() > deadline:
                    raise self._unreachable(error) from error
            except requests.exceptions.RequestException as error:
                raise self._unreachable(error) from error
            else:
                if answer.status_code not in _AWAY or time.monotonic() > deadline:
                    self._has_answered = True
                    _check(answer, path)
                    answer.encoding = "utf-8"
                    return str(answer.text)
            time.sleep(pause * random.uniform(0.5, 1))  # noqa: S311  not to come all at once
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    @contextlib.contextmanager
    def lines(self, path: str, last: int | None) -> Iterator[Iterator[bytes]]:
        """Provide the lines of a stream of events after number `last`, from its beginning if None.

        Raises RunnerError for a refusal, OSError when the stream ends or cannot be reached.
        """
        headers = {} if last is None else {"Last-Event-ID": str(last)}
        timeout = (CONNECT_S, SILENCE_S)
        with self._send("GET", path, headers=headers, stream=True, timeout=timeout) as answer:
            if answer.status_code in _AWAY:
                msg = f"the service answered {answer.status_code}"
                raise ConnectionError(msg)
            _check(answer, path)
            yield answer.iter_lines(chunk_size=None)  # as they arrive

    def _send(self, method: str, path: str, **more: Any) -> requests.Response:
        headers = {**more.pop("headers", {}), "Accept-Encoding": "identity"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        more.setdefault("timeout", (CONNECT_S, ANSWER_S))
        return self._session.request(
            method,
            f"{self._base}{path}",
            headers=headers,
            allow_redirects=False,  # a token goes to nobody else
            auth=_no_auth,
            **more,
        )

    def _unreachable(self, error: Exception) -> RunnerError:
        cause = _cause(error)
        if "CERTIFICATE_VERIFY_FAILED" in cause:
            msg = (
                f"server {self.url}: its certificate is not trusted: {cause}; name the "
                "file with its authority in QRUNNER_CA, or as connect(…, ca=…)"
            )
        elif isinstance(error, requests.exceptions.SSLError):
            msg = f"server {self.url} speaks no TLS that fits: {cause}; is it one of http://?"
        else:
            msg = f"server {self.url} cannot be reached: {cause}; does `qrunner serve` run?"
        return RunnerError(msg)


def version_at(url: str) -> str | None:
    """Return the version of the service there, None if none answers or it takes no jobs."""
    connection = Connection(url, None, None)
    with contextlib.closing(connection):
        try:
            answer = connection._send("GET", "/readyz", timeout=_PROBE_S)
            return str(answer.json()["version"]) if answer.ok else None
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, LookupError):
            return None


def _check(answer: requests.Response, path: str) -> None:
    """Raise what a refusal means, with the service's own words."""
    status = answer.status_code
    if status < HTTPStatus.MULTIPLE_CHOICES:
        return
    try:
        message = str(answer.json()["error"]["message"])
    except (ValueError, LookupError, TypeError):
        message = f"the server answered {status} {answer.reason}, and is perhaps no qrunner"
    if status == HTTPStatus.NOT_FOUND:
        kind = UnknownJobError if path.startswith("/v1/jobs/") else UnknownProgramError
        raise kind(message)
    if status == HTTPStatus.BAD_REQUEST and path == "/v1/jobs":
        raise InputsError(message)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise RunnerError(message)
    raise RequestError(message)


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keep requests from taking a password for the host out of the user's ~/.netrc."""
    return request


def _cause(error: Exception) -> str:
    reason = error.args[0] if error.args else error
    return str(getattr(reason, "reason", reason))[:200]


def _is_here(url: str) -> bool:
    return url.startswith(_UNIX) or urlsplit(url).hostname in {"127.0.0.1", "::1", "localhost"}


class _UnixConnection(urllib3.connection.HTTPConnection):
    def __init__(self, path: str, **more: Any) -> None:
        super().__init__("localhost", **more)
        self._path = path

    def connect(self) -> None:
        """Open the socket."""
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        channel.settimeout(CONNECT_S)
        try:
            channel.connect(self._path)
        except OSError as error:
            channel.close()
            raise urllib3.exceptions.NewConnectionError(self, f"{self._path}: {error}") from error
        channel.settimeout(self.timeout if isinstance(self.timeout, (int, float)) else ANSWER_S)
        self.sock = channel


class _UnixPool(urllib3.connectionpool.HTTPConnectionPool):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", maxsize=_CONNECTIONS)
        self._path = path

    def _new_conn(self) -> _UnixConnection:
        return _UnixConnection(self._path)


class _UnixAdapter(HTTPAdapter):
    def __init__(self, path: str) -> None:
        self._pool = _UnixPool(path)
        super().__init__()

    def get_connection_with_tls_context(self, *_: Any, **__: Any) -> _UnixPool:
        """Return the pool of connections to the socket, whatever the address."""
        return self._pool

    def request_url(self, request: requests.PreparedRequest, proxies: Any) -> str:
        """Return the path of a request; no proxy leads to a socket."""
        del proxies
        return str(request.path_url)

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()
        super().close()
