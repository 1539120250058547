"""What Qiskit looks up anew at each `transpile`, looked up once: plugins, signatures of passes.

`transpile` builds its pass manager anew each time.  For that stevedore finds every plugin of every
stage again, and Qiskit reads the signature of every pass again; that is a third of the time,
and neither ever changes.  Both have a place where the answer can be left: stevedore keeps its entry
points, and `inspect` takes a signature that a function carries.  So nothing of theirs is replaced,
and where another version looks elsewhere, what is left here is not found and does no harm.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
import types
from collections.abc import Iterator
from typing import Any


def remember() -> None:
    """Leave the answers to what a `transpile` before this has asked; imports nothing new."""
    passes = sys.modules.get("qiskit.transpiler.basepasses")
    for each in (passes.BasePass, *_below(passes.BasePass)) if passes else ():
        _keep_signature(vars(each).get("__init__"))
    for points in _found().values():
        for point in points:
            with contextlib.suppress(Exception):  # one that cannot be loaded fails as it would
                plugin = point.load()
                vars(point)["load"] = lambda plugin=plugin: plugin


def forget() -> None:
    """Let plugins be looked for again, where there may be others now."""
    _found().clear()


def _found() -> dict[str, list[Any]]:
    """Return the entry points that stevedore has found, by the name of their group."""
    stevedore = sys.modules.get("stevedore.extension")
    found = stevedore.ExtensionManager.ENTRY_POINT_CACHE if stevedore else {}
    return found if isinstance(found, dict) else {}


def _below(kind: type) -> Iterator[type]:
    each: type
    for each in kind.__subclasses__():
        yield each
        yield from _below(each)


def _keep_signature(function: object) -> None:
    if isinstance(function, types.FunctionType) and not hasattr(function, "__signature__"):
        with contextlib.suppress(TypeError, ValueError):
            function.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
