"""An engine of the tests' own, to be stopped, killed, frozen or filled up."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from runner.engine import Engine
from runner.images import ImageStore

STARTED_WITHIN_S = 60
STOPPED_WITHIN_S = 30
DATA_BYTES = 400 << 20
PREFIX = "qrunner-engine-"


def why_not():
    """Return why there can be no second engine on this host, None if there can."""
    if os.geteuid() != 0:
        return "only root can start a second engine"
    if not shutil.which("dockerd"):
        return "no dockerd here to start a second time"
    if os.environ.get("DOCKER_HOST", "unix://").partition(":")[0] != "unix":
        return "the engine is not on this host"
    return None


class SecondEngine:
    """A dockerd with directories of its own; a context manager that leaves nothing of it."""

    def __init__(self, data_bytes=DATA_BYTES):
        # Short: the sockets of containerd and of its shims live below it.
        self.directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir="/var/tmp"))
        self.data = self.directory / "data"
        self.data.mkdir()
        # In memory: quick, and small enough to be filled up.
        size = f"size={data_bytes}"
        subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", self.data], check=True)
        self.address = f"unix://{self.directory}/s"
        self._process = None

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.thaw()
        self.stop()
        for pid in self._processes():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        for point in reversed(self._mounts()):
            subprocess.run(["umount", "--lazy", point], check=False)
        shutil.rmtree(self.directory, ignore_errors=True)

    def start(self):
        """Start it and wait until it answers."""
        (self.directory / "pid").unlink(missing_ok=True)
        log = (self.directory / "log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [
                    "dockerd",
                    f"--host={self.address}",
                    f"--data-root={self.data}",
                    f"--exec-root={self.directory}/x",
                    f"--pidfile={self.directory}/pid",
                    "--bridge=none",
                    "--iptables=false",
                    "--ip6tables=false",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + STARTED_WITHIN_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                words = (self.directory / "log").read_text(errors="replace")[-3000:]
                pytest.fail(f"the second engine does not start:\n{words}")
            time.sleep(0.1)

    def stop(self):
        """Stop it as an operator would; its containers are stopped with it."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOPPED_WITHIN_S)
        self.kill()

    def kill(self):
        """Kill it without warning; its containers live on until it is started again."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._forget_containerd()

    def _forget_containerd(self):
        """It dies with its parent, but where PID 1 reaps nothing, the next dockerd waits for it."""
        pid_file = self.directory / "x" / "containerd" / "containerd.pid"
        if pid_file.exists():
            with contextlib.suppress(OSError, ValueError):
                os.kill(int(pid_file.read_text()), signal.SIGKILL)
            pid_file.unlink()

    def freeze(self):
        """Let it hold everything and answer nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self):
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def connect(self, **options):
        """Return a connection to it, as a caller of `Supervisor` would have."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DOCKER_HOST", self.address)
            return Engine.connect(**options)

    def load_base(self):
        """Copy the base image from the first engine, without the packages that no test here uses.

        It is copied so that nothing has to be built, and is small so that it is quick.
        """
        first = Engine.connect()
        image = ImageStore(first).guest()
        found = first._client.inspect_image(image)
        first.close()
        config = found["Config"]
        changes = [f"LABEL {key}={json.dumps(value)}" for key, value in config["Labels"].items()]
        changes += [f"ENV {each}" for each in config["Env"]]
        changes += [f"USER {config['User']}", f"WORKDIR {config['WorkingDir']}"]
        run = ["docker", "run", "--rm", "--network=none", "--user=0", image]
        pack = ["tar", "--create", "--one-file-system", "--exclude=*-packages/*", "/"]
        load = ["docker", "--host", self.address, "import"]
        load += [word for each in changes for word in ("--change", each)]
        with subprocess.Popen(
            [*run, *pack], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as packing:
            subprocess.run(
                [*load, "-", found["RepoTags"][0]],
                stdin=packing.stdout,
                stdout=subprocess.DEVNULL,
                check=True,
            )

    def _answers(self):
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(self.address.removeprefix("unix://"))
            except OSError:
                return False
            probe.settimeout(2)
            probe.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            try:
                return b"200 OK" in probe.recv(100)
            except OSError:
                return False

    def _processes(self):
        """What is left of it: containerd and its shims, which name our directory."""
        found = []
        for each in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if str(self.directory) in each.read_text():
                    found.append(int(each.parent.name))
        return found

    def _mounts(self):
        lines = Path("/proc/self/mounts").read_text().splitlines()
        points = [line.split()[1] for line in lines]
        return [point for point in points if point.startswith(str(self.directory))]
