"""Services as real processes, with a store and users of their own, and programs for them."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests

import runner

HERE = Path(__file__).parent
PROGRAMS = HERE / "programs"
STARTED_WITHIN_S = 30


@dataclass
class Service:
    """One running service; `clients` are sessions of requests by the names of users."""

    url: str
    store: Path
    process: subprocess.Popen
    ca: Path | None = None
    tokens: dict = field(default_factory=dict)
    log: Path | None = None
    environment: dict = field(default_factory=dict)

    def token(self, name, *options):
        """Return the token of a user, who is added at the first call."""
        if name not in self.tokens:
            self.tokens[name] = qrunner(self.environment, "users", "add", name, *options).strip()
        return self.tokens[name]

    def client(self, name, *options):
        """Return a session that asks as this user, None as nobody."""
        session = requests.Session()
        session.trust_env = False
        session.verify = str(self.ca) if self.ca else True
        if name is not None:
            session.headers["Authorization"] = f"Bearer {self.token(name, *options)}"
        return session

    def upload(self, user="alice", program="echo", directory=PROGRAMS, **more):
        """Upload one of the programs of the tests and return its id."""
        content = (directory / f"{program}.py").read_bytes()
        files = {"program.py": base64.b64encode(content).decode()}
        more = {"name": program, **more}
        answer = self.client(user).post(f"{self.url}/v1/programs", json={"files": files, **more})
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]

    def run(self, program, user="alice", headers=None, **inputs):
        """Submit a job and return its id."""
        content = {"program": program, "inputs": inputs, "backend": "none"}
        answer = self.client(user).post(f"{self.url}/v1/jobs", json=content, headers=headers)
        assert answer.status_code == 201, answer.text
        return answer.json()["job"]

    def wait(self, job, user="alice", within_s=60):
        """Wait for the end of a job and return all that is known of it."""
        client, deadline = self.client(user), time.monotonic() + within_s
        while time.monotonic() < deadline:
            found = client.get(f"{self.url}/v1/jobs/{job}").json()
            if found["outcome"] is not None:
                return found
            time.sleep(0.05)
        raise AssertionError(f"job {job} has not ended: {found}")

    def stop(self, signal_=signal.SIGTERM, within_s=60):
        """End the process and return its exit code."""
        self.process.send_signal(signal_)
        return self.process.wait(within_s)


def qrunner(environment, *arguments, check=True):
    done = subprocess.run(
        [sys.executable, "-m", "runner", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert not check or done.returncode == 0, done.stderr
    return done.stdout if check else done


@contextlib.contextmanager
def started(directory, *options, listen="127.0.0.1:0", config="", prefix=()):
    """Provide a service that listens on a free port; the command `prefix` starts it."""
    directory.mkdir(mode=0o700, exist_ok=True)
    environment = {**os.environ, "QRUNNER_STORE": str(directory / "store" / "jobs.sqlite3")}
    if config:
        (directory / "qrunner.toml").write_text(config)
        environment["QRUNNER_CONFIG"] = str(directory / "qrunner.toml")
    log = directory / "log"
    where = ["--listen", listen] if listen else []
    with log.open("ab") as stderr:
        begin = stderr.tell()
        process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "runner", "serve", *where, *options],
            env=environment,
            stderr=stderr,
            stdout=subprocess.DEVNULL,
        )
    try:
        url = _address(process, log, begin)
        yield Service(
            url=url,
            store=directory / "store" / "jobs.sqlite3",
            process=process,
            ca=directory / "tls" / "ca.pem" if url.startswith("https") else None,
            log=log,
            environment=environment,
        )
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _address(process, log, begin):
    deadline = time.monotonic() + STARTED_WITHIN_S
    while time.monotonic() < deadline:
        found = re.findall(r"serving at (\S+)", log.read_text()[begin:])
        if found:
            return found[-1]
        assert process.poll() is None, log.read_text()
        time.sleep(0.02)
    raise AssertionError(log.read_text())


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """A service in plain text on loopback, shared by the tests of a module."""
    with started(tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture(scope="module")
def tls_service(tmp_path_factory):
    """A service with a certificate of its own."""
    directory = tmp_path_factory.mktemp("service")
    with started(directory, "--tls-self-signed", str(directory / "tls")) as running:
        yield running


@pytest.fixture
def client(service):
    """Alice's connection to the service."""
    with runner.connect(service.url, service.token("alice")) as connected:
        yield connected


def there(service, *arguments, user="alice", **more):
    """Run a command with `--server`, and return what it has done."""
    environment = {
        **service.environment,
        "QRUNNER_SERVER": service.url,
        "QRUNNER_TOKEN": service.token(user),
        "QRUNNER_STORE": os.devnull,  # nothing here is to be read
    }
    return subprocess.run(
        [sys.executable, "-m", "runner", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        **more,
    )


def free_port():
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def events_of(answer):
    """Yield number and content of each event of a stream."""
    number = None
    for line in answer.iter_lines(decode_unicode=True):
        if line.startswith("id: "):
            number = int(line[4:])
        elif line.startswith("data: "):
            yield number, json.loads(line[6:])
