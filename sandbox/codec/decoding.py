"""Decodes tagged JSON to values, in one walk, within the bounds that its origin demands.

Data from a program becomes plain values and arrays, within a bound of memory; the rest becomes a
`Value`, which its owner can decode.  No name in the data is imported.
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Final

from sandbox.codec import parsing, rows, table
from sandbox.codec.paths import CLASS, EXACT, MODULE, TYPE, VALUE, PathError, one_line, with_article
from sandbox.codec.records import Record
from sandbox.wire import protocol

MAX_UNPACKED_BYTES: Final = 256 * protocol.MIB
"""The most memory of one untrusted payload: its compressed parts and its objects."""

MAX_EQUAL_HASHES: Final = 16
"""The most keys with one hash in an untrusted set or dict: more are an attack on its table."""

KEYS_S: Final = 0.2
KEY_S: Final = 5e-6
"""Seconds of CPU time to build an untrusted set or dict, and more for each key.  Honest ones take a
tenth, but keys with different hashes can be made to collide, too."""

_KEYS_AT_A_TIME: Final = 64

_OBJECT_BYTES: Final = {"[": 64, "{": 200, ",": 40, '"': 64}
"""The most bytes of memory per character, as an object (a string has two quotes)."""


class DecodingError(ValueError):
    """Tagged JSON that is malformed; the message begins with the path to it."""


class Value:
    """A value that is decoded only on request: `raw` is its JSON, `decode` builds it.

    Decoding imports NumPy or Qiskit and lets them read data from a program.
    """

    __slots__ = ("_raw", "_text")

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._text: str | None = None

    @classmethod
    def of_text(cls, text: str) -> Value:
        """Return the value of a whole text, which is parsed at the first use."""
        value = cls(None)
        value._text = text
        return value

    @property
    def raw(self) -> Any:
        """The value as JSON data."""
        if self._text is not None:
            self._raw, self._text = _data_of(self._text), None
        return self._raw

    def decode(self, *, max_bytes: int | None = None) -> Any:
        """Return the value itself, with compressed parts of up to `max_bytes` (default: 256 MiB).

        No name in the data is imported, and nothing is unpickled.  Circuits need QPY 13 or newer,
        and Qiskit 2.  Raises DecodingError, which says what is missing or malformed.
        """
        room = MAX_UNPACKED_BYTES if max_bytes is None else max_bytes
        return Decoder(every=True, oldest_qpy=rows.SAFE_QPY, room=room).whole(self.raw, "value")

    def __eq__(self, other: object) -> bool:
        return self.raw == other.raw if isinstance(other, Value) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        tag = self._raw.get(TYPE) if isinstance(self._raw, dict) else "…"
        return f"Value({tag!r:.80})"


class _Unpacking:
    """Base64 of zlib, unpacked while it is read, only as far as requested."""

    def __init__(self, text: str) -> None:
        self._pieces = rows.base64_pieces(text)
        self._unpacker = zlib.decompressobj()

    def read(self, size: int, /) -> bytes:
        """Return `size` bytes, fewer at the end.  Raises ValueError if the content is cut short."""
        pieces = []
        while size and not self._unpacker.eof:
            packed = self._unpacker.unconsumed_tail or next(self._pieces, b"")
            piece = self._unpacker.decompress(packed, size)
            if not packed and not piece:
                msg = "its compressed content is cut short"
                raise ValueError(msg)
            size -= len(piece)
            pieces.append(piece)
        return b"".join(pieces)


class Decoder:
    """One walk over tagged JSON, with its permissions and the memory that it may still take."""

    def __init__(
        self,
        *,
        every: bool,
        oldest_qpy: int,
        room: int | None,
        owns_data: bool = False,
        tries_out: bool = True,
    ) -> None:
        self.oldest_qpy = oldest_qpy
        self.tries_out = tries_out and oldest_qpy > 0
        self._every = every
        self._bound = room
        self._room = room
        self.is_bounded = room is not None
        self._owns_data = owns_data

    @classmethod
    def for_caller(cls, *, trusted: bool, owns_data: bool = False) -> Decoder:
        """Return a decoder for data from the host, without bounds, or for data from a program."""
        if trusted:
            return cls(every=True, oldest_qpy=0, room=None, owns_data=owns_data)
        return cls(
            every=False,
            oldest_qpy=rows.SAFE_QPY,
            room=MAX_UNPACKED_BYTES,
            owns_data=owns_data,
        )

    def whole(self, data: Any, name: str) -> Any:
        """Return the value of the data.  Raises DecodingError, with the path, if malformed."""
        try:
            return self.value(data)
        except PathError as error:
            raise DecodingError(error.describe(name)) from None

    def value(self, data: Any, depth: int = 0) -> Any:
        """Return the value of a part of the data, at this depth."""
        if depth > protocol.MAX_DEPTH:
            msg = f"nested deeper than {protocol.MAX_DEPTH}"
            raise PathError(msg)
        kind = type(data)
        if kind is list:
            return self._list(data, depth + 1)
        if kind is dict:
            return self._tagged(data, depth + 1) if TYPE in data else self._dict(data, depth + 1)
        if kind in EXACT:
            return data
        msg = f"{with_article(kind.__name__)} is no JSON data"
        raise PathError(msg)

    def unpack(self, text: Any) -> _Unpacking:
        """Return the content of base64 of zlib; its reader must `charge` for it."""
        return _Unpacking(rows.a_text(text))

    def charge(self, size: int) -> None:
        """Use memory of this walk's bound.  Raises ValueError if less is left."""
        if self._room is not None:
            self._room -= size
            if self._room < 0:
                msg = f"takes more than {self._bound} bytes"
                raise ValueError(msg)

    def check_extent(self, size: int) -> None:
        """Refuse empty arrays with large other dimensions: CostlyError for too many bytes."""
        if self._bound is not None and size > self._bound:
            msg = f"an extent of more than {self._bound} bytes"
            raise rows.CostlyError(msg)

    def members(self, items: list[Any]) -> Iterator[Any]:
        """Yield the members for a set.  Raises ValueError once they prove to be made to collide.

        Colliding keys make a table take for ever.  Yielding one by one lets other threads run.
        """
        return self._apart(items, lambda item: item) if self.is_bounded else iter(items)

    def pairs(self, items: list[Any]) -> Iterator[Any]:
        """Yield the pairs for a dict, as `members` does."""
        return self._apart(items, lambda pair: pair[0]) if self.is_bounded else iter(items)

    def _apart(self, items: list[Any], key_of: Callable[[Any], Any]) -> Iterator[Any]:
        hashes: dict[int, int] = {}
        started = time.thread_time()
        for number, item in enumerate(items, 1):
            key = key_of(item)
            own = hash(key)
            count = hashes[own] = hashes.get(own, 0) + 1
            is_slow = (
                number % _KEYS_AT_A_TIME == 0
                and time.thread_time() - started > KEYS_S + number * KEY_S
            )
            if is_slow or count > MAX_EQUAL_HASHES or (count > 1 and _holds_set(key)):
                msg = "its keys are made to collide"
                raise ValueError(msg)
            yield item

    def _list(self, items: list[Any], depth: int) -> list[Any]:
        result = items if self._owns_data else list(items)
        if set(map(type, items)) <= EXACT:
            return result
        for index, item in enumerate(items):
            try:
                result[index] = self.value(item, depth)
            except PathError as error:
                error.steps.append(f"[{index}]")
                raise
        return result

    def _dict(self, items: dict[str, Any], depth: int) -> dict[str, Any]:
        result = items if self._owns_data else dict(items)
        for key, item in items.items():
            try:
                result[key] = self.value(item, depth)
            except PathError as error:
                error.steps.append(f"[{key!r:.80}]")
                raise
        return result

    def _tagged(self, data: dict[str, Any], depth: int) -> Any:
        row = _row_of(data)
        if row is None or (row.needs_trust and not self._every):
            return self._unknown(data)
        if len(data) != (4 if row.carrier else 2) or VALUE not in data:
            msg = f"a value tagged {row.tag!r} whose keys are not {TYPE} and {VALUE}"
            raise PathError(msg)
        owned, self._owns_data = self._owns_data, False  # the content may have to stay as it is
        content = self.value(data[VALUE], depth)
        self._owns_data = owned
        try:
            return row.from_data(content, self)
        except rows.UnavailableError as error:
            return self._unknown(data, f": {one_line(error.__cause__ or error)}")
        except rows.CostlyError as error:
            if not self._every:
                return Value(data)
            msg = f"a value tagged {row.key!r} that could cost too much: {error}"
            raise PathError(msg) from None
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 (hostile data; Rust's panics are such)
            msg = f"not of the form of a value tagged {row.key!r}: {one_line(error)}"
            raise PathError(msg) from None

    def _unknown(self, data: dict[str, Any], reason: str = "") -> Value:
        if not self._every and isinstance(data[TYPE], str):
            return Value(data)
        msg = f"a value of the unknown type {data[TYPE]!r:.80}{reason}"
        raise PathError(msg)


def _row_of(data: dict[str, Any]) -> rows.Row | None:
    """Return the row of tagged data; None if its tag, or its carrier's class, has no row."""
    key = data[TYPE]
    if CLASS in data:
        key = f"{key}:{data[CLASS]!s:.80}"
    row = table.BY_TAG.get(key) if isinstance(key, str) else None
    if row is None or row.carrier is None:
        return row
    return row if data.get(MODULE) == row.carrier[0] and CLASS in data else None


def _holds_set(key: Any) -> bool:
    """Return whether comparing the key looks up members of sets: the cost multiplies per level."""
    if isinstance(key, Record):
        return any(map(_holds_set, (*key.as_dict().values(), *key._more.values())))
    return isinstance(key, frozenset) or (isinstance(key, tuple) and any(map(_holds_set, key)))


def _data_of(text: str) -> Any:
    try:
        return parsing.load(text)
    except ValueError:  # the text is known to be JSON: only its meaning is in doubt
        return json.loads(text)


def objects_bytes(text: str) -> int:
    """Return the most memory that the objects of a JSON text can take, roughly, in bytes."""
    objects = sum(text.count(each) * size for each, size in _OBJECT_BYTES.items())
    return objects + len(text) * (4 if "\\u" in text else 1)
