"""The machine that figures are of, and how much of its memory is in use."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import runner
from runner.engine import Engine


def describe(engine: Engine) -> dict[str, Any]:
    """Return what a reader needs to judge figures by, in the order of the documents."""
    info = engine.info()
    memory = _meminfo().get("MemTotal", 0)
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory / (1 << 30), 1),
        "system": f"{platform.system()} {platform.release()} ({platform.machine()})",
        "engine": info.version,
        "docker_command": _docker_command(),
        "control_groups": "v2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "v1",
        "python": platform.python_version(),
        "qrunner": runner.__version__,
        "load_before": round(os.getloadavg()[0], 1),
        "date": datetime.now(UTC).date().isoformat(),
    }


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _docker_command() -> str | None:
    docker = shutil.which("docker")
    if docker is None:
        return None
    said = subprocess.run([docker, "--version"], capture_output=True, text=True, check=False)
    return said.stdout.strip() or None


def _meminfo() -> dict[str, int]:
    """Return what the kernel says of its memory, in bytes; nothing where there is no /proc."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in lines)
    return {name: int(rest.split()[0]) << 10 for name, _, rest in pairs}


def used_bytes() -> int | None:
    """Return what is in use of the host's memory, caches apart, or None where nobody says."""
    found = _meminfo()
    if "MemAvailable" not in found:
        return None
    return found["MemTotal"] - found["MemAvailable"]


class Gauge:
    """The host's memory while a block runs, less what was in use when it began."""

    def __init__(self) -> None:
        self._before = used_bytes()
        self.most_bytes = self.now_bytes

    @property
    def now_bytes(self) -> int | None:
        """What has been added by now, or None where nobody says."""
        now = used_bytes()
        return None if now is None or self._before is None else max(0, now - self._before)

    def look(self) -> None:
        """Remember the most."""
        now = self.now_bytes
        if now is not None and self.most_bytes is not None:
            self.most_bytes = max(self.most_bytes, now)


@contextlib.contextmanager
def gauge() -> Iterator[Gauge]:
    """Watch the host's memory, twenty times a second."""
    found = Gauge()
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(0.05):
            found.look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        is_over.set()
        thread.join()
