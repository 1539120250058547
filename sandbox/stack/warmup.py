"""Warms up a waiting sandbox before its job: imports and first uses, without a trace.

No program code runs here, and no package of the program is imported, only modules of the base
image.  Afterwards a program sees the same interpreter, but faster.  A contract test compares what
a program sees with and without the warm-up.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from concurrent.futures import Future

from sandbox.stack import backends, lookups

PACKAGE: Final = __name__.partition(".")[0]
PACKAGES: Final = (
    PACKAGE,
    *(f"{PACKAGE}.{room}" for room in ("codec", "processes", "program", "stack", "wire")),
)
"""The guest's packages, outermost first."""

_LOG: Final = 2
_MAX_SAID_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Warmth:
    """What the warm-up left behind.

    `said` has the texts that the program's own imports would have printed.  `modules` are the
    modules that would not have been imported yet, and `tops` the first parts of their names; `tops`
    is empty once `modules` has only those that the program has files for.  `ours` are the names of
    our own modules among the first `count` imported ones.  `prepared` is the backend that a job is
    expected to ask for.
    """

    said: bytes = b""
    modules: frozenset[str] = frozenset()
    tops: frozenset[str] = frozenset()
    ours: tuple[str, ...] = ()
    count: int = 0
    prepared: backends.Prepared | None = None


def is_ours(name: str) -> bool:
    """Return whether a module belongs to the guest."""
    return name.partition(".")[0] == PACKAGE


def needs_qiskit(names: tuple[str, ...], backend: str) -> bool:
    """Return whether a program that imports these, or its backend, needs Qiskit."""
    return not backends.is_none(backend) or any(name.startswith("qiskit") for name in names)


def warm_up(names: tuple[str, ...], backend: str = "") -> Warmth:
    """Import the stack and the named modules that belong to it, and use each part once.

    If `backend` is given, in the form of `backends.Prepared`, it is built too.  If it is the
    backend "none", and no module of Qiskit is named, none of Qiskit is imported.  The function
    never fails: what cannot be imported, used or built here fails later, in the program.
    """
    import tempfile  # here and below: a cold sandbox imports this module, but not these
    import warnings

    is_quantum = needs_qiskit(names, backend)
    if is_quantum:
        backends.prepare()
    before = frozenset(sys.modules)
    with _listening() as said:
        for name in names:
            _import(name)
    with _listening(), warnings.catch_warnings(), contextlib.suppress(Exception):
        warnings.simplefilter("ignore")
        if is_quantum:
            _use_once()
    prepared = None
    with _listening(), warnings.catch_warnings(), contextlib.suppress(Exception):
        warnings.simplefilter("ignore")
        prepared = backends.Prepared(backend) if backend else None
    _empty(tempfile.gettempdir())
    early = frozenset(sys.modules) - before
    return Warmth(
        said=bytes(said),
        modules=early,
        tops=frozenset(name.partition(".")[0] for name in early),
        ours=tuple(filter(is_ours, sys.modules)),
        count=len(sys.modules),
        prepared=prepared,
    )


def _import(name: str) -> None:
    """Import a module if it belongs to the stack, or has been imported with it."""
    import importlib.machinery
    import importlib.util

    top = name.partition(".")[0]
    if importlib.machinery.PathFinder.find_spec(top, [_site()]) is None:
        return
    with contextlib.suppress(Exception, SystemExit):
        if importlib.util.find_spec(name) is not None:
            importlib.import_module(name)


def _site() -> str:
    """Return the directory in which the stack is installed."""
    import importlib.util

    found = importlib.util.find_spec("numpy")
    return os.path.dirname(os.path.dirname(found.origin or "")) if found else ""  # noqa: PTH120


def _use_once() -> None:
    """Do a first transpile and simulation, and cache what each of them looks up.

    The transpile is at the default level, as in nearly every program.  It leaves an idle native
    thread of linear algebra, which a fork does not need (QISKIT_IN_PARALLEL is TRUE).
    """
    import qiskit
    from qiskit_aer.jobs import utils

    backend = backends.build({"name": "aer_simulator"}, {"cpus": 1})
    circuit = qiskit.QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.measure_all()
    circuit = qiskit.transpile(circuit, backend)
    lookups.remember()
    executor, utils.DEFAULT_EXECUTOR = utils.DEFAULT_EXECUTOR, _Inline()
    try:
        backend.run(circuit, shots=1).result().get_counts()
    finally:
        utils.DEFAULT_EXECUTOR = executor


class _Inline:
    """Runs submitted work at once in this thread: Aer's own executor would leave a thread."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        from concurrent.futures import Future

        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


@contextlib.contextmanager
def _listening() -> Iterator[bytearray]:
    """Collect what the block prints, by any means, instead of logging it."""
    import tempfile

    said = bytearray()
    log, output = os.dup(_LOG), os.dup(1)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), _LOG)
        os.dup2(file.fileno(), 1)
        try:
            yield said
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os.dup2(log, _LOG)
            os.dup2(output, 1)
            os.close(log)
            os.close(output)
            file.seek(0)
            said += file.read(_MAX_SAID_BYTES)


def _empty(directory: str) -> None:
    """Empty the sandbox's own /tmp, which was empty before."""
    import shutil

    # Outside of a sandbox, /tmp is not ours.
    if os.getppid() != 1 or directory != os.getcwd():  # noqa: PTH109
        return
    for each in os.scandir(directory):
        if each.is_dir(follow_symlinks=False):
            shutil.rmtree(each, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                os.unlink(each)  # noqa: PTH108
