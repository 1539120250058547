"""Loads a program: hides our own modules, imports it, finds `main`, and checks the inputs."""

from __future__ import annotations

import importlib.util
import inspect
import itertools
import os
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any, Final

from sandbox import DIRECTORY
from sandbox.program import ibm
from sandbox.stack import lookups
from sandbox.stack.warmup import PACKAGES, Warmth, is_ours
from sandbox.wire.protocol import PACKAGES_DIRECTORY

_hidden: Final[list[object]] = []
"""Our hidden modules, kept alive because destroying them would take time."""

_OUR_DIRECTORY: Final = os.path.dirname(DIRECTORY)  # noqa: PTH120


class NoMainError(Exception):
    """The program has no usable `main`."""


def clear_stage(directory: str, warmth: Warmth) -> None:
    """Make the interpreter look as if it had run nothing before the program.

    Our modules and our directory disappear, so that a program may have its own `protocol.py`.
    `__main__` becomes an empty module, so that children spawned by multiprocessing do not run our
    code again.  After this call none of our modules can be imported.
    """
    for name in clear_early(directory, warmth).modules:
        sys.modules.pop(name, None)
    for name in PACKAGES:
        _hide(name)
    sys.modules["__main__"] = types.ModuleType("__main__")
    others = [each for each in sys.path if each != _OUR_DIRECTORY]
    sys.path[:] = [directory, *others, PACKAGES_DIRECTORY]
    ibm.stand_in()
    if os.environ.get("PYTHONPATH") == _OUR_DIRECTORY:
        del os.environ["PYTHONPATH"]


def clear_early(directory: str, warmth: Warmth) -> Warmth:
    """Do the part of `clear_stage` that needs no job; return the warmth for the rest.

    If the program has a file with the name of a module that a warm sandbox has imported ahead, the
    program's file must be found, as in a cold sandbox.  The `modules` of the returned warmth are
    those modules.  They stay until `clear_stage`, because the inputs may need them.

    Our packages stay and lead to their modules.  Modules that are not always needed must therefore
    be imported as `from sandbox.stack import devices`, which looks only at the package, everywhere:
    an import by the full name would make a second module.
    """
    # Modules that a warm sandbox has imported were examined then: in a session's fork each name
    # that is examined costs a page.
    later = itertools.islice(reversed(sys.modules), len(sys.modules) - warmth.count)
    for name in [*warmth.ours, *filter(is_ours, later)]:
        if name not in PACKAGES:
            _hide(name)
    modules = warmth.modules
    if warmth.tops:
        files = os.listdir(directory)  # noqa: PTH208
        own = {name.partition(".")[0] for name in files}
        modules = frozenset(name for name in modules if name.partition(".")[0] in own)
        if modules or _may_have_plugins(files):
            lookups.forget()
    return Warmth(
        said=warmth.said, modules=modules, count=len(sys.modules), prepared=warmth.prepared
    )


def _hide(name: str) -> None:
    _hidden.append(sys.modules.pop(name))


def _may_have_plugins(files: list[str]) -> bool:
    """Return whether a program's own files or packages may contain plugins of Qiskit."""
    if os.path.isdir(PACKAGES_DIRECTORY):  # noqa: PTH112
        return True
    return any(name.endswith((".dist-info", ".egg-info")) for name in files)


def load(directory: str, entry: str) -> Callable[..., Any]:
    """Import the program and return its `main`.  Raises whatever the import raises.

    The module has the name of its file, so that a spawned child finds it, unless another module has
    that name.  The directory of an entry in a subdirectory comes first on the module path, as for
    Python's scripts.
    """
    path = os.path.join(directory, entry)  # noqa: PTH118
    place, file = os.path.split(path)
    name = file.removesuffix(".py")
    if not name.isidentifier() or name in sys.modules:
        name = "program"
    if "/" in entry:
        sys.path.insert(0, place)
    sys.argv = [path]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        msg = f"{entry} is not a Python file"
        raise NoMainError(msg)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    main = getattr(module, "main", None)
    if main is None:
        msg = f"{entry} has no main(backend, user_messenger, **kwargs)"
        raise NoMainError(msg)
    if not callable(main):
        msg = f"main in {entry} is not a function but a {type(main).__name__}"
        raise NoMainError(msg)
    return main  # type: ignore[no-any-return]


def check_inputs(main: Callable[..., Any], inputs: Mapping[str, Any]) -> None:
    """Raise TypeError, with the misfit and what `main` takes, if the inputs do not fit it."""
    try:
        signature = inspect.signature(main)
    except (TypeError, ValueError):  # written in C: the call itself checks
        return
    try:
        signature.bind(None, None, **inputs)
    except TypeError as error:
        msg = f"the inputs do not fit main: {_misfit(signature, inputs) or error}"
        raise TypeError(msg) from None


def _misfit(signature: inspect.Signature, inputs: Mapping[str, Any]) -> str:
    """Return the unknown and missing arguments as text; empty if the misfit is another."""
    parameters = list(signature.parameters.values())[2:]
    named = {
        each.name: each
        for each in parameters
        if each.kind in {each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY}
    }
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters)
    problems = [
        *(
            f"unknown argument {name!r:.80}"
            for name in inputs
            if name not in named and not takes_any
        ),
        *(
            f"missing argument {name!r:.80}"
            for name, each in named.items()
            if each.default is each.empty and name not in inputs
        ),
    ]
    if not problems:
        return ""
    accepted = ", ".join(str(each) for each in parameters) or "no arguments"
    return f"{', '.join(problems)}; it takes: {accepted:.1000}"
