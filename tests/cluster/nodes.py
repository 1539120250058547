"""Clusters on this machine's loopback, for tests and benchmarks, and their nodes' deaths."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class UnavailableError(Exception):
    """This kind of cluster cannot be started here, for the reason given."""


class Local:
    """No cluster: the same tests hold on one machine."""

    name = "local"
    cluster = None
    nodes = ()

    def close(self):
        pass


class Stdio(Local):
    """The node part as a child process, and no cluster at all."""

    name = cluster = "stdio"


class Ray:
    """A head and two nodes, in a process of their own."""

    name = "ray"

    def __init__(self, token=None):
        """`token` is a file with what every part has to know, and every caller."""
        if importlib.util.find_spec("ray") is None:
            msg = "Ray is not installed: pip install 'qiskit-program-runner[ray]'"
            raise UnavailableError(msg)
        self.base = tempfile.mkdtemp(prefix="qr-")  # short: Ray makes sockets below it
        script = str(Path(__file__).with_name("ray_nodes.py"))
        auth = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)} if token else {}
        self.process = subprocess.Popen(
            [sys.executable, script, self.base],
            env={**os.environ, **auth},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        answer = json.loads(self.process.stdout.readline() or "null")
        if answer is None:
            self.close()
            msg = "the Ray cluster did not start"
            raise UnavailableError(msg)
        self.cluster = f"ray://{answer['address']}"
        self.raylets = answer["raylets"]
        self.nodes = tuple(self.raylets)

    def processes(self, node):
        """Return the processes of a node, as Ray's own agents and our janitors among them."""
        return descendants({self.raylets[node.rpartition("/")[2]]})

    def close(self):
        """End it; harmless if repeated."""
        self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        shutil.rmtree(self.base, ignore_errors=True)


class Slurm:
    """A controller and two nodes, as tools/slurm-nodes starts them."""

    name = cluster = "slurm"
    nodes = ("n1", "n2")

    def __init__(self):
        self.earlier = os.environ.get("SLURM_CONF")
        self.base = tempfile.mkdtemp(prefix="qs-")
        Path(self.base).chmod(0o755)
        self.process = subprocess.Popen(
            [ROOT / "tools" / "slurm-nodes", self.base],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        if self.process.stdout.readline() != b"ready\n":
            self.close()
            msg = "Slurm cannot be installed or started here (tools/slurm-nodes says why)"
            raise UnavailableError(msg)
        os.environ["SLURM_CONF"] = f"{self.base}/slurm.conf"  # until another one is started

    def processes(self, node):
        """Return the daemon of a node, and the steps that run on it."""
        found = set()
        for pid in all_processes():
            with contextlib.suppress(OSError):
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
                environment = Path(f"/proc/{pid}/environ").read_bytes()
                if f"SLURM_CONF={self.base}/slurm.conf".encode() not in environment:
                    continue  # of another cluster
                if command.startswith(f"slurmd -D -N {node}".encode()):
                    found.add(pid)
                if f"SLURMD_NODENAME={node}\0".encode() in environment:
                    found |= {pid, parent(pid)}
        return descendants(found - {1})

    def close(self):
        os.environ.pop("SLURM_CONF", None)
        if self.earlier is not None:
            os.environ["SLURM_CONF"] = self.earlier
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()
        shutil.rmtree(self.base, ignore_errors=True)


KINDS = {"local": Local, "stdio": Stdio, "ray": Ray, "slurm": Slurm}


def why_not(kind):
    """Return why a machine like this has no such cluster, None if it can have one."""
    if kind == "slurm" and subprocess.run([ROOT / "tools" / "apt-install"]).returncode:
        return "Slurm is installed and started by root on Debian only"
    return None


# --- processes --------------------------------------------------------------------------------


def all_processes():
    return [int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()]


def parent(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def descendants(roots):
    """Return these processes and all that they have started."""
    parents = {}
    for pid in all_processes():
        with contextlib.suppress(OSError):
            parents[pid] = parent(pid)
    found = set(roots)
    while more := {pid for pid, of in parents.items() if of in found} - found:
        found |= more
    return found


def mentioning(text):
    """Return the processes whose command or environment mentions it."""
    found = set()
    for pid in all_processes():
        with contextlib.suppress(OSError):
            told = [Path(f"/proc/{pid}/{each}").read_bytes() for each in ("cmdline", "environ")]
            if text.encode() in b"".join(told):
                found.add(pid)
    return found


def signal_all(pids, what):
    for each in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, what)


def kill_all(pids):
    """Kill them as a power cut does: all at the same moment, as nearly as that goes."""
    signal_all(pids, signal.SIGSTOP)
    signal_all(pids, signal.SIGKILL)


def wait_until(condition, seconds=30):
    """Wait for it, and return what it returned."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)
    return found
