"""Our own form of the API, `/v1`: programs, jobs as `--format json` has them, event streams."""

from __future__ import annotations

from typing import Final

from runner.service.own import about, jobs, programs
from runner.service.routing import Route

ROUTES: Final[tuple[Route, ...]] = (*about.ROUTES, *programs.ROUTES, *jobs.ROUTES)
"""Every address of this form."""
