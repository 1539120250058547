"""The message for an engine that does not answer: the system's reason, and what to do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

_INSTALL = (
    "install one (Debian, Ubuntu: apt-get install docker.io; elsewhere: Docker Desktop, Podman)\n"
    "and start it (systemctl start docker, or: dockerd &), or point DOCKER_HOST at a running one"
)
_PERMIT = (
    "it is there, but this user may not use it: join its group (usermod -aG docker USER, then log\n"
    "in again; its members are as good as root), or point DOCKER_HOST at a rootless engine"
)
_START_PODMAN = (
    "Podman is here, but its socket is not used: systemctl {user}start podman.socket, and\n"
    "export DOCKER_HOST=unix://{socket}"
)
_CORRECT = "DOCKER_HOST names it: correct or unset that, or start the engine it means"


def explain(address: str, error: BaseException) -> str:
    """Return the message for an engine at `address` that could not be reached."""
    # Wrappers of the system's error may be OSErrors too, but have no errno.
    found = (each for each in _chain(error) if isinstance(each, OSError))
    system = next((each for each in found if isinstance(each.errno, int)), None)
    reason = system.strerror if system else str(error).strip().split("\n")[0]
    if isinstance(system, PermissionError):
        advice = _PERMIT
    else:
        advice = _CORRECT if os.environ.get("DOCKER_HOST") else _obtain()
    return f"no container engine answers at {address} ({reason or repr(error)}):\n{advice}"


def _obtain() -> str:
    """Return how to get an engine where none has been chosen."""
    if shutil.which("podman") is None:
        return _INSTALL
    if os.geteuid() == 0:
        return _START_PODMAN.format(user="", socket="/run/podman/podman.sock")
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    return _START_PODMAN.format(user="--user ", socket=f"{runtime}/podman/podman.sock")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, then the errors that it wraps, as its cause or in its arguments."""
    pending, seen = [error], set()
    while pending:
        each = pending.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        inner = (each.__cause__, each.__context__, *each.args, getattr(each, "reason", None))
        pending += [other for other in inner if isinstance(other, BaseException)]
