"""The modules that a program's import statements name, read without executing the program.

A warm sandbox imports those that the base image has, before there is a job.
"""

from __future__ import annotations

import ast
import functools
import itertools
from collections.abc import Iterator, Mapping
from typing import Final

from runner.programs import source

MAX_MODULES: Final = 100
MAX_NAME_CHARS: Final = 100
MAX_PROGRAM_BYTES: Final = 4 * source.MAX_BYTES


def modules(files: Mapping[str, bytes], entry: str = "") -> tuple[str, ...]:
    """Return the imported names in a stable order, without the modules of the program itself.

    `from a import b` gives both `a` and `a.b`, since either may be a module.  Every name is an
    ASCII identifier with dots, and at most `MAX_MODULES` are returned.  Files longer than
    `source.MAX_BYTES` are ignored, and so are files beyond `MAX_PROGRAM_BYTES` in total, counted
    from the file `entry`.
    """
    own = frozenset(name.partition("/")[0].partition(".")[0] for name in files)
    sources: list[bytes] = []
    room = MAX_PROGRAM_BYTES
    for path in sorted(files, key=lambda each: (each != entry, each)):
        size = len(files[path])
        if path.endswith(".py") and size <= min(source.MAX_BYTES, room):
            sources.append(files[path])
            room -= size
    return _named_in(tuple(sources), own)


@functools.lru_cache(maxsize=16)  # called for every warm job; holds at most 4 MiB of sources
def _named_in(sources: tuple[bytes, ...], own: frozenset[str]) -> tuple[str, ...]:
    trees = (tree for each in sources if (tree := source.parse(each)) is not None)
    nodes = (node for tree in trees for node in ast.walk(tree))
    found: dict[str, None] = {}
    for name in itertools.chain.from_iterable(map(_names, nodes)):
        if _is_usable(name) and name.partition(".")[0] not in own:
            found[name] = None
            if len(found) == MAX_MODULES:
                break
    return tuple(found)


def _names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (each.name for each in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield node.module
        # A module name that is too long by itself need not be joined with thousands of names.
        if len(node.module) < MAX_NAME_CHARS:
            yield from (f"{node.module}.{each.name}" for each in node.names if each.name != "*")


def _is_usable(name: str) -> bool:
    return (
        len(name) <= MAX_NAME_CHARS
        and name.isascii()
        and all(part.isidentifier() for part in name.split("."))
    )
