"""The machine, for operators: what waits and runs, what it takes, and what is wrong with it."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from runner.service.pages.rendering import address, page
from runner.service.routing import Call, Needs


def shown(call: Call) -> Response:
    """Show the queue by user, cells and memory, held backends, and what the doctor has found."""
    return page(call, "machine.html", gauges=call.desk.gauges())


ROUTES: Final = (address("GET", "/machine", Needs.OPERATOR, shown),)
