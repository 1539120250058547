"""Encodes values as tagged JSON, in one walk that knows its path.

A value can be one of NumPy or Qiskit only if that library is already imported, so classes are
looked up in `sys.modules`, and nothing is imported.
"""

from __future__ import annotations

from typing import Any, Final
from weakref import WeakKeyDictionary

from sandbox.codec import rows, table
from sandbox.codec.decoding import Value
from sandbox.codec.paths import CLASS, EXACT, MODULE, TYPE, VALUE, PathError, one_line, with_article
from sandbox.codec.rows_plain import is_plain
from sandbox.wire import protocol


class Encoder:
    """One walk over a value, with its depth and the number of parts seen."""

    def __init__(self, *, shortcuts: bool) -> None:
        self._shortcuts = shortcuts
        self._parts = 0
        self._inside: list[int] = []

    def data(self, value: Any) -> Any:
        """Return a value, or a part of one, as tagged JSON data."""
        kind = type(value)
        if kind in EXACT and is_plain(value):
            return value
        if kind is list:
            return self._list(value, value)
        if kind is dict and TYPE not in value and set(map(type, value)) <= {str}:
            return self._dict(value)
        if kind is Value:
            return value.raw
        if (row := _row_for(kind)) is not None:
            return self._tagged(row, value)
        for base, reduce in table.BASES:
            if issubclass(kind, base):
                return self.data(reduce(value))
        msg = f"cannot carry {with_article(kind.__name__)}"
        raise PathError(msg)

    def _list(self, items: list[Any], owner: Any) -> list[Any]:
        self._enter(owner, len(items))
        if self._shortcuts and set(map(type, items)) <= EXACT:
            self._inside.pop()
            return items
        result = []
        for index, item in enumerate(items):
            try:
                result.append(self.data(item))
            except PathError as error:
                error.steps.append(f"[{index}]")
                raise
        self._inside.pop()
        return result

    def _dict(self, value: dict[str, Any]) -> dict[str, Any]:
        self._enter(value, len(value))
        if self._shortcuts and set(map(type, value.values())) <= EXACT:
            self._inside.pop()
            return value
        result = {}
        for key, item in value.items():
            try:
                result[key] = self.data(item)
            except PathError as error:
                error.steps.append(f"[{key!r:.80}]")
                raise
        self._inside.pop()
        return result

    def _tagged(self, row: rows.Row, value: Any) -> dict[str, Any]:
        self._enter(value, 2)
        try:
            content = row.to_data(value)
        except PathError:
            raise
        except rows.LossError as error:  # not the program's fault
            msg = f"cannot carry {with_article(type(value).__name__)}: {error}"
            raise PathError(msg) from error
        except Exception as error:  # to_json is the program's own code, and may raise anything
            msg = f"cannot carry {with_article(type(value).__name__)}: {one_line(error)}"
            raise PathError(msg) from error
        data = self._list(content, content) if type(content) is list else self.data(content)
        self._inside.pop()
        if row.carrier is not None:
            module, name = row.carrier
            return {TYPE: row.tag, MODULE: module, CLASS: name, VALUE: data}
        return {TYPE: row.tag, VALUE: data}

    def _enter(self, container: Any, parts: int) -> None:
        self._parts += parts
        if self._parts > protocol.MAX_NODES:
            msg = f"more than {protocol.MAX_NODES} parts"
            raise PathError(msg)
        if id(container) in self._inside:
            msg = "contains itself"
            raise PathError(msg)
        if len(self._inside) >= protocol.MAX_DEPTH:
            msg = f"nested deeper than {protocol.MAX_DEPTH} (a tagged value counts as two)"
            raise PathError(msg)
        self._inside.append(id(container))


_KNOWN: Final[WeakKeyDictionary[type, rows.Row | None]] = WeakKeyDictionary()


def _row_for(kind: type) -> rows.Row | None:
    """Return the row for values of a type, from a cache: searching the table is slow."""
    try:
        return _KNOWN[kind]
    except KeyError:
        row = _KNOWN[kind] = table.row_for(kind)
        return row
