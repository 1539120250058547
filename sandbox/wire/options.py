"""The guest's command line; parsed by hand, because argparse would delay a cold start."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from sandbox.wire import protocol

CARRIERS: Final = ("socket", "stdio")

_SWITCHES: Final = ("--warm", "--session", "--zygote")
_TEXTS: Final = ("--carrier", "--socket", "--program", "--backend")
_LISTS: Final = {
    "--import": "modules",
    "--wipe": "wipe",
    "--covered": "covered",
    "--ulimits": "ulimits",
    "--mask": "masked",
    "--readonly": "readonly",
}
"""The arguments, by the kind of their values, and the field for each list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The guest's options.

    Attributes:
        carrier: the carrier of frames; None means the socket if it can be connected, else stdio.
        modules: modules that the program names; a warm sandbox imports those of the stack.
        wipe: directories that a session empties after each job.
        zygote: make cells on demand, one for each job, and run nothing itself.
        masked, readonly: paths that each cell hides, or makes unchangeable, in its own `/proc`.
        backend: JSON text of the backend that jobs are expected to ask for, and of the limits that
            it is built for: see `backends.Prepared`.
        covered: paths that the host wants masked or read-only: see `processes.confinement`.
        ulimits: the resource limits of each process, such as `core=0`.

    The host sends only `carrier`, `covered`, `warm` and the options of sessions and zygotes.
    """

    carrier: str | None = None
    socket: str = protocol.SOCKET_PATH
    program: str = protocol.PROGRAM_DIRECTORY
    warm: bool = False
    modules: tuple[str, ...] = ()
    session: bool = False
    wipe: tuple[str, ...] = ()
    zygote: bool = False
    masked: tuple[str, ...] = ()
    readonly: tuple[str, ...] = ()
    backend: str = ""
    covered: tuple[str, ...] = ()
    ulimits: tuple[str, ...] = ()


def parse(arguments: list[str]) -> Options:
    """Return the options, or exit with a message that lists the accepted ones."""
    values: dict[str, Any] = {}
    rest = iter(arguments)
    for argument in rest:
        if argument in _SWITCHES:
            values[argument.removeprefix("--")] = True
        elif argument in _TEXTS:
            values[argument.removeprefix("--")] = _value(argument, rest)
        elif argument in _LISTS:
            names = filter(None, _value(argument, rest).split(","))
            values[_LISTS[argument]] = (*values.get(_LISTS[argument], ()), *names)
        else:
            known = ", ".join([*_SWITCHES, *_TEXTS, *_LISTS])
            msg = f"sandbox: unknown argument {argument!r}; it takes {known}"
            raise SystemExit(msg)
    options = Options(**values)
    if options.carrier not in {None, *CARRIERS}:
        msg = f"sandbox: unknown carrier {options.carrier!r}; it is one of {', '.join(CARRIERS)}"
        raise SystemExit(msg)
    return options


def _value(argument: str, rest: Iterator[str]) -> str:
    value = next(rest, None)
    if value is None:
        msg = f"sandbox: {argument} needs a value"
        raise SystemExit(msg)
    return value
