"""The machine, for operators: what waits and runs, what it takes, and what is wrong with it."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from runner.service.pages.rendering import address, page, see
from runner.service.routing import Call, Needs


def shown(call: Call) -> Response:
    """Show the queue by user, cells and memory, held backends, and what the doctor has found."""
    desk = call.desk
    return page(call, "machine.html", state=desk.state(), doctor=desk.examination)


def examine(call: Call) -> Response:
    """Examine the machine now, which takes a while."""
    call.desk.examination.run()
    return see("/machine#doctor")


ROUTES: Final = (
    address("GET", "/machine", Needs.OPERATOR, shown),
    address("POST", "/machine/examine", Needs.OPERATOR, examine),
)
