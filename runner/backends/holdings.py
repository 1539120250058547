"""The other ends of held backends: processes that are started, and objects that are there already.

A holder's process gets the Python of its provider's environment, the variables that its operator
names, and nothing else of this process.  Of our code it has two packages by their place, so that
nothing else of this environment comes with them.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Protocol

from holder.link import Link
from runner.engine.forks import close_in_children
from runner.errors import BackendUnavailableError
from runner.policy.held import HeldBackend

CLOSE_S: Final = 15.0
"""How long a holder may take to cancel what it has on its device, in seconds."""

_PLACES: Final = {
    name: str(Path(__file__).parents[2] / name / "__init__.py") for name in ("sandbox", "holder")
}
_BOOTSTRAP: Final = """
import importlib.util, os, sys
for name, path in {places}.items():
    where = [os.path.dirname(path)]
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=where)
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
from holder.{module} import main
main({descriptor})
"""
_PASSED_ON: Final = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TZ")
"""Variables that no process can do without in some environment, and that are no secrets."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A connection to what holds a backend; `end` hangs up, and waits until that is gone."""

    link: Link
    end: Callable[[], None]


class Holding(Protocol):
    """What can be opened, and opened again after it has died."""

    secrets: Sequence[str]
    """Values that must not be in anything that it sends."""

    def open(self) -> Opened: ...
    def open_readers(self) -> tuple[socket.socket, Callable[[], None]]: ...


class ProcessHolding:
    """A backend of `qrunner.toml`, in a process of its own."""

    def __init__(self, definition: HeldBackend, environment: Mapping[str, str]) -> None:
        self._definition = definition
        self._python = definition.python or sys.executable
        missing = [each for each in definition.env if each not in environment]
        if missing:
            msg = f"backend {definition.name!r}: environment variable {missing[0]} is not set"
            raise BackendUnavailableError(msg)
        self._given = {name: environment[name] for name in definition.env}
        self.secrets: Sequence[str] = list(self._given.values())

    def open(self) -> Opened:
        definition = self._definition
        ours, process = _start(self._python, "process", self._given, definition.log)
        link = Link(ours)
        asked = {
            "factory": definition.factory,
            "args": dict(definition.args),
            "options": list(definition.options),
            "max_shots": definition.max_shots,
        }
        link.send(asked)
        return Opened(link, lambda: _end(link.hang_up, process))

    def open_readers(self) -> tuple[socket.socket, Callable[[], None]]:
        return _open_readers(self._python)


class InlineHolding:
    """A backend object of this process, which has its credentials already.

    Its calls are answered in threads here.  What a program sent is read and written anew by a
    reader's process all the same.
    """

    secrets: Sequence[str] = ()

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def open(self) -> Opened:
        from holder import process  # with Qiskit, which whoever has such an object has imported
        from holder.desk import Desk
        from holder.refusals import Refused

        try:
            desk = Desk(self._backend)
        except Refused as error:
            raise BackendUnavailableError(str(error)) from error
        described = desk.describe()
        ours, theirs = map(Link, socket.socketpair())
        thread = threading.Thread(
            target=process.serve, args=(theirs, desk, described), name="qrunner-held", daemon=True
        )
        thread.start()

        def end() -> None:
            ours.hang_up()
            thread.join(CLOSE_S)
            theirs.close()
            canceller = threading.Thread(target=desk.cancel_all, daemon=True)
            canceller.start()
            canceller.join(CLOSE_S)

        return Opened(ours, end)

    def open_readers(self) -> tuple[socket.socket, Callable[[], None]]:
        return _open_readers(sys.executable)


def _open_readers(python: str) -> tuple[socket.socket, Callable[[], None]]:
    ours, process = _start(python, "reader", {"HOME": "/nonexistent"}, None)
    return ours, lambda: _end(ours.close, process)


def _start(
    python: str, module: str, environment: Mapping[str, str], log: Path | None
) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """Start one of the modules of `holder`, at the other end of the socket that is returned."""
    ours, theirs = socket.socketpair()
    close_in_children(ours)
    code = _BOOTSTRAP.format(places=_PLACES, module=module, descriptor=theirs.fileno())
    passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    try:
        with theirs, _output(log) as output:
            process = subprocess.Popen(
                [python, "-P", "-c", code],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**passed_on, "RUST_BACKTRACE": "0", **environment},
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # an interrupt at the keyboard is not meant for it
            )
    except OSError as error:
        ours.close()
        msg = f"a process for a held backend cannot be started: {error}"
        raise BackendUnavailableError(msg) from error
    return ours, process


def _output(log: Path | None) -> contextlib.AbstractContextManager[IO[bytes] | int]:
    if log is None:
        return contextlib.nullcontext(subprocess.DEVNULL)
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    return os.fdopen(descriptor, "ab")


def _end(hang_up: Callable[[], None], process: subprocess.Popen[bytes]) -> None:
    """Let a process end by itself, and kill it if it does not."""
    hang_up()
    try:
        process.wait(CLOSE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
