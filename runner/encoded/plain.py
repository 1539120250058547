"""Encoded values as plain JSON for other programs: numbers, lists, objects, and no tags.

Works on data from a program, without building objects of its classes.  What has no plain form stays
as it is, and is named.
"""

from __future__ import annotations

import math
from typing import Any, Final

from runner.encoded import arrays
from runner.encoded.counts import counts_of
from runner.encoded.parts import MALFORMED, PAIRS, inside, untagged

MAX_ITEMS: Final = 1 << 22
"""The most numbers and lists that the arrays of one value become: about 400 MiB of memory."""

_TEXTS: Final = frozenset(
    {"datetime", "date", "time", "Decimal", "UUID", "to_json", "bytes", "bytearray", "int"}
)
_CONTENT: Final = frozenset(
    {
        *("tuple", "set", "frozenset", "deque", "range", "slice", "timedelta", "Fraction"),
        *("SimpleNamespace", "OptimizeResult", "matrix", "recarray", "Options", "Result"),
        *("PubResult", "SamplerPubResult", "PrimitiveResult", "BindingsArray", "CouplingMap"),
        *("SuperOp", "Choi", "PTM", "Chi", "Kraus", "Stinespring", "masked_array", "ScalarOp"),
    }
)
"""Tags whose content, without the tag, is the plain form."""

_PART: Final = {
    **dict.fromkeys(("namedtuple", "dataclass", "DataBin"), "fields"),
    **dict.fromkeys(("Pauli", "PauliList", "Statevector", "DensityMatrix", "Operator"), "data"),
    "enum": "value",
}
"""Tags of which one part of the content is the plain form."""


def plain_json(data: Any) -> tuple[Any, list[str]]:
    """Return encoded data as plain JSON data, and the places of what has no plain form.

    Complex numbers become `[real, imaginary]`, NaN and infinities null, bits counts, operators
    lists of `[term, factor]`.
    """
    walk = _Walk()
    return walk.value(data, "result"), walk.left


class _Walk:
    def __init__(self) -> None:
        self.left: list[str] = []
        self._room = arrays.Room(MAX_ITEMS)

    def value(self, data: Any, path: str) -> Any:
        """Return the plain form of a part; `path` names it."""
        if isinstance(data, complex):
            return [self.value(data.real, path), self.value(data.imag, path)]
        if isinstance(data, float):
            return data if math.isfinite(data) else None
        if isinstance(data, list | tuple):
            return [self.value(each, f"{path}[{number}]") for number, each in enumerate(data)]
        if not isinstance(data, dict):
            return data
        tag = data.get("__class__", data.get("__type__"))
        if not isinstance(tag, str) or "__value__" not in data:
            return {key: self.value(each, f"{path}[{key!r:.80}]") for key, each in data.items()}
        try:
            return self._tagged(tag, data["__value__"], data, path)
        except MALFORMED:  # or too large
            self.left.append(f"{path}: {tag:.80}")
            return data

    def _tagged(self, tag: str, content: Any, data: dict[str, Any], path: str) -> Any:
        if tag in _TEXTS and isinstance(content, str):
            return content
        if tag in _CONTENT:
            return self.value(content, path)
        if tag in _PART:
            return self.value(content[_PART[tag]], path)
        if tag == "BitArray":
            return counts_of(data)
        if tag == "SparsePauliOp":
            terms, factors = (self.value(content[each], path) for each in ("data", "coeffs"))
            return [list(each) for each in zip(terms, factors, strict=True)]
        if tag == "numpy" and isinstance(content, list) and content[0] in {"str", "bytes"}:
            return self.value(content[1], path)
        found = inside(data, self._room) if tag in PAIRS else untagged(data, self._room)
        if found is data:
            msg = "it has no plain form"
            raise ValueError(msg)
        return self.value(found, path)
