"""The versions that a job ran with, for its record."""

from __future__ import annotations

import functools
from typing import Final

from runner import __version__
from runner.images import build_id
from runner.programs import images_directory, wheels
from sandbox.wire.protocol import PROTOCOL_VERSION

_TOLD: Final = ("qiskit", "qiskit-aer", "numpy", "scipy")


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions of the runner, the protocol, the guest and the stack in the image."""
    lock = images_directory() / "base" / "requirements.lock"
    pins = wheels.read_lock(lock.read_text(), str(lock))
    return {
        "runner": __version__,
        "protocol": str(PROTOCOL_VERSION),
        "guest": build_id(),
        "python": wheels.PYTHON_VERSION,
        **{each.name: each.version for each in pins if each.name in _TOLD},
    }
