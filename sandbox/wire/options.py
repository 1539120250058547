"""The guest's command line; parsed by hand, because argparse would delay a cold start."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from sandbox.wire import protocol

CARRIERS: Final = ("socket", "stdio")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The guest's options.

    Attributes:
        carrier: the carrier of frames; None means the socket if it can be connected, else stdio.
        modules: modules that the program names; a warm sandbox imports those of the stack.
        wipe: directories that a session empties after each job.
        backend: JSON text of the backend that jobs are expected to ask for, and of the limits that
            it is built for: see `backends.Prepared`.
        covered: paths that the host wants masked or read-only: see `processes.confinement`.

    The host sends only `carrier`, `covered`, `warm` and the options of sessions.
    """

    carrier: str | None = None
    socket: str = protocol.SOCKET_PATH
    program: str = protocol.PROGRAM_DIRECTORY
    warm: bool = False
    modules: tuple[str, ...] = ()
    session: bool = False
    wipe: tuple[str, ...] = ()
    backend: str = ""
    covered: tuple[str, ...] = ()


def parse(arguments: list[str]) -> Options:
    """Return the options, or exit with a message that lists the accepted ones."""
    options = Options()
    rest = iter(arguments)
    for argument in rest:
        match argument:
            case "--warm":
                options = replace(options, warm=True)
            case "--import":
                names = _value(argument, rest).split(",")
                options = replace(options, modules=(*options.modules, *filter(None, names)))
            case "--session":
                options = replace(options, session=True)
            case "--wipe":
                options = replace(options, wipe=(*options.wipe, _value(argument, rest)))
            case "--covered":
                options = replace(options, covered=tuple(_value(argument, rest).split(":")))
            case "--carrier":
                options = replace(options, carrier=_carrier(_value(argument, rest)))
            case "--socket" | "--program" | "--backend":
                text: dict[str, Any] = {argument.removeprefix("--"): _value(argument, rest)}
                options = replace(options, **text)
            case _:
                msg = (
                    f"sandbox: unknown argument {argument!r}; it takes --carrier, --socket, "
                    "--program, --covered, --warm, --import, --session, --wipe and --backend"
                )
                raise SystemExit(msg)
    return options


def _value(argument: str, rest: Iterator[str]) -> str:
    value = next(rest, None)
    if value is None:
        msg = f"sandbox: {argument} needs a value"
        raise SystemExit(msg)
    return value


def _carrier(name: str) -> str:
    if name not in CARRIERS:
        msg = f"sandbox: unknown carrier {name!r}; it is one of {', '.join(CARRIERS)}"
        raise SystemExit(msg)
    return name
