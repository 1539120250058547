"""IBM's form of the API: what the unmodified clients of Qiskit Runtime need, and no more.

It is a translation: `qiskit-ibmq-provider` 0.19.2 and `qiskit-ibm-runtime` 0.8.0 and 0.15.1, called
the older clients here, and 0.51, called the newer one, find their paths, words and values.  The
tests run them as they are.
"""

from __future__ import annotations

from typing import Final

from runner.service.ibm import account, backends, jobs, programs
from runner.service.routing import Route

ROUTES: Final[tuple[Route, ...]] = (
    *account.ROUTES,
    *backends.ROUTES,
    *programs.ROUTES,
    *jobs.ROUTES,
)
"""Every address of this form, but for the streams."""
