"""Drives the guest as a plain subprocess, over pipes and a real Unix socket: no engine."""

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
from dataclasses import dataclass
from pathlib import Path

from sandbox.wire import protocol

ROOT = Path(__file__).parents[2]
LINE_BYTES = protocol.MAX_RESULT_BYTES + protocol.ENVELOPE_BYTES
PATIENCE_S = 20.0


@dataclass
class Report:
    """All that a guest has said, taken apart by the host's own decoder."""

    ready: protocol.Ready
    messages: list
    last: list
    exited: protocol.Exited | None
    log: str

    @property
    def fault(self):
        (fault,) = self.last
        assert isinstance(fault, protocol.Fault), fault
        return fault

    @property
    def value(self):
        (result,) = self.last
        assert isinstance(result, protocol.Result), result
        assert result.done
        return result.value


class Guest:
    """One guest process with one program; a context manager that leaves nothing behind."""

    reader = protocol.FrameReader

    def __init__(self, source, *, carrier="socket", arguments=(), files=None, environment=None):
        self.carrier = carrier  # None: the guest chooses
        self.arguments = arguments
        self.environment = environment or {}
        self.files = {"program.py": textwrap.dedent(source), **(files or {})}

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            # A short path: a socket's address has room for 107 bytes.
            self.directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="g-")))
            for name, text in self.files.items():
                (self.directory / name).parent.mkdir(exist_ok=True)
                (self.directory / name).write_text(text)
            self.path = str(self.directory / "channel")
            self.frames = []
            self.raw = {name: bytearray() for name in ("socket", "stdout", "stderr")}
            self.pieces = dict.fromkeys(self.raw, 0)
            self.pumps = []
            self._changed = threading.Condition()
            self._connections = []
            if self.carrier != "stdio":
                self.listener = stack.enter_context(socket.socket(socket.AF_UNIX))
                self.listener.bind(self.path)
                self.listener.listen(1)
            self._start()
            stack.callback(self._stop)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception):
        self._stack.close()

    def _start(self):
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-P", "-s", "-m", "sandbox"),
                *(("--carrier", self.carrier) if self.carrier else ()),
                *("--socket", self.path, "--program", str(self.directory), *self.arguments),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(ROOT),
                "LC_ALL": "C.UTF-8",
                **self.environment,
            },
            cwd="/",
        )
        self.pump("stdout", self.process.stdout.fileno())
        self.pump("stderr", self.process.stderr.fileno())

    def _stop(self):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait(PATIENCE_S)
        for pump in self.pumps:
            pump.join(PATIENCE_S)
        for connection in self._connections:  # after the pump: it must not read a closed one
            connection.close()
        self.process.stdout.close()
        self.process.stderr.close()

    def pump(self, name, descriptor):
        """Read a descriptor to its end in a thread, and decode what are frames."""
        reader = self.reader(LINE_BYTES) if name != "stderr" else None

        def pump():
            while data := os.read(descriptor, 1 << 20):
                with self._changed:
                    self.raw[name] += data
                    self.pieces[name] += 1
                    if reader:
                        self.frames.extend(reader.feed(data))
                    self._changed.notify_all()

        thread = threading.Thread(target=pump, daemon=True)
        thread.start()
        self.pumps.append(thread)

    def connect(self):
        """Accept the guest's connection, as the host does; the test may read it itself."""
        self.listener.settimeout(PATIENCE_S)
        connection, _ = self.listener.accept()
        connection.settimeout(None)
        self._connections.append(connection)
        return connection

    def listen(self):
        """With the socket carrier, accept the connection and read all that comes."""
        if self.carrier == "socket":
            self.pump("socket", self.connect().fileno())

    def send(self, **run):
        """Send the request."""
        fields = {"job": 7, "entry": "program.py", "inputs": {}, "backend": {"name": "none"}}
        self.say(protocol.Run(**{**fields, **run}))

    def say(self, *frames):
        """Say something as the host."""
        self.process.stdin.write(b"".join(map(protocol.encode, frames)))
        self.process.stdin.flush()

    def wait_for(self, condition):
        """Wait until the frames or the log make the condition true."""
        with self._changed:
            return self._changed.wait_for(condition, PATIENCE_S)

    def wait_for_frame(self, kind):
        """Return the first frame of this kind."""
        found = self.wait_for(lambda: [each for each in self.frames if isinstance(each, kind)])
        assert found, f"no {kind.__name__}: {self.frames} {self.raw}"
        return found[0]

    def wait_for_log(self, text):
        """Wait for a text in the log."""
        assert self.wait_for(lambda: text.encode() in self.raw["stderr"]), self.raw
        return self.log

    @property
    def log(self):
        return self.raw["stderr"].decode()

    def report(self):
        """Wait until the worker has ended, hang up, and return what was said."""
        exited = self.wait_for_frame(protocol.Exited)
        self._stop()
        kinds = protocol.Result, protocol.Done, protocol.Fault
        return Report(
            ready=next(each for each in self.frames if isinstance(each, protocol.Ready)),
            messages=[each for each in self.frames if isinstance(each, protocol.Message)],
            last=[each for each in self.frames if isinstance(each, kinds)],
            exited=exited,
            log=self.log,
        )


ANYTHING = """
def main(backend, user_messenger, code, **inputs):
    names = {"backend": backend, "messenger": user_messenger, "value": None, **inputs}
    exec(code, names)
    return names["value"]
"""


class Lines:
    """Reads frames and leaves out what is none: what a killed job has begun before its report."""

    def __init__(self, _):
        self._rest = b""

    def feed(self, data):
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            start = max(0, line.find(b'{"type":"cleared"'))
            with contextlib.suppress(protocol.ProtocolError):
                yield protocol.decode(line[start:])


class Session(Guest):
    """A guest that takes one job after another; each runs the code that it is given."""

    reader = Lines

    def __init__(self, carrier, wiped, environment=None, arguments=(), files=None):
        super().__init__(
            ANYTHING,
            carrier=carrier,
            arguments=("--session", "--wipe", str(wiped), *arguments),
            environment=environment,
            files=files,
        )
        self.number = 0

    def __enter__(self):
        super().__enter__()
        self.listen()
        self.ready = self.wait_for_frame(protocol.Ready)
        return self

    def start(self, code, *, token=None, request=None, wall_s=60.0, **inputs):
        """Hand out the next job; `request` is what else is asked."""
        self.number += 1
        self.token = token or secrets.token_hex(16)
        self.frames.clear()
        self.say(protocol.Next(job=self.number, wall_s=wall_s, token=self.token))
        self.send(job=self.number, inputs={"code": code, **inputs}, **(request or {}))
        self.listen()

    def stop(self, job=None):
        """End a job."""
        self.say(protocol.Stop(job=job or self.number))

    def end(self):
        """Wait until the job is cleared; return that and the last frame before."""
        cleared = self.wait_for_frame(protocol.Cleared)
        assert (cleared.token, cleared.job) == (self.token, self.number)
        kinds = protocol.Result, protocol.Done, protocol.Fault
        last = [each for each in self.frames if isinstance(each, kinds)]
        assert all(each.job == self.number for each in last)
        return cleared, (last or [None])[0]

    def do(self, code, **inputs):
        """Run one job to its end and return its value."""
        self.start(code, **inputs)
        cleared, last = self.end()
        assert isinstance(last, protocol.Result), (cleared, last, self.log)
        assert cleared.status == 0
        return json.loads(last.value)


def run(source, *, carrier="socket", arguments=(), files=None, **request):
    """Run one program to its end and return the report."""
    with Guest(source, carrier=carrier, arguments=arguments, files=files) as guest:
        guest.listen()
        guest.send(**request)
        return guest.report()


def is_alive(pid):
    """Whether a process runs; a zombie does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


def kill(pid):
    """Kill a process that a failed test may have left."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
