"""The engine's descriptions of itself, of a container and of an image, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerState:
    """The state of one container at one moment, as reported by the engine."""

    running: bool
    pid: int
    exit_code: int
    oom_killed: bool
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """The facts about an engine that decide how it is used."""

    version: str
    architecture: str
    cgroup_driver: str
    runtimes: tuple[str, ...]
    security_options: tuple[str, ...]
    cpus: int
    raw: Mapping[str, Any]

    @property
    def is_rootless(self) -> bool:
        """True if the engine runs as an ordinary user."""
        return any("rootless" in each for each in self.security_options)

    @property
    def maps_ids(self) -> bool:
        """True if root of a container is another user on the engine's machine."""
        return self.is_rootless or any("userns" in each for each in self.security_options)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineImage:
    """An image that the engine has.

    `tagged` is when it last got a tag, in seconds since the epoch, 0 if the engine does not know.
    `layers` are the hashes of its uncompressed layers; `config` and `platform` are as in the
    configuration of an OCI image.
    """

    id: str
    labels: Mapping[str, str]
    created: str
    tagged: float
    layers: tuple[str, ...]
    config: Mapping[str, Any]
    platform: Mapping[str, str]
