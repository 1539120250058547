"""A service in operation: behind nginx, under systemd, with a backup, and against floods.

Each test has a service of its own; they take minutes together, and are part of `make test-service`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import resource
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from runner.doctor.inspection import Status
from runner.service.ibm.stream import PATHS
from runner.store import Store
from runner.store.rows import Query
from runner.store.users import Users
from tests.service.conftest import events_of, free_port, qrunner, started
from tests.service.pages import Browser
from tests.service.test_rights import raw
from tests.waiting import within

ROOT = Path(__file__).parents[2]


def block_of(name):
    """Return the file of this name that docs/service.md shows."""
    page = (ROOT / "docs" / "service.md").read_text()
    return re.search(rf"```text\n# {re.escape(name)}\n(.*?)```", page, re.DOTALL)[1]


def resident_mib(service):
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024


def address_of(service):
    parts = urlsplit(service.url)
    return parts.hostname, parts.port


def answers(port):
    with contextlib.closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


# --- set up as docs/service.md says ---------------------------------------------------------------


@contextlib.contextmanager
def behind_nginx(directory, service):
    """Provide the address of nginx in front of a service, as the documentation configures it."""
    port, certificate, key = free_port(), directory / "qrunner.pem", directory / "qrunner.key"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    subprocess.run([*made, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    server = block_of("qrunner.conf")
    for shown, used in (
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("qrunner.example.org", "localhost"),
        ("/etc/ssl/qrunner.pem", str(certificate)),
        ("/etc/ssl/qrunner.key", str(key)),
        ("http://127.0.0.1:8765", service.url),
    ):
        assert shown in server
        server = server.replace(shown, used)
    places = "".join(
        f"{name}_temp_path {directory}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (directory / "nginx.conf").write_text(
        f"user root;\npid {directory}/pid;\nerror_log {directory}/errors;\ndaemon off;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{places}{server}}}\n"
    )
    command = ["nginx", "-p", directory, "-c", directory / "nginx.conf"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as nginx:
        try:
            assert within(10, lambda: answers(port))
            yield f"https://localhost:{port}", certificate
        finally:
            nginx.terminate()
            nginx.wait(10)


def test_behind_nginx_streams_uploads_and_addresses_are_as_without(tmp_path):
    if not shutil.which("nginx"):
        pytest.skip("needs nginx: `apt-get install nginx-light`")
    place = tmp_path / "nginx"
    place.mkdir()
    with (
        started(tmp_path / "s", "--behind-proxy") as service,
        behind_nginx(place, service) as (url, certificate),
    ):
        program = service.upload()
        client = service.client("alice")
        client.verify = str(certificate)
        content = {"program": program, "backend": "none", "inputs": {"messages": [1], "seconds": 2}}
        job = client.post(f"{url}/v1/jobs", json=content).json()["job"]
        begin, times = time.monotonic(), []
        with client.get(f"{url}/v1/jobs/{job}/events", stream=True, timeout=60) as answer:
            for _, event in events_of(answer):
                times.append((event["event"], time.monotonic() - begin))
        came = dict(times)
        assert came["finished"] - came["message"] > 1  # nothing was held back on the way
        found = client.get(f"{url}/api/users/me").json()["urls"]
        assert found["services"]["runtime"] == f"{url}/api/v1"
        large = {"program": program, "backend": "none", "inputs": {"result": "x" * (30 << 20)}}
        job = client.post(f"{url}/v1/jobs", json=large).json()["job"]
        service.wait(job)
        assert len(client.get(f"{url}/v1/jobs/{job}/result").json()) == 30 << 20
        path, headers = PATHS[0].replace("{job}", job), {"X-Access-Token": service.token("alice")}
        secure = ssl.create_default_context(cafile=certificate)
        with (
            connect(
                f"wss{url.removeprefix('https')}{path}",
                ssl=secure,
                additional_headers=headers,
                max_size=None,
            ) as channel,
            pytest.raises(ConnectionClosed) as caught,
        ):
            while True:
                channel.recv(timeout=60)
        assert caught.value.rcvd.code == 1000
        lines = [json.loads(line) for line in service.log.read_text().splitlines() if "{" in line]
        assert {"127.0.0.1"} == {each["address"] for each in lines}


def test_the_unit_is_one_that_systemd_takes_and_the_service_tells_it_its_state(tmp_path):
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("needs systemd-analyze")
    unit = block_of("qrunner.service")
    assert "/opt/qrunner/.venv/bin/qrunner" in unit
    path = tmp_path / "qrunner.service"
    path.write_text(unit.replace("/opt/qrunner/.venv/bin/qrunner", sys.executable))
    done = subprocess.run([verify, "verify", path], capture_output=True, text=True)
    ours = [line for line in done.stderr.splitlines() if "qrunner" in line]
    # Docker is perhaps no unit here; everything else in the file is ours.
    assert [line for line in ours if "docker.service" not in line] == []

    address = tmp_path / "notify"
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as channel:
        channel.bind(str(address))
        channel.settimeout(60)
        os.environ["NOTIFY_SOCKET"] = str(address)
        try:
            with started(tmp_path / "s") as service:
                assert channel.recv(100) == b"READY=1"
                assert requests.get(f"{service.url}/readyz", timeout=10).ok
                assert service.stop() == 0
                assert channel.recv(100) == b"STOPPING=1"
        finally:
            del os.environ["NOTIFY_SOCKET"]


def test_a_copy_made_while_it_runs_has_every_job_that_was_accepted(tmp_path):
    with started(tmp_path / "s") as service:
        program, accepted, going = service.upload(), [], threading.Event()

        def submit():
            while not going.is_set():
                accepted.append(service.run(program, messages=["x" * 1000] * 20, result=1))

        thread = threading.Thread(target=submit)
        thread.start()
        try:
            assert within(60, lambda: len(accepted) >= 20)
            before = list(accepted)
            copy = tmp_path / "copy.sqlite3"
            with (
                contextlib.closing(sqlite3.connect(service.store)) as live,
                contextlib.closing(sqlite3.connect(copy)) as target,
            ):
                live.backup(target, pages=100)  # what `.backup` of the sqlite3 command does
        finally:
            going.set()
            thread.join(60)
        copy.chmod(0o600)
        with Store(copy) as store:
            assert set(before) <= {each.id for each in store.summaries(Query(limit=None))}
            with store.file.reading() as db:
                assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert Users(store.file).of_token(service.token("alice")).name == "alice"


def test_killed_under_load_it_has_lost_nothing_that_it_had_said(tmp_path):
    accepted, done, lock = set(), {}, threading.Lock()
    with started(tmp_path) as service:
        program, going = service.upload(public=True), threading.Event()

        def work(user):
            client = service.client(user)
            with contextlib.suppress(requests.exceptions.RequestException, ValueError, KeyError):
                while not going.is_set():
                    content = {"program": program, "backend": "none", "inputs": {"result": user}}
                    answer = client.post(f"{service.url}/v1/jobs", json=content, timeout=60)
                    job = answer.json()["job"]
                    with lock:
                        accepted.add((user, job))
                    url = f"{service.url}/v1/jobs/{job}/events"
                    with client.get(url, stream=True, timeout=60) as stream:
                        for _, event in events_of(stream):
                            if event["event"] == "finished":
                                with lock:
                                    done[job] = event["outcome"], event["result"]

        users = [f"user{n}" for n in range(10)]
        for each in users:
            service.token(each)
        threads = [threading.Thread(target=work, args=(each,)) for each in users]
        for each in threads:
            each.start()
        assert within(90, lambda: len(done) >= 100)
        assert service.stop(signal.SIGKILL) == -signal.SIGKILL
        going.set()
        for each in threads:
            each.join(60)
    assert set(done.values()) <= {("completed", user) for user in users}
    with started(tmp_path) as again:
        again.tokens = service.tokens
        for user, job in sorted(accepted):
            found = again.wait(job, user)
            if job in done:
                assert (found["outcome"], found["result"]) == done[job]
            else:
                assert found["outcome"] in {"completed", "interrupted"}


# --- floods ---------------------------------------------------------------------------------------


def flooded(service, number, held):
    """Open so many connections that say nothing."""
    return [
        held.enter_context(socket.create_connection(address_of(service))) for _ in range(number)
    ]


def closed(channels):
    """Return how many of these connections the service has closed."""
    count = 0
    for each in channels:
        each.setblocking(False)
        try:
            count += each.recv(1) == b""
        except BlockingIOError:
            continue
        except ConnectionResetError:
            count += 1
    return count


@pytest.mark.parametrize("speaks_tls", [False, True])
def test_beyond_the_most_connections_the_next_is_hung_up_on(tmp_path, speaks_tls):
    options = ("--tls-self-signed", str(tmp_path / "tls")) if speaks_tls else ()
    config = "[service]\nconnections = 50\nrequest_s = 60\n"
    with started(tmp_path, *options, config=config) as service, contextlib.ExitStack() as held:
        channels = flooded(service, 200, held)  # with TLS, none even begins to agree on it
        assert within(30, lambda: closed(channels) >= 150)
        assert closed(channels) == 150
        held.close()
        client = service.client("alice")

        def is_served():
            with contextlib.suppress(requests.exceptions.ConnectionError):
                return client.get(f"{service.url}/v1/me", timeout=10).ok
            return False

        assert within(30, is_served)
        assert "Traceback" not in service.log.read_text()


def test_with_few_files_there_are_fewer_connections_and_jobs_still_run(tmp_path):
    prefix = ("prlimit", "--nofile=400:400")
    with started(tmp_path, prefix=prefix) as service, contextlib.ExitStack() as held:
        assert "raise `ulimit -n`" in service.log.read_text()
        program = service.upload()
        with contextlib.closing(service.client("alice")) as client:
            client.get(f"{service.url}/v1/me")  # its connection stays open
            channels = flooded(service, 500, held)
            assert within(30, lambda: closed(channels) >= 300)
            content = {"program": program, "backend": "none", "inputs": {"result": 1}}
            job = client.post(f"{service.url}/v1/jobs", json=content, timeout=60).json()["job"]
            url = f"{service.url}/v1/jobs/{job}"
            assert within(60, lambda: client.get(url, timeout=30).json()["result"] == 1)


async def asked_for_events(service, path, token):
    """Ask for a stream; return the status and what keeps it open."""
    reader, writer = await asyncio.open_connection(*address_of(service))
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
    writer.write(head.encode())
    status = int((await asyncio.wait_for(reader.readline(), 120)).split()[1])
    if status == 200:
        return status, writer
    headers = await reader.readuntil(b"\r\n\r\n")
    assert b"retry-after: " in headers.lower()
    writer.close()
    return status, None


@pytest.mark.timeout(600)
def test_of_ten_thousand_idle_streams_the_last_nine_are_refused_in_order(tmp_path):
    files, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    try:
        with started(tmp_path) as service:
            program = service.upload(public=True)
            job = service.run(program, seconds=280)
            path, token = f"/v1/jobs/{job}/events", service.token("alice")
            took = []

            async def flood():
                found, open_ = [], []
                for _ in range(100):
                    wave = [asked_for_events(service, path, token) for _ in range(100)]
                    for status, writer in await asyncio.gather(*wave):
                        found.append(status)
                        if writer is not None:
                            open_.append(writer)
                    if len(found) % 2000 == 0:
                        begin = time.monotonic()
                        await asyncio.to_thread(other)
                        took.append(time.monotonic() - begin)
                for each in open_:
                    each.close()
                return found

            def other():
                assert service.wait(service.run(program, "bob", result=1), "bob")["result"] == 1

            found = asyncio.run(flood())
            assert (found.count(200), found.count(429)) == (1000, 9000)
            assert max(took) < 30  # whoever else works there goes on
            operator = service.client("olga", "--operator")

            def metrics():
                return operator.get(f"{service.url}/metrics", timeout=30).text

            assert within(30, lambda: "qrunner_streams 0\n" in metrics())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))


def test_whoever_talks_on_a_stream_is_cut_off(tmp_path):
    with started(tmp_path) as service:
        job = service.run(service.upload(), seconds=100)
        url = service.url.replace("http", "ws", 1) + PATHS[0].replace("{job}", job)
        headers = {"X-Access-Token": service.token("alice")}
        with (
            connect(url, additional_headers=headers) as channel,
            pytest.raises(ConnectionClosed) as caught,
        ):
            channel.recv(timeout=30)
            for _ in range(10_000):
                channel.send("x" * 1000)
            while True:
                channel.recv(timeout=30)
        assert caught.value.rcvd.code == 1008
        # Pings are answered, but not for whoever does not read the answers.
        before = resident_mib(service)
        with contextlib.closing(socket.create_connection(address_of(service))) as raw:
            raw.settimeout(1)
            path, token = urlsplit(url).path, headers["X-Access-Token"]
            raw.sendall(
                f"GET {path} HTTP/1.1\r\nHost: x\r\nX-Access-Token: {token}\r\n"
                "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
            )
            assert b" 101 " in raw.recv(4096)
            ping = b"\x89\xfd" + b"mask" + bytes(125)
            with contextlib.suppress(TimeoutError):
                for _ in range(600):
                    raw.sendall(ping * 1000)
            assert resident_mib(service) - before < 30
        assert requests.get(f"{service.url}/healthz", timeout=10).ok


def test_whoever_does_not_take_large_answers_costs_little_memory(tmp_path):
    size = 24 << 20
    with started(tmp_path) as service, contextlib.ExitStack() as held:
        program = service.upload(public=True)
        job = service.run(program, result="x" * size)
        other = service.run(program, "bob", result="x" * size)
        assert service.wait(job)["outcome"] == service.wait(other, "bob")["outcome"] == "completed"
        before, token = resident_mib(service), service.token("alice")
        for path in (f"/v1/jobs/{job}", f"/api/v1/jobs/{job}/results", "/api/v1/jobs?limit=50"):
            head = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
            for _ in range(20):
                channel = held.enter_context(socket.create_connection(address_of(service)))
                channel.sendall(head.encode())
        most = 0.0
        for _ in range(50):
            time.sleep(0.1)
            most = max(most, resident_mib(service) - before)
        # Three at a time, each read from the store, parsed and written: not sixty.
        assert most < 1200
        url = f"{service.url}/v1/jobs/{other}/result"
        assert len(service.client("bob").get(url, timeout=60).json()) == size
        assert requests.get(f"{service.url}/healthz", timeout=10).ok


# --- what is written down -------------------------------------------------------------------------


def test_every_refusal_has_a_name_in_the_log_and_no_token_gets_there(tmp_path):
    with started(tmp_path) as service:
        token = service.token("alice")
        client = service.client("alice")
        names = set()
        for path in (f"/v1/programs/{token}", f"/v1/jobs/{token}", f"/{token}", "/v1/nothing"):
            answer = client.get(f"{service.url}{path}?token={token}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, 404)
            names.add(answer.headers["uber-trace-id"])
        url = service.url.replace("http", "ws", 1) + PATHS[0].replace("{job}", token)
        with (
            contextlib.suppress(Exception),
            connect(url, additional_headers={"X-Access-Token": token}),
        ):
            pass
        raw = socket.create_connection(address_of(service))
        with contextlib.closing(raw):
            raw.sendall(f"{token} nonsense\r\n\r\n".encode())
            raw.recv(1000)
        written = service.log.read_text()
        assert token not in written
        assert names <= set(re.findall(r'"request": "(\w+)"', written))
        assert "/stream/jobs/" in written
        operator = service.client("olga", "--operator")
        assert token not in operator.get(f"{service.url}/v1/audit").text
        assert 'route="unknown",status="404"' in operator.get(f"{service.url}/metrics").text


def test_a_single_user_is_not_behind_a_proxy(tmp_path):
    environment = {**os.environ, "QRUNNER_STORE": str(tmp_path / "store")}
    done = qrunner(environment, "serve", "--single-user", "--behind-proxy", check=False)
    assert (done.returncode, "--behind-proxy" in done.stderr) == (2, True)


# --- the page of the machine ----------------------------------------------------------------------


def test_an_operator_has_the_machine_examined_from_its_page(service):
    browser = Browser(service)
    browser.sign_in("examiner", "--operator")
    page = browser.send(browser.get("/machine").forms["examine"])
    assert page.url == f"{service.url}/machine#doctor"
    found = set(page.of("tr", "data-status"))
    assert found
    assert found <= set(Status)
    assert "Nobody has asked" not in page.text


def test_a_request_that_never_ends_is_given_up_and_others_are_served(tmp_path):
    with started(tmp_path, config="[service]\nrequest_s = 1\n") as service:
        address = urlsplit(service.url)
        slow = [socket.create_connection((address.hostname, address.port)) for _ in range(50)]
        try:
            for each in slow:
                each.sendall(b"GET /v1/me HTTP/1.1\r\nHost: x\r\nX-A: ")
            assert requests.get(f"{service.url}/healthz", timeout=10).ok
            deadline = time.monotonic() + 20
            for each in slow:
                each.settimeout(max(0.1, deadline - time.monotonic()))
                assert each.recv(100) == b""
        finally:
            for each in slow:
                each.close()
        token = service.token("alice")
        head = f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        begin = time.monotonic()
        answer = raw(service, f"{head}Content-Length: 100\r\n\r\n{{".encode(), wait_s=200)
        assert answer.startswith(b"HTTP/1.1 408")
        assert time.monotonic() - begin < 150
