"""The guest: everything that runs inside a sandbox, on the standard library and Qiskit."""

from __future__ import annotations

import os
from typing import Final

DIRECTORY: Final = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
"""The directory of the guest's own modules."""
