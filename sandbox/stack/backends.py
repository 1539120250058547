"""Builds the backend that `main` gets, from its description.

Every job imports this module, so it imports only what the requested backend needs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

MEMORY_SHARE: Final = 0.9
"""The share of the sandbox's memory for a simulation; Python and Qiskit need the rest."""


HELD: Final = "held"
"""The name of a backend that the host holds; only the host can give a description of one."""

_ALIKE: Final = frozenset({"aer_simulator", "device"})
"""The backends that are equal whenever they are built; others may draw random numbers."""


class BackendError(ValueError):
    """A backend that does not exist; the message names those that do."""


def prepare() -> None:
    """Import everything that building a backend and most programs will need."""
    import qiskit
    import qiskit_aer  # noqa: F401

    import sandbox.stack.simulator  # noqa: F401

    qiskit.transpile  # noqa: B018 (the package resolves some of its names on first use)


def is_none(text: str) -> bool:
    """Return whether a text that `Prepared` takes says that `main` gets no backend."""
    return bool(text) and json.loads(text)["backend"]["name"] == "none"


class Prepared:
    """A backend that is built before there is a job, for whichever asks for just that.

    `text` is JSON: the description and the limits, as they are in a request.  Raises whatever
    building it raises.
    """

    def __init__(self, text: str) -> None:
        asked = json.loads(text)
        self.description: dict[str, Any] = asked["backend"]
        self._limits = _limits_for_aer(asked["limits"])
        self.is_there = self.description["name"] in _ALIKE
        self.backend = build(self.description, asked["limits"]) if self.is_there else None

    def fits(self, description: Mapping[str, Any], limits: Mapping[str, float]) -> bool:
        """Return whether `build` would give the same."""
        return (
            self.is_there
            and self.description == description
            and self._limits == _limits_for_aer(limits)
        )


def build(
    description: Mapping[str, Any],
    limits: Mapping[str, float],
    prepared: Prepared | None = None,
    caller: Any = None,
) -> Any:
    """Return the backend for `{"name": …, "options": {…}}`, sized to the sandbox's limits.

    `caller` is the way to a backend that the host holds.
    """
    if prepared is not None and prepared.fits(description, limits):
        return prepared.backend
    name = description.get("name")
    if name == HELD:
        from sandbox.stack import held

        return held.HeldBackend(description["options"], caller)
    builder = _BUILDERS.get(name) if isinstance(name, str) else None
    if builder is None:
        msg = f"unknown backend {name!r}; it is one of: {', '.join(_BUILDERS)}"
        raise BackendError(msg)
    return builder(dict(description.get("options") or {}), _limits_for_aer(limits))


def _limits_for_aer(limits: Mapping[str, float]) -> dict[str, int]:
    """Return the limits as Aer's options: it reads the host's own, not the cgroup's."""
    given = {}
    if "memory_bytes" in limits:
        given["max_memory_mb"] = int(limits["memory_bytes"] * MEMORY_SHARE) >> 20
    if "cpus" in limits:
        given["max_parallel_threads"] = max(1, int(limits["cpus"]))
    return given


def _aer_simulator(options: dict[str, Any], limits: dict[str, int]) -> Any:
    from sandbox.stack import simulator

    return simulator.aer_simulator(options, limits)


def _generic_backend_v2(options: dict[str, Any], limits: dict[str, int]) -> Any:
    from sandbox.stack import devices

    return devices.generic_backend_v2(options, limits)


def _device(options: dict[str, Any], limits: dict[str, int]) -> Any:
    from sandbox.stack import devices

    return devices.device(options, limits)


def _none(_options: dict[str, Any], _limits: dict[str, int]) -> None:
    """No backend at all, for programs that need none: `main` gets None."""


_BUILDERS: Final[dict[str, Callable[[dict[str, Any], dict[str, int]], Any]]] = {
    "aer_simulator": _aer_simulator,
    "generic_backend_v2": _generic_backend_v2,
    "device": _device,
    "none": _none,
}
