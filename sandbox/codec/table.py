"""The closed table of the codec: which values have which tagged form.

One row for one kind of value; to carry a new kind, add a row to the module of its library.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sandbox.codec import rows_circuits, rows_numpy, rows_plain, rows_quantum, rows_scipy
from sandbox.codec.rows import Row, a_text

ROWS: Final = (
    *rows_plain.ROWS,
    *rows_numpy.ROWS,
    *rows_scipy.ROWS,
    *rows_circuits.ROWS,
    *rows_quantum.ROWS,
)

TO_JSON: Final = Row(
    "to_json", "", lambda value: a_text(value.to_json()), lambda data, _: a_text(data)
)
"""For objects that know how to write themselves; as in IBM's clients, the text comes back."""

BY_TAG: Final = {row.key: row for row in (*ROWS, *rows_plain.FAMILIES, TO_JSON, rows_circuits.QASM)}

BASES: Final[tuple[tuple[type, Callable[[Any], Any]], ...]] = (
    (dict, lambda value: dict(dict.items(value))),
    (list, lambda value: list(list.__iter__(value))),
    (tuple, lambda value: tuple(tuple.__iter__(value))),
    (str, str.__str__),
    (int, int.__index__),
    (float, float.__float__),
)
"""Other classes derived from JSON's own (Qiskit's `Counts`) are carried as what they are based on,
and equal to; none of their overridden methods is called for it."""


def row_for(kind: type) -> Row | None:
    """Return the row that carries values of this type, None if there is none."""
    for row in ROWS:
        if row.is_for(kind):
            return row
    if callable(getattr(kind, "to_json", None)):
        return TO_JSON
    for row in (*rows_plain.FAMILIES, *ROWS):
        if row.takes(kind):
            return row
    return None
