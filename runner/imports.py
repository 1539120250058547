"""Which modules a program's import statements name, read without running any of it.

A warm sandbox imports those of them that the base image has, before there is a job.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator, Mapping
from typing import Final

MAX_MODULES: Final = 100
MAX_NAME_CHARS: Final = 100
_MAX_SOURCE_BYTES: Final = 1 << 20


def modules(files: Mapping[str, bytes]) -> tuple[str, ...]:
    """Return the names in a stable order, those of the program's own files left out.

    `from a import b` names both `a` and `a.b`, as either may be a module.  Hostile sources yield
    fewer names: no more than `MAX_MODULES`, each an ASCII identifier with dots.
    """
    own = {name.partition("/")[0].partition(".")[0] for name in files}
    found: dict[str, None] = {}
    for path, source in sorted(files.items()):
        if path.endswith(".py") and len(source) <= _MAX_SOURCE_BYTES:
            found.update(dict.fromkeys(_named_in(source)))
    usable = [each for each in found if each.partition(".")[0] not in own]
    return tuple(usable[:MAX_MODULES])


@functools.lru_cache(maxsize=64)
def _named_in(source: bytes) -> tuple[str, ...]:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ()  # the sandbox will say so, with the line
    names = (name for node in ast.walk(tree) for name in _names(node))
    return tuple(dict.fromkeys(name for name in names if _is_usable(name)))


def _names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (each.name for each in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield node.module
        yield from (f"{node.module}.{each.name}" for each in node.names if each.name != "*")


def _is_usable(name: str) -> bool:
    return (
        len(name) <= MAX_NAME_CHARS
        and name.isascii()
        and all(part.isidentifier() for part in name.split("."))
    )
