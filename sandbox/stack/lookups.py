"""Caches what Qiskit looks up at each `transpile`: plugins, and signatures of passes.

Each `transpile` builds a new pass manager.  For that, stevedore searches the plugins of every stage
and Qiskit reads the signature of every pass, which takes a third of the time and always gives the
same.  Both have a place for a cached answer: stevedore keeps its entry points, and `inspect` takes
the signature that a function carries.  So no function of theirs is replaced; if another version
looks elsewhere, the cached answers are not found and do no harm.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
import types
from collections.abc import Iterator
from typing import Any


def remember() -> None:
    """Cache the answers that an earlier `transpile` has looked up; imports nothing new."""
    passes = sys.modules.get("qiskit.transpiler.basepasses")
    for each in (passes.BasePass, *_below(passes.BasePass)) if passes else ():
        _keep_signature(vars(each).get("__init__"))
    for points in _found().values():
        for point in points:
            with contextlib.suppress(Exception):  # a broken one fails at its use
                plugin = point.load()
                vars(point)["load"] = lambda plugin=plugin: plugin


def forget() -> None:
    """Drop the cached plugins, because the program may bring others."""
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
