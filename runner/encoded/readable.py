"""Encoded values as text for people: arrays as numbers, operators as terms, all of it shortened.

Works on data from a program, which may be hostile: whatever it is, the text is of bounded size and
escaped.  It cannot be read back.
"""

from __future__ import annotations

import base64
import itertools
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from runner.display import one_line, shortened
from runner.encoded import arrays, circuits
from runner.encoded.counts import are_counts, counts_of, largest
from runner.encoded.parts import LISTS, MALFORMED, PAIRS

MAX_PARTS: Final = 2000
"""How many parts of a value are shown; behind them `…` stands for each."""

MAX_ITEMS: Final = 12
"""How many items of one list or object are shown, and how many outcomes of counts."""

MAX_CHARS: Final = 300
"""How much is shown of a text."""

_ITEMS_OF_AXIS: Final = (8, 4)
"""How many numbers are shown along the only axis of an array, and along each of several."""

_BRACKETS: Final = {"tuple": "()", "set": "{}", "frozenset": "{}"}
_NAMED: Final = frozenset({"namedtuple", "dataclass", "DataBin"})


def readable(data: Any, columns: int, drawn: Mapping[int, str] | None = None) -> str:
    """Return encoded data as escaped text of lines of about `columns` characters.

    `drawn` has pictures of circuits, by the `id` of their part of the data.
    """
    return "\n".join(_Writer(drawn or {}).lines(data, columns))


class _Writer:
    """One walk over a value; knows how much more may be shown."""

    def __init__(self, drawn: Mapping[int, str]) -> None:
        self._drawn = drawn
        self._left = MAX_PARTS
        self._room = arrays.Room()

    def lines(self, data: Any, columns: int) -> list[str]:
        """Return the lines of a part."""
        self._left -= 1
        if self._left < 0:
            return ["…"]
        if isinstance(data, str):
            return [_text(data)]
        if isinstance(data, list):
            return self._items("[]", data, columns)
        if not isinstance(data, dict):
            return [f"{data!r:.40}" if isinstance(data, complex) else json.dumps(data)]
        tag, content = data.get("__type__"), data.get("__value__")
        if isinstance(tag, str) and "__value__" in data:
            name = data.get("__class__")
            picture = self._drawn.get(id(data))
            try:
                if picture is not None:  # below a line of its own, as its lines belong together
                    lines = picture.split("\n")
                    return [one_line(circuits.summary(content)), *map(one_line, lines)]
                return self._tagged(name if isinstance(name, str) else tag, content, columns)
            except MALFORMED:
                return self._named(tag, content, columns)
        if len(data) > MAX_ITEMS and are_counts(data):
            most = largest(data, MAX_ITEMS)
            return _labelled(self._pairs(most.rows, len(data), columns), f"({most.total} shots)")
        return self._pairs(data.items(), len(data), columns)

    def _tagged(self, tag: str, content: Any, columns: int) -> list[str]:
        if tag in _ON_ONE_LINE:
            return [_ON_ONE_LINE[tag](content)]
        if tag in _METHODS:
            return _METHODS[tag](self, content, columns)
        if tag in LISTS and isinstance(content, list):
            return self._items(_BRACKETS[tag], content, columns)
        if tag in PAIRS and isinstance(content, list):
            pairs = [(self.lines(key, columns)[0], value) for key, value in content[:MAX_ITEMS]]
            return self._pairs(pairs, len(content), columns, keys_are_text=False)
        if tag in _NAMED:
            return self._named(content.get("class", tag), content["fields"], columns)
        return self._named(tag, content, columns)

    # --- containers -------------------------------------------------------------------------------

    def _items(self, brackets: str, items: list[Any], columns: int) -> list[str]:
        shown = [self.lines(each, columns - 2) for each in items[:MAX_ITEMS]]
        return _group(brackets, shown, columns, len(items))

    def _pairs(
        self,
        pairs: Iterable[tuple[str, Any]],
        count: int,
        columns: int,
        *,
        keys_are_text: bool = True,
    ) -> list[str]:
        shown = []
        for key, value in itertools.islice(pairs, MAX_ITEMS):
            first, *others = self.lines(value, columns - 2)
            shown.append([f"{_text(key) if keys_are_text else key}: {first}", *others])
        return _group("{}", shown, columns, count)

    def _named(self, name: str, content: Any, columns: int) -> list[str]:
        """Return the lines of a value without a row of its own: what it is, and its content."""
        name = one_line(name[:MAX_CHARS])
        if isinstance(content, str):
            return [f"{name} ({len(content)} characters, encoded)"]
        first, *others = self.lines(content, columns)
        return [f"{name} {first}", *others]

    # --- numbers ----------------------------------------------------------------------------------

    def _array(self, content: Any, columns: int) -> list[str]:
        if not isinstance(content, str):  # of objects, or of texts
            return self._named("ndarray", content, columns)
        kind, shape = arrays.described(content)
        label = f"{kind} {shape}"
        try:
            numbers = arrays.unpack(content, self._room)
        except ValueError:  # of texts, or too large
            return [f"array of {label}"]
        if not shape:
            return [f"{_number(numbers)} {kind}"]
        lines = _nested(numbers, _ITEMS_OF_AXIS[len(shape) > 1], columns - len(label) - 1)
        return _labelled(lines, label)

    def _scalar(self, content: Any, columns: int) -> list[str]:
        return self.lines(content[1] if isinstance(content, list) else content, columns)

    def _bits(self, content: Any, columns: int) -> list[str]:
        counts = counts_of({"__type__": "BitArray", "__value__": content})
        most = largest(counts, MAX_ITEMS)
        label = f"BitArray ({most.total} shots of {int(content['num_bits'])} bits)"
        return _labelled(self._pairs(most.rows, len(counts), columns), label)

    def _operator(self, content: Any, _: int) -> list[str]:
        labels = content["data"]["__value__"]["data"]
        factors = content["coeffs"]["__value__"]
        if isinstance(factors, dict):  # an array of objects
            return [f"SparsePauliOp of {len(labels)} terms, with parameters"]
        numbers = arrays.unpack(factors, self._room)
        return [f"{_sum(numbers, labels)} SparsePauliOp ({len(labels[0])} qubits)"]

    def _observable(self, content: Any, _: int) -> list[str]:
        qubits, *packed = content
        numbers, letters, places, ends = (
            arrays.unpack(each["__value__"], self._room) for each in packed
        )
        factors = [f"{_LETTERS[each]}{at}" for each, at in zip(letters, places, strict=True)]
        terms = [" ".join(factors[start:end]) or "I" for start, end in itertools.pairwise(ends)]
        return [f"{_sum(numbers, terms)} SparseObservable ({int(qubits)} qubits)"]


_LETTERS: Final = {1: "Z", 2: "X", 3: "Y", 5: "1", 6: "-", 7: "l", 9: "0", 10: "+", 11: "r"}
"""What the numbers in a `SparseObservable` stand for."""

_NUMBERS: Final = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def _labelled(lines: list[str], label: str) -> list[str]:
    return [*lines[:-1], f"{lines[-1]} {label}"]


def _text(text: str) -> str:
    if len(text) <= MAX_CHARS:
        return one_line(json.dumps(text, ensure_ascii=False))
    start = one_line(json.dumps(text[:MAX_CHARS], ensure_ascii=False))
    return f'{start[:-1]}…" ({len(text)} characters)'


def _number(number: Any) -> str:
    if isinstance(number, bool):
        return str(number).lower()
    if isinstance(number, complex):
        return f"{number.real:.6g}{number.imag:+.6g}j"
    return f"{number:.6g}" if isinstance(number, float) else str(number)


def _sum(numbers: list[Any], terms: list[str]) -> str:
    """Return an operator as the sum of its terms, the first few of them."""
    pairs = list(zip(numbers, terms, strict=True))[:MAX_ITEMS]
    shown = " + ".join(f"{_number(_real(number))} {shortened(term, 60)}" for number, term in pairs)
    return shown + (f" + … ({len(terms)} in all)" if len(terms) > MAX_ITEMS else "")


def _real(number: complex) -> complex | float:
    return number if number.imag else number.real


def _bytes(content: str) -> str:
    data = base64.b64decode(content[: 4 * 40 // 3 // 4 * 4])
    size = len(content) * 3 // 4 - content[-2:].count("=")
    return one_line(f"{data!r}{f'… ({size} bytes)' if size > len(data) else ''}")


def _nested(numbers: Any, most: int, columns: int) -> list[str]:
    if not isinstance(numbers, list | tuple):
        return [_number(numbers)]
    shown = [_nested(each, most, columns - 2) for each in numbers[:most]]
    if not any(isinstance(each, list) for each in numbers[:1]):
        columns = sys.maxsize  # the numbers of a row belong on one line
    return _group("[]", shown, columns, len(numbers), say_count=False)


def _group(
    brackets: str, shown: list[list[str]], columns: int, count: int, *, say_count: bool = True
) -> list[str]:
    """Return the shown items of `count` between brackets, on one line if they fit."""
    start, end = brackets[0], brackets[1]
    if count > len(shown):
        shown = [*shown, [f"… ({count} in all)" if say_count else "…"]]
    if all(len(each) == 1 for each in shown):
        line = start + ", ".join(each[0] for each in shown) + end
        if len(line) <= columns:
            return [line]
    lines = [start]
    for number, each in enumerate(shown, 1):
        comma = "," if number < len(shown) else ""
        lines += [f"  {line}" for line in each[:-1]] + [f"  {each[-1]}{comma}"]
    return [*lines, end]


_METHODS: Final[Mapping[str, Callable[[_Writer, Any, int], list[str]]]] = {
    **dict.fromkeys(("ndarray", "matrix", "recarray"), _Writer._array),
    "numpy": _Writer._scalar,
    "BitArray": _Writer._bits,
    "SparsePauliOp": _Writer._operator,
    "SparseObservable": _Writer._observable,
}

_ON_ONE_LINE: Final[Mapping[str, Callable[[Any], str]]] = {
    **dict.fromkeys(
        ("datetime", "date", "time", "Decimal", "UUID", "to_json"),
        lambda content: shortened(content, MAX_CHARS),
    ),
    **dict.fromkeys(("bytes", "bytearray"), _bytes),
    "float": lambda content: _NUMBERS[content],
    "complex": lambda content: _number(complex(*content)),
    "QuantumCircuit": lambda content: one_line(circuits.summary(content)),
    "Pauli": lambda content: f"Pauli {shortened(content['data'], MAX_CHARS)}",
    "enum": lambda content: one_line(f"{content['class']}.{content['name']}"[:MAX_CHARS]),
}
"""What is shown on one line, without its parts."""
