"""Frozen dataclasses as JSON data and back: the one format of everything that is stored or sent.

A value becomes an object whose members are its fields, so a new field needs no code here.  Reading
follows the field annotations.  For any data it returns a value or raises ValueError.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final, TypeAlias, TypeVar

T = TypeVar("T")

_Reader: TypeAlias = Callable[[Any], Any]

_PLAIN: Final = frozenset({str, int, float, bool, types.NoneType, dict})


def data_of(value: Any) -> Any:
    """Return a value as JSON data.  Mappings must hold JSON data already, and are not copied."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if dataclasses.is_dataclass(kind):
        return {name: data_of(getattr(value, name)) for name in _names(kind)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, frozenset):
        return sorted(map(data_of, value))
    return list(map(data_of, value)) if isinstance(value, tuple) else value


def value_of(kind: type[T], data: object) -> T:
    """Return the value of a dataclass from the data that `data_of` wrote.

    Unknown members are ignored and missing ones get their default, so that data of an older or
    newer version can be read.  Null stands for an empty text, and for a value whose fields all have
    their default.  Raises ValueError that names the member.
    """
    if not isinstance(data, Mapping):
        raise _wrong(data, kind.__name__)
    of: Any = kind  # mypy does not take a class for hashable
    name, given = "", {}
    try:
        for name, read in _readers(of).items():
            if name in data:
                given[name] = read(data[name])
    except ValueError as error:
        msg = f"{kind.__name__}.{name}: {error}"
        raise ValueError(msg) from None
    try:
        return kind(**given)
    except TypeError as error:
        msg = f"{kind.__name__} is not whole: {error}"
        raise ValueError(msg) from None


@functools.cache
def _names(kind: Any) -> tuple[str, ...]:
    return tuple(each.name for each in dataclasses.fields(kind))


@functools.cache
def _readers(kind: Any) -> dict[str, _Reader]:
    hints = typing.get_type_hints(kind)
    return {name: _reader(hints[name]) for name in _names(kind)}


def _reader(hint: Any) -> _Reader:
    """Return the function that reads a member with this annotation."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin in {types.UnionType, typing.Union}:
        (some,) = (_reader(each) for each in inside if each is not types.NoneType)
        return lambda data: None if data is None else some(data)
    if dataclasses.is_dataclass(hint):
        assert isinstance(hint, type)
        return lambda data: hint() if data is None else value_of(hint, data)
    if origin in {tuple, frozenset}:
        each = _reader(inside[0])
        return lambda data: origin(map(each, _checked(data, list, tuple)))
    if origin in {dict, Mapping}:
        return lambda data: dict(_checked(data, Mapping))
    plain = getattr(hint, "__supertype__", hint)  # of a NewType
    if plain is str:
        return lambda data: "" if data is None else _checked(data, str)
    if plain in {int, float}:
        return _real if plain is float else _whole
    return plain if issubclass(plain, Enum) else lambda data: _checked(data, plain)


def _whole(data: Any) -> Any:
    if isinstance(data, bool):  # bool is a subclass of int
        raise _wrong(data, "number")
    return _checked(data, int)


def _real(data: Any) -> Any:
    return data if isinstance(data, float) else _whole(data)


def _checked(data: Any, *kinds: type) -> Any:
    if not isinstance(data, kinds):
        raise _wrong(data, " or ".join(each.__name__ for each in kinds))
    return data


def _wrong(data: object, wanted: str) -> ValueError:
    return ValueError(f"{data!r:.80} is of the type {type(data).__name__}, not {wanted}")
