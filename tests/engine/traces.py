"""What one process has left on this host and its engine, and what this process holds."""

from __future__ import annotations

import gc
import os
import threading
from pathlib import Path

from runner.engine import OWN_LABEL
from runner.host.processes import HostProcess
from runner.sandboxes import cgroup, residence

LEFT_BEHIND = 6
"""The exit code of a run that has left something behind, none of pytest's own: such a run gets no
second try by `make test`, which would know nothing of what is left."""


def containers_of(engine, pid):
    """Return the containers whose supervisor is process `pid`: id → labels."""
    found = {}
    for container, labels in engine.containers().items():
        process = HostProcess.parse(labels.get(f"{OWN_LABEL}.owner", ""))
        if process is not None and process.pid == pid:
            found[container] = labels
    return found


def traces_of(engine, pid):
    """Return containers, control groups and directories that belong to process `pid`."""
    processes = {f"process {each}" for each in residence.processes() if each.pid == pid}
    residence.tidy()
    return set(containers_of(engine, pid)) | processes


def processes_in(directory):
    """Return the processes in control groups whose path contains `directory`, but no janitor."""
    found = set()
    for each in Path("/proc").glob("[0-9]*/cgroup"):
        try:
            group = each.read_text()
            if directory in group and cgroup.KEEPER not in group:
                found.add(int(each.parent.name))
        except OSError:
            continue
    return found


def children_of(pid):
    """Return the child processes of all threads of a process."""
    found = set()
    for each in Path(f"/proc/{pid}/task").iterdir():
        found |= {int(child) for child in (each / "children").read_text().split()}
    return found


def holdings_here():
    """Count what this process holds: descriptors, threads, and children."""
    gc.collect()
    return {
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "threads": threading.active_count(),
        "children": len(children_of(os.getpid())),
    }
