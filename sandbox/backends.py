"""From the description of a backend to the object that `main` gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

_MEMORY_SHARE: Final = 0.9
"""Of the sandbox's memory, what a simulation may plan with; the rest is Python and Qiskit."""


class BackendError(ValueError):
    """A backend that does not exist here; the message names those that do."""


def prepare() -> None:
    """Import everything that building a backend and most programs will need."""
    import qiskit
    import qiskit_aer  # noqa: F401

    qiskit.transpile  # noqa: B018 (the package resolves some of its names on first use)


def build(description: Mapping[str, Any], limits: Mapping[str, float]) -> Any:
    """Return the backend for `{"name": …, "options": {…}}`, sized to the sandbox's limits."""
    name = description.get("name")
    builder = _BUILDERS.get(name) if isinstance(name, str) else None
    if builder is None:
        msg = f"unknown backend {name!r}; it is one of: {', '.join(_BUILDERS)}"
        raise BackendError(msg)
    return builder(dict(description.get("options") or {}), limits)


def _aer(options: dict[str, Any], limits: Mapping[str, float]) -> Any:
    from qiskit_aer import AerSimulator

    # Aer reads the host's memory and processors, not the cgroup's.
    if "memory_bytes" in limits:
        options.setdefault("max_memory_mb", int(limits["memory_bytes"] * _MEMORY_SHARE) >> 20)
    if "cpus" in limits:
        options.setdefault("max_parallel_threads", max(1, int(limits["cpus"])))
    return AerSimulator(**options)


def _none(_options: dict[str, Any], _limits: Mapping[str, float]) -> None:
    """No backend at all: `main` gets None.  For tests of everything else."""


_BUILDERS: Final[dict[str, Callable[[dict[str, Any], Mapping[str, float]], Any]]] = {
    "aer_simulator": _aer,
    "none": _none,
}
