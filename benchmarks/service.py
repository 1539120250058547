"""What HTTP adds to a job, and what open streams cost.

Overhead: a warm no-op by `Supervisor` and the same over HTTP to a server in this process, in turns,
from the request to the result.  Streams: a service of its own, one job that publishes now and then,
and many WebSockets that follow it: how long from `publish` to the frame, and the memory of each.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from websockets.asyncio.client import connect

from benchmarks.report import Row, arguments, median, percentile, report
from runner import Store, Supervisor, Warm
from runner.policy.rules import Rules
from runner.programs import find
from runner.service.app import application
from runner.service.desk import Desk

NOOP = Path(__file__).parent / "programs" / "noop.py"
OVERHEAD_MS = 4.0
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


@contextlib.contextmanager
def served(supervisor: Supervisor, store: Store) -> Iterator[tuple[str, int, str]]:
    """Serve from a thread of this process; provide host, port and a token."""
    desk = Desk(supervisor, store, Rules())
    desk.users.add("alice")
    config = uvicorn.Config(
        application(desk),
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_keep_alive=75,  # the pool fills meanwhile
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield host, port, desk.users.new_token("alice")
        finally:
            server.should_exit = True
            thread.join(30)


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


def overheads(rounds: int) -> tuple[list[float], list[float]]:
    """Return the seconds of warm jobs in-process and over HTTP."""
    here, there = [], []
    program = find(NOOP)
    files = {"program.py": base64.b64encode(program.files["program.py"]).decode()}
    content = {"files": files, "name": "noop", "backend": "none"}
    with (
        tempfile.TemporaryDirectory() as name,
        Store(Path(name, "jobs.sqlite3")) as store,
        Supervisor(store=store, warm={NOOP: Warm(minimum=2)}) as supervisor,
        served(supervisor, store) as (host, port, token),
        contextlib.closing(http.client.HTTPConnection(host, port, timeout=60)) as connection,
    ):
        body = json.dumps(content).encode()
        for _ in range(rounds):
            supervisor.wait_until_warm(60)
            begin = time.perf_counter()
            supervisor.run(program, backend="none").result(60)
            here.append(time.perf_counter() - begin)
            supervisor.wait_until_warm(60)
            there.append(over_http(connection, token, body))
    return here[1:], there[1:]


@contextlib.contextmanager
def service(directory: Path) -> Iterator[tuple[str, str, int]]:
    """Provide a service in a process of its own: its address, a token, its process id."""
    environment = {**os.environ, "QRUNNER_STORE": str(directory / "jobs.sqlite3")}
    run = [sys.executable, "-m", "runner"]
    added = subprocess.run(
        [*run, "users", "add", "alice"], env=environment, check=True, capture_output=True, text=True
    )
    log = directory / "log"
    with log.open("wb") as stderr:
        command = [*run, "serve", "--listen", "127.0.0.1:0"]
        process = subprocess.Popen(command, env=environment, stderr=stderr)
    try:
        while not (found := re.search(r"serving at http://(\S+)", log.read_text())):
            time.sleep(0.05)
        yield found[1], added.stdout.strip(), process.pid
    finally:
        process.terminate()
        process.terminate()
        process.wait(60)


def resident_kib(pid: int) -> float:
    """Return the memory of a process."""
    return float(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[0])


async def follow(url: str, token: str, times: list[float], up: asyncio.Semaphore) -> None:
    """Note how late each message of a stream is, until the stream is closed."""
    headers = {"X-Access-Token": token}
    async with connect(url, additional_headers=headers, compression=None) as channel:
        await channel.recv()
        up.release()
        async for frame in channel:
            now, sent = time.time(), json.loads(frame)
            sent = sent["__value__"] if isinstance(sent, dict) else sent
            times.append(now - sent)


async def streams(url: str, token: str, pid: int) -> tuple[list[float], float]:
    """Return how late messages are at `STREAMS` streams, and KiB for each of `OPEN` streams."""
    times: list[float] = []
    up = asyncio.Semaphore(0)
    tasks = [asyncio.ensure_future(follow(url, token, times, up)) for _ in range(STREAMS)]
    for _ in range(STREAMS):
        await up.acquire()
    while len(times) < STREAMS:  # the job has begun to publish
        await asyncio.sleep(0.1)
    times.clear()
    await asyncio.sleep(3)
    late, before = list(times), resident_kib(pid)
    more = OPEN - STREAMS
    for _ in range(more):
        tasks.append(asyncio.ensure_future(follow(url, token, [], up)))
        if len(tasks) % 50 == 0:
            await asyncio.sleep(0.2)
    for _ in range(more):
        await up.acquire()
    each = (resident_kib(pid) - before) / more
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return late, each


def followed() -> tuple[list[float], float]:
    """Start a service and a job, and follow it."""
    with tempfile.TemporaryDirectory() as name, service(Path(name)) as (address, token, pid):
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
        return asyncio.run(streams(f"ws://{address}/api/v1/stream/jobs/{job}", token, pid))


def main() -> int:
    """Measure and report; 1 if a target is missed."""
    options = arguments(__doc__, rounds=30)
    here, there = overheads(options.rounds + 1)
    late, each = followed()
    added = (median(there) - median(here)) * 1e3
    rows = [
        Row("a warm no-op, by Supervisor", median(here) * 1e3, "ms"),
        Row("  over HTTP", median(there) * 1e3, "ms"),
        Row("  what HTTP adds", added, "ms", at_most=OVERHEAD_MS),
        Row(f"publish to frame, {STREAMS} streams", median(late) * 1e3, "ms", at_most=FRAME_MS),
        Row("  99 %", percentile(late, 99) * 1e3, "ms"),
        Row(f"memory of a stream, {OPEN} open", each, "KiB", at_most=STREAM_KIB),
    ]
    return report("service", rows, options)


if __name__ == "__main__":
    raise SystemExit(main())
