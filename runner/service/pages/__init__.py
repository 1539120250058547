"""The pages of a service: programs, jobs and results for people, in any browser.

A page shows what the API answers, and changes what the API changes, by the same layer below.  It
works without JavaScript: links, forms, and a reload.  Everything that a program or a person wrote
is text in it, never markup.
"""

from __future__ import annotations

from typing import Final

from runner.service.pages import assets, jobs, machine, programs, signing
from runner.service.routing import Route

ROUTES: Final[tuple[Route, ...]] = (
    *signing.ROUTES,
    *jobs.ROUTES,
    *programs.ROUTES,
    *machine.ROUTES,
    *assets.ROUTES,
)
"""Every address of the pages."""
