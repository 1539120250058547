"""Checks who can give a Ray cluster jobs: an open cluster is used only on loopback.

Run as a process (`python -m runner.sites.ray_trust HOST:PORT`), it connects to a head without a
token; its exit code says if it was refused.  A separate process, because Ray reads its settings
only once.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from runner.errors import RequestError
from runner.host import commands

_MODE: Final = "RAY_AUTH_MODE"
_WANTED: Final = "token"
_ANSWER_S: Final = 20.0
_REFUSED: Final = 77


def is_loopback(host: str) -> bool:
    """Return True if only this machine can reach an address."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    return host == "localhost"


def check_trust(host: str) -> None:
    """Raise RequestError if others can reach this host's Ray, and no token is configured here."""
    if not (is_loopback(host) or os.environ.get(_MODE) == _WANTED):
        raise _untrusted(host, "and RAY_AUTH_MODE is not token here")


def check_token() -> None:
    """Raise RequestError if a token is required but missing: Ray would crash."""
    if os.environ.get(_MODE) != _WANTED or os.environ.get("RAY_AUTH_TOKEN"):
        return
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    try:
        found = path.read_text().strip()
    except (OSError, ValueError):
        found = ""
    if not found:
        msg = (
            f"RAY_AUTH_MODE is token, but {path} holds none: put the cluster's token there, "
            "or name its file in RAY_AUTH_TOKEN_PATH"
        )
        raise RequestError(msg)


def check_nodes(hosts: list[str], address: str) -> None:
    """Raise RequestError if others can reach these nodes, and the cluster accepts jobs without a
    token.

    Sending a token does not prove that the cluster checks it, so this also tries without one.
    """
    outward = [each for each in hosts if not is_loopback(each)]
    for each in outward:
        check_trust(each)
    if outward and not asks_for_a_token(address):
        raise _untrusted(outward[0], "and takes jobs without a token")


def asks_for_a_token(address: str) -> bool:
    """Return True if the cluster refuses clients without a token."""
    command = commands.module("runner.sites.ray_trust", address)
    environment = {**os.environ, _MODE: "disabled"}
    with contextlib.suppress(subprocess.TimeoutExpired):
        done = subprocess.run(
            command, env=environment, capture_output=True, timeout=_ANSWER_S, check=False
        )
        return done.returncode == _REFUSED
    return False


def knock(address: str) -> None:
    """Show our token to the head.  Raises Ray's AuthenticationError; its RpcError after a minute.

    Answers at once, whereas `ray.init` retries a wrong token for 20 s and does not say that it is
    wrong.
    """
    from ray import _raylet

    inner: Any = _raylet
    inner.GcsClient(address=address)


def _untrusted(host: str, why: str) -> RequestError:
    return RequestError(
        f"the Ray cluster at {host} can be reached from other machines, {why}: anyone who reaches "
        "an open cluster can run code next to a container engine, in effect as root. Start it "
        "with RAY_AUTH_MODE=token, in a private network, and set RAY_AUTH_MODE and "
        "RAY_AUTH_TOKEN_PATH here too (docs/cluster.md)"
    )


def main() -> int:
    """Connect to the head at argv[1] without a token."""
    from ray.exceptions import AuthenticationError

    try:
        knock(sys.argv[1])
    except AuthenticationError:
        return _REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
