"""The process of one held backend: makes it, and answers calls until its runner goes."""

from __future__ import annotations

import contextlib
import importlib
import os
import socket
import sys
import threading
import traceback
from typing import Any, Final

from holder.desk import Desk
from holder.link import VERSION, Link, LinkError
from holder.refusals import Refused

MAX_ID_CHARS: Final = 500
"""Of a job on a device."""

CANCELLING_S: Final = 10.0
"""How long cancelling on the device may take after the runner has gone, in seconds."""


def main(descriptor: int) -> None:
    """Serve on the inherited socket; ends with the process."""
    link = Link(socket.socket(fileno=descriptor))
    received = link.receive()
    if received is None:
        return
    asked, _ = received
    try:
        desk = _open(asked)
        described = desk.describe()
    except BaseException as error:  # noqa: BLE001  whatever a provider raises
        traceback.print_exc()
        link.send({"kind": "failed", "error": f"{type(error).__name__}: {error}"[:2000]})
        return
    serve(link, desk, described)
    _leave(desk)


def _open(asked: dict[str, Any]) -> Desk:
    module, _, name = asked["factory"].partition(":")
    factory = getattr(importlib.import_module(module), name)
    held = factory(**asked["args"])
    return Desk(held, allowed=asked["options"], max_shots=asked["max_shots"])


def serve(link: Link, desk: Desk, described: dict[str, Any]) -> None:
    """Answer calls, each in a thread of its own, until the other side hangs up."""
    import json

    link.send({"kind": "ready", "version": VERSION}, json.dumps(described).encode())
    with contextlib.suppress(LinkError):
        while (received := link.receive()) is not None:
            head, body = received
            arguments = (link, desk, head, body)
            threading.Thread(target=_answer, args=arguments, daemon=True).start()


def _answer(link: Link, desk: Desk, asked: dict[str, Any], body: bytes) -> None:
    call = asked["call"]
    try:
        answer = desk.answer(
            call,
            asked["verb"],
            body,
            asked["cost"],
            lambda job: link.send({"kind": "submitted", "call": call, "job": job[:MAX_ID_CHARS]}),
        )
        head, said = {"kind": "answer", "call": call, "used": answer.used}, answer.body
    except Refused as error:
        head, said = {"kind": "refusal", "call": call}, str(error).encode()
    except BaseException as error:  # noqa: BLE001  whatever a provider raises
        traceback.print_exc()
        # A provider's text may hold a token or an address: the program gets the class only.
        what = f"the device or its provider failed ({type(error).__name__})"
        head, said = {"kind": "refusal", "call": call}, what.encode()
    try:
        link.send(head, said)
    except LinkError as error:
        traceback.print_exc()
        with contextlib.suppress(LinkError):
            what = f"the answer cannot be passed on: {error}"
            link.send({"kind": "refusal", "call": call}, what.encode())


def _leave(desk: Desk) -> None:
    """Cancel what is still on the device, and end this process whatever its threads do."""
    canceller = threading.Thread(target=desk.cancel_all, daemon=True)
    canceller.start()
    canceller.join(CANCELLING_S)
    sys.stderr.flush()
    os._exit(0)
