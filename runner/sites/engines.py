"""Cluster engines by name.  Each is imported on demand: Ray need not be installed."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from runner.errors import RequestError
from runner.sites.cluster import AnyEngine

_RAY: Final = "ray"
_RAY_SCHEME: Final = "ray://"


def open_engine(name: str, withheld: Collection[str] = ()) -> AnyEngine:
    """Return the engine that `--cluster` names: "ray", "ray://HOST:PORT", "slurm" or "stdio".

    `withheld` are environment variables that no node gets.  Raises RequestError for any other name,
    RunnerError if the cluster does not answer.
    """
    if name == "slurm":
        from runner.sites.slurm import SlurmEngine

        return SlurmEngine(withheld=withheld)
    if name == "stdio":
        from runner.sites.stdio import StdioEngine

        return StdioEngine(withheld=withheld)
    if name == _RAY or name.startswith(_RAY_SCHEME):
        from runner.sites.ray import RayEngine

        return RayEngine(name.removeprefix(_RAY_SCHEME) if name != _RAY else None)
    msg = f"unknown cluster {name!r}: known are ray, ray://HOST:PORT, slurm and stdio"
    raise RequestError(msg)
