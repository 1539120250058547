"""Containers without a runner: the docker command, and the engine's interface by itself.

Both give the container the program's own image, no network, and none of the limits of a sandbox.
"""

from __future__ import annotations

import json
import secrets
import select
import shutil
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from typing import ClassVar

from benchmarks.contenders.contender import (
    DEADLINE_S,
    DRIVER,
    Contender,
    UnavailableError,
    WrongAnswerError,
    answer_of,
)
from benchmarks.subjects import Answer
from runner.engine import Engine
from runner.engine.attachment import Stream


class Container:
    """One bare container and its lines; used by one thread."""

    def __init__(
        self, engine: Engine, image: str, command: Sequence[str], labels: Mapping[str, str]
    ) -> None:
        self._engine = engine
        config = {
            "Image": image,
            "Entrypoint": [],
            "Cmd": list(command),
            "OpenStdin": True,
            "StdinOnce": True,
            "AttachStdin": True,
            "AttachStdout": True,
            "AttachStderr": True,
            "Labels": dict(labels),
            "HostConfig": {"NetworkMode": "none"},
        }
        name = f"qrunner-bench-{secrets.token_hex(6)}"
        self._id = engine.create(config, name=name, warnings_pass=True)
        try:
            self._streams = engine.attach(self._id)
            engine.start(self._id)
        except BaseException:
            engine.remove(self._id)
            raise
        self._partial = ""
        self._lines: list[str] = []
        self._errors = ""

    def write(self, line: str) -> None:
        """Send one line to its stdin."""
        data = memoryview(line.encode() + b"\n")
        while data:
            data = data[self._streams.send(data) :]

    def read(self) -> str:
        """Return the next line of its stdout.  Raises WrongAnswerError at the end."""
        deadline = time.monotonic() + DEADLINE_S
        while not self._lines:
            left = max(0.0, deadline - time.monotonic())
            ready, _, _ = select.select([self._streams], [], [], left)
            pieces = self._streams.receive() if ready else None
            if pieces is None:
                msg = f"the container ended: {self._errors[-300:]!r}"
                raise WrongAnswerError(msg)
            for stream, data in pieces:
                if stream is Stream.STDERR:
                    self._errors = (self._errors + data.decode(errors="replace"))[-2000:]
                else:
                    *lines, self._partial = (self._partial + data.decode()).split("\n")
                    self._lines += lines
        return self._lines.pop(0)

    def remove(self) -> None:
        """End it, and take it away."""
        self._streams.close()
        self._engine.remove(self._id)


class DockerRun(Contender):
    """The docker command, as in a script: from its start to its exit."""

    name: ClassVar = "docker-run"
    title: ClassVar = "docker run"
    what: ClassVar = "docker run --rm -i --network=none IMAGE python3 …, until the command exits"
    group: ClassVar = "bare"

    def open(self) -> None:
        docker = shutil.which("docker")
        if docker is None:
            msg = "there is no docker command on this machine"
            raise UnavailableError(msg)
        labels = [f"--label={name}={value}" for name, value in self.ring.labels.items()]
        options = ["--rm", "-i", "--network=none", *labels]
        self._command = [docker, "run", *options, self.ring.image, "python3", "-c", DRIVER]

    def run(self) -> Answer:
        began = time.perf_counter()
        lines, at = [], 0.0
        with subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            alarm = threading.Timer(DEADLINE_S, process.kill)
            alarm.start()
            try:
                process.stdin.write(json.dumps(self.ring.subject.inputs) + "\n")
                process.stdin.close()
                for line in process.stdout:
                    lines.append(line)
                    at = time.perf_counter() - began
                process.wait()
            finally:
                alarm.cancel()
        return answer_of(lines, time.perf_counter() - began, until_its_last_line=at)


class EngineApi(Contender):
    """The engine's interface by itself, without a command: what is possible with `docker run`."""

    name: ClassVar = "engine-api"
    title: ClassVar = "engine API"
    what: ClassVar = "create, attach, start, until the result's line arrives; removed afterwards"
    group: ClassVar = "bare"

    def run(self) -> Answer:
        began = time.perf_counter()
        command = ["python3", "-c", DRIVER]
        container = Container(self.ring.engine, self.ring.image, command, self.ring.labels)
        try:
            container.write(json.dumps(self.ring.subject.inputs))
            lines = [container.read()]
            while not lines[-1].startswith('{"result"'):
                lines.append(container.read())
            seconds = time.perf_counter() - began
        finally:
            container.remove()
        return answer_of(lines, seconds)
