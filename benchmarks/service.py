"""What a service adds to a job, how many it runs for several users, and what open streams cost.

Overhead: a no-op by `Supervisor` in this process and the same over HTTP, by a service in a process
of its own, in turns, from the request to the result; both make a cell for each job.  Several users:
each asks for one job after the other on a connection of its own.  Streams: one job that publishes
now and then, and many WebSockets that follow it: how long from `publish` to the frame, and the
memory of each.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.report import Row, arguments, median, percentile, report
from runner import Store, Supervisor
from runner.programs import find
from runner.store.users import Users

NOOP = Path(__file__).parent / "programs" / "noop.py"
OVERHEAD_MS = 4.0
JOBS_PER_S = 80.0
USERS = 20
FRAME_MS = 2.0
STREAM_KIB = 40.0
STREAMS = 100
OPEN = 1000


NOW_AND_THEN = """
import time
def main(backend, messenger, n):
    for number in range(n):
        time.sleep(0.1)
        messenger.publish(time.time())
    time.sleep(60)
"""


def uploaded(address: str, token: str) -> bytes:
    """Upload the no-op for everybody, and return the body of a request to run it."""
    files = {"program.py": base64.b64encode(NOOP.read_bytes()).decode()}
    content = {"files": files, "name": "noop", "public": True}
    with contextlib.closing(http.client.HTTPConnection(address, timeout=60)) as connection:
        headers = {"Authorization": f"Bearer {token}"}
        connection.request("POST", "/v1/programs", json.dumps(content), headers)
        program = json.loads(connection.getresponse().read())["id"]
    return json.dumps({"program": program, "backend": "none"}).encode()


def over_http(connection: http.client.HTTPConnection, token: str, body: bytes) -> float:
    """Return the seconds from the request for a job to its result, on an open connection."""
    headers = {"Authorization": f"Bearer {token}"}
    begin = time.perf_counter()
    connection.request("POST", "/v1/jobs", body, headers)
    job = json.loads(connection.getresponse().read())["job"]
    connection.request("GET", f"/v1/jobs/{job}/events", headers=headers)
    events = connection.getresponse().read().decode()
    taken = time.perf_counter() - begin
    assert '"outcome": "completed"' in events
    return taken


def overheads(
    address: str, token: str, body: bytes, rounds: int
) -> tuple[list[float], list[float]]:
    """Return the seconds of jobs in-process and over HTTP."""
    here, there = [], []
    program = find(NOOP)
    with (
        tempfile.TemporaryDirectory() as name,
        Store(Path(name, "jobs.sqlite3")) as store,
        Supervisor(store=store, cells="on demand") as supervisor,
        contextlib.closing(http.client.HTTPConnection(address, timeout=60)) as connection,
    ):
        for _ in range(rounds):
            begin = time.perf_counter()
            supervisor.run(program, backend="none").result(60)
            here.append(time.perf_counter() - begin)
            there.append(over_http(connection, token, body))
    return here[1:], there[1:]


async def one_after_another(address: str, token: str, body: bytes, until: float) -> int:
    """Run jobs of one user until then, and return their number."""
    host, port = address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    common = f"Host: {address}\r\nAuthorization: Bearer {token}\r\n"

    async def asked(line: str, content: bytes = b"") -> bytes:
        length = f"Content-Length: {len(content)}\r\n" if content else ""
        writer.write(f"{line} HTTP/1.1\r\n{common}{length}\r\n".encode() + content)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if found := re.search(rb"content-length: (\d+)", head):
            return await reader.readexactly(int(found[1]))
        whole = b""
        while size := int(await reader.readline(), 16):  # a stream, in chunks
            whole += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readexactly(2)
        return whole

    count = 0
    while time.monotonic() < until:
        job = json.loads(await asked("POST /v1/jobs", body))["job"]
        assert b'"outcome": "completed"' in await asked(f"GET /v1/jobs/{job}/events")
        count += 1
    writer.close()
    return count


async def rate(address: str, tokens: list[str], body: bytes, seconds: float) -> float:
    """Return the jobs per second of several users together."""
    await one_after_another(address, tokens[0], body, time.monotonic() + 1)
    begin = time.monotonic()
    work = [one_after_another(address, each, body, begin + seconds) for each in tokens]
    counts = await asyncio.gather(*work)
    return sum(counts) / (time.monotonic() - begin)


@contextlib.contextmanager
def service(directory: Path) -> Iterator[tuple[str, list[str], int]]:
    """Provide a service in a process of its own: its address, tokens of users, its process id."""
    environment = {**os.environ, "QRUNNER_STORE": str(directory / "jobs.sqlite3")}
    with Store(directory / "jobs.sqlite3") as store:
        users = Users(store.file)
        names = [f"user{number}" for number in range(USERS)]
        for each in names:
            users.add(each)
        tokens = [users.new_token(each) for each in names]
    log = directory / "log"
    with log.open("wb") as stderr:
        command = [sys.executable, "-m", "runner", "serve", "--listen", "127.0.0.1:0"]
        process = subprocess.Popen(command, env=environment, stderr=stderr)
    try:
        while not (found := re.search(r"serving at http://(\S+)", log.read_text())):
            time.sleep(0.05)
        yield found[1], tokens, process.pid
    finally:
        process.terminate()
        process.terminate()
        process.wait(60)


def resident_kib(pid: int) -> float:
    """Return the memory of a process."""
    return float(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[0])


class Follower(asyncio.Protocol):
    """One WebSocket, which notes when bytes arrive and reads them afterwards.

    A client that read each frame would make those behind it late itself.
    """

    def __init__(self, path: str, token: str, up: asyncio.Semaphore) -> None:
        self.arrived: list[tuple[float, bytes]] = []
        self._head = (
            f"GET {path} HTTP/1.1\r\nHost: x\r\nX-Access-Token: {token}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        self._up = up

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the stream."""
        assert isinstance(transport, asyncio.Transport)
        transport.write(self._head.encode())

    def data_received(self, data: bytes) -> None:
        """Note what has come."""
        self.arrived.append((time.time(), data))
        if len(self.arrived) == 1:
            self._up.release()

    def late(self) -> list[float]:
        """Return how many seconds each message came after it was published."""
        found = [(now, re.findall(rb"\d{10}\.\d+", data)) for now, data in self.arrived[1:]]
        return [now - float(each) for now, times in found for each in times]


async def streams(address: str, path: str, token: str, pid: int) -> tuple[list[float], float]:
    """Return how late messages are at `STREAMS` streams, and KiB for each of `OPEN` streams."""
    loop, up = asyncio.get_running_loop(), asyncio.Semaphore(0)
    host, port = address.split(":")

    async def opened() -> tuple[asyncio.BaseTransport, Follower]:
        follower = Follower(path, token, up)
        transport, _ = await loop.create_connection(lambda: follower, host, int(port))
        return transport, follower

    first = [await opened() for _ in range(STREAMS)]
    for _ in range(STREAMS):
        await up.acquire()
    while not first[0][1].late():  # the job has begun to publish
        await asyncio.sleep(0.1)
    for _, each in first:
        del each.arrived[1:]
    await asyncio.sleep(3)
    late = [seconds for _, each in first for seconds in each.late()]
    before = resident_kib(pid)
    more = []
    for number in range(OPEN - STREAMS):
        more.append(await opened())
        if number % 50 == 0:
            await asyncio.sleep(0.2)
    for _ in more:
        await up.acquire()
    each_kib = (resident_kib(pid) - before) / len(more)
    for transport, _ in first + more:
        transport.close()
    return late, each_kib


def followed(address: str, token: str, pid: int) -> tuple[list[float], float]:
    """Start a job, and follow it."""
    content = {
        "files": {"program.py": base64.b64encode(NOW_AND_THEN.encode()).decode()},
        "name": "now_and_then",
        "backend": "none",
        "inputs": {"n": 600},
    }
    with contextlib.closing(http.client.HTTPConnection(address, timeout=60)) as connection:
        headers = {"Authorization": f"Bearer {token}"}
        connection.request("POST", "/v1/jobs", json.dumps(content), headers)
        job = json.loads(connection.getresponse().read())["job"]
    return asyncio.run(streams(address, f"/api/v1/stream/jobs/{job}", token, pid))


def main() -> int:
    """Measure and report; 1 if a target is missed."""
    options = arguments(__doc__, rounds=200)
    with (
        tempfile.TemporaryDirectory() as name,
        service(Path(name)) as (address, tokens, pid),
    ):
        body = uploaded(address, tokens[0])
        here, there = overheads(address, tokens[0], body, options.rounds + 1)
        jobs_per_s = asyncio.run(rate(address, tokens, body, seconds=10))
        late, each = followed(address, tokens[0], pid)
    added = (median(there) - median(here)) * 1e3
    rows = [
        Row("a no-op in a new cell, by Supervisor", median(here) * 1e3, "ms"),
        Row("  over HTTP", median(there) * 1e3, "ms"),
        Row("  what HTTP adds", added, "ms", at_most=OVERHEAD_MS),
        Row(f"jobs of {USERS} users", jobs_per_s, "/s", at_least=JOBS_PER_S),
        Row(f"publish to frame, {STREAMS} streams", median(late) * 1e3, "ms", at_most=FRAME_MS),
        Row("  99 %", percentile(late, 99) * 1e3, "ms"),
        Row(f"memory of a stream, {OPEN} open", each, "KiB", at_most=STREAM_KIB),
    ]
    return report("service", rows, options)


if __name__ == "__main__":
    raise SystemExit(main())
