"""The inputs that a program's `main` takes, read from its source without running it."""

from __future__ import annotations

import ast
import functools
from dataclasses import dataclass

from runner.programs import source as sources


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """Names of the keyword arguments of `main`, beyond backend and user_messenger."""

    required: tuple[str, ...]
    optional: tuple[str, ...]
    accepts_any: bool

    @classmethod
    def of_source(cls, source: bytes) -> Signature | None:
        """Return the signature of the one plain `def main` at top level, else None.

        None as well of a source that is too long to be parsed here.
        """
        return cls._of_short(source) if len(source) <= sources.MAX_BYTES else None

    @classmethod
    @functools.lru_cache(maxsize=16)  # by the source itself: at most 1 MiB is kept so
    def _of_short(cls, source: bytes) -> Signature | None:
        tree = sources.parse(source)
        if tree is None:
            return None
        bindings = [node for node in tree.body if getattr(node, "name", None) == "main"]
        if len(bindings) != 1 or not isinstance(bindings[0], ast.FunctionDef):
            return None
        if bindings[0].decorator_list:
            return None
        given = bindings[0].args
        positional = [each.arg for each in [*given.posonlyargs, *given.args]]
        if len(positional) < 2 or len(given.posonlyargs) > 2:  # backend and messenger may be
            return None
        without_default = positional[: len(positional) - len(given.defaults)][2:]
        keywords = list(zip(given.kwonlyargs, given.kw_defaults, strict=True))
        return cls(
            required=(*without_default, *(a.arg for a, default in keywords if default is None)),
            optional=(
                *(name for name in positional[2:] if name not in without_default),
                *(a.arg for a, default in keywords if default is not None),
            ),
            accepts_any=given.kwarg is not None,
        )

    def problems(self, given: set[str]) -> list[str]:
        """Return what is wrong with inputs of these names, in words."""
        takes = ", ".join([*self.required, *self.optional]) or "nothing"
        unknown = given - {*self.required, *self.optional}
        return [
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
