"""The inputs that a program's `main` takes, read from its source without running it."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from runner.programs import source as sources

BACKEND: Final = "backend"
MESSENGER: Final = "user_messenger"
_SCOPES: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
_WORDS: Final = ("backend, its first parameter,", "messenger, its second parameter,")


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """Names of the keyword arguments of `main`, without backend and user_messenger.

    `given` is what it calls these two, so that no input can have that name; "" where one can.
    """

    given: tuple[str, ...] = ()
    required: tuple[str, ...]
    optional: tuple[str, ...]
    accepts_any: bool

    @classmethod
    def of_source(cls, source: bytes) -> Signature | None:
        """Return the signature of the only plain `def main` at top level, else None.

        None as well for a source that is too long to be parsed here.
        """
        return cls._of_short(source) if len(source) <= sources.MAX_BYTES else None

    @classmethod
    @functools.lru_cache(maxsize=16)  # keyed by the source itself: holds at most 1 MiB
    def _of_short(cls, source: bytes) -> Signature | None:
        main = _main(source)
        if not isinstance(main, ast.FunctionDef):
            return None
        given = main.args
        positional = [each.arg for each in [*given.posonlyargs, *given.args]]
        # Only backend and messenger may be positional-only.
        if len(positional) < 2 or len(given.posonlyargs) > 2:
            return None
        both = [*given.posonlyargs, *given.args][:2]
        without_default = positional[: len(positional) - len(given.defaults)][2:]
        keywords = list(zip(given.kwonlyargs, given.kw_defaults, strict=True))
        return cls(
            given=tuple("" if each in given.posonlyargs else each.arg for each in both),
            required=(*without_default, *(a.arg for a, default in keywords if default is None)),
            optional=(
                *(name for name in positional[2:] if name not in without_default),
                *(a.arg for a, default in keywords if default is not None),
            ),
            accepts_any=given.kwarg is not None,
        )

    def problems(self, given: set[str]) -> list[str]:
        """Return the errors in the names of the given inputs, as text."""
        takes = ", ".join([*self.required, *self.optional]) or "nothing"
        taken = given & {*self.given}
        unknown = given - taken - {*self.required, *self.optional}
        return [
            *(
                f"input {name!r} is not to be given: main gets its {which} by that name"
                for name, which in zip(self.given, _WORDS, strict=False)
                if name in taken
            ),
            *(
                f"unknown input {name!r} (main takes {takes})"
                for name in sorted(unknown)
                if not self.accepts_any
            ),
            *(
                f"missing input {name!r} (main takes {takes})"
                for name in self.required
                if name not in given
            ),
        ]


def flaw(source: bytes) -> str:
    """Return why `main` cannot be called with a backend and a messenger, "" if it can or may be.

    What is looked at is the one plain `def main` at top level; its first two may have any names.
    """
    return _flaw(source) if len(source) <= sources.MAX_BYTES else ""


@functools.lru_cache(maxsize=16)  # as above
def _flaw(source: bytes) -> str:
    main = _main(source)
    if main is None:
        return ""
    expected = "it must be main(backend, user_messenger, …), the inputs behind these two"
    if isinstance(main, ast.AsyncFunctionDef):
        return f"line {main.lineno}: main is `async`, and is called as a plain function"
    arguments = main.args
    names = [each.arg for each in [*arguments.posonlyargs, *arguments.args]]
    shown = f"line {main.lineno}: main({ast.unparse(arguments):.200})"
    if len(names) < 2 and arguments.vararg is None:
        number = "no parameter" if not names else "one parameter only"
        return f"{shown} takes {number} by position: {expected}"
    keywords = [each.arg for each in arguments.kwonlyargs]
    for place, word in enumerate((BACKEND, MESSENGER)):
        if word in [*names, *keywords] and names[place : place + 1] != [word]:
            which = ("first", "second")[place]
            return f"{shown} has {word!r} elsewhere than {which}: {expected}"
    return ""


def _main(source: bytes) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    """Return the one plain definition of `main` at top level, None if there is no such."""
    tree = sources.parse(source)
    if tree is None:
        return None
    bindings = list(_bindings(tree))
    if len(bindings) != 1 or bindings[0] not in tree.body:
        return None
    main = bindings[0]
    if not isinstance(main, ast.FunctionDef | ast.AsyncFunctionDef):
        return None
    return None if main.decorator_list else main


def _bindings(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield what gives the module's name `main` a value: definitions, assignments, imports."""
    pending: list[ast.AST] = [*tree.body]
    while pending:
        node = pending.pop()
        name = getattr(node, "name", None)
        if isinstance(node, ast.alias):
            name = (node.asname or node.name).partition(".")[0]
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            name = node.id
        if name == "main":
            yield node
        if not isinstance(node, _SCOPES):
            pending += ast.iter_child_nodes(node)
