"""Whom a Ray cluster obeys: off loopback one that takes jobs from anybody is not used.

Run as a process (`python -m runner.sites.ray_trust HOST:PORT`) it goes to a head without a token,
and says by its exit code whether it was refused: Ray reads its settings once in each process.
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
    """Whether only this machine reaches an address."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    return host == "localhost"


def check_trust(host: str) -> None:
    """Raise RequestError if others can reach this host's Ray, and we have no token to show."""
    if not (is_loopback(host) or os.environ.get(_MODE) == _WANTED):
        raise _untrusted(host, "and RAY_AUTH_MODE is not token here")


def check_token() -> None:
    """Raise RequestError if there is to be a token and is none: Ray would crash over it."""
    if os.environ.get(_MODE) != _WANTED or os.environ.get("RAY_AUTH_TOKEN"):
        return
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    try:
        found = path.read_text().strip()
    except (OSError, ValueError):
        found = ""
    if not found:
        msg = (
            f"RAY_AUTH_MODE is token, and there is none in {path}: put the cluster's token there, "
            "or name its file in RAY_AUTH_TOKEN_PATH"
        )
        raise RequestError(msg)


def check_nodes(hosts: list[str], address: str) -> None:
    """Raise RequestError if others can reach these nodes of the cluster, and it would obey them.

    That we show a token does not say that anybody looks at it, so one comes without.
    """
    outward = [each for each in hosts if not is_loopback(each)]
    for each in outward:
        check_trust(each)
    if outward and not asks_for_a_token(address):
        raise _untrusted(outward[0], "and takes jobs without a token")


def asks_for_a_token(address: str) -> bool:
    """Whether the cluster refuses who has no token."""
    command = commands.module("runner.sites.ray_trust", address)
    environment = {**os.environ, _MODE: "disabled"}
    with contextlib.suppress(subprocess.TimeoutExpired):
        done = subprocess.run(
            command, env=environment, capture_output=True, timeout=_ANSWER_S, check=False
        )
        return done.returncode == _REFUSED
    return False


def knock(address: str) -> None:
    """Let the head see our token.  Raises Ray's AuthenticationError, its RpcError after a minute.

    At once: `ray.init` tries a wrong token for 20 s, and does not say that it is wrong.
    """
    from ray import _raylet

    inner: Any = _raylet
    inner.GcsClient(address=address)


def _untrusted(host: str, why: str) -> RequestError:
    return RequestError(
        f"the Ray cluster at {host} can be reached from other machines, {why}: whoever reaches one "
        "that is open runs code next to a container engine, which is as good as root. Start it "
        "with RAY_AUTH_MODE=token, in a private network, and set RAY_AUTH_MODE and "
        "RAY_AUTH_TOKEN_PATH here too (docs/cluster.md)"
    )


def main() -> int:
    """Go to argv[1] as somebody without a token."""
    from ray.exceptions import AuthenticationError

    try:
        knock(sys.argv[1])
    except AuthenticationError:
        return _REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
