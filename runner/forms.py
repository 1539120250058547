"""Frozen values as JSON data and back: the one way in which whatever is kept or sent is written.

A value is an object whose members are its fields, so a new field needs nothing here.  Reading
follows the annotations of the fields and is total: a value or `ValueError`, whatever the data.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from enum import Enum
from typing import Any, TypeVar

T = TypeVar("T")


def data_of(value: Any) -> Any:
    """Return a value as JSON data.  Mappings must be JSON data already, and are not copied."""
    if dataclasses.is_dataclass(value):
        return {each.name: data_of(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, frozenset):
        return sorted(map(data_of, value))
    if isinstance(value, tuple):
        return list(map(data_of, value))
    return value


def value_of(kind: type[T], data: object) -> T:
    """Return the value of a dataclass that `data_of` wrote.

    Members that the class does not know are left out, those that are missing have their default: so
    data of an older or newer version can be read.  Null stands for an empty text, and for a value
    that has only defaults.  Raises ValueError that names the member.
    """
    if not isinstance(data, Mapping):
        msg = f"{kind.__name__} is a {type(data).__name__}: it must be an object"
        raise ValueError(msg)
    of: Any = kind  # mypy takes no class for hashable
    given = {
        name: _read(hint, data[name], f"{kind.__name__}.{name}")
        for name, hint in _hints(of).items()
        if name in data
    }
    try:
        return kind(**given)
    except TypeError as error:
        msg = f"{kind.__name__} is not whole: {error}"
        raise ValueError(msg) from None


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {each.name: hints[each.name] for each in dataclasses.fields(kind)}


def _read(hint: Any, data: Any, name: str) -> Any:
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin in {types.UnionType, typing.Union}:
        if data is None:
            return None
        (hint,) = (each for each in inside if each is not types.NoneType)
        return _read(hint, data, name)
    if dataclasses.is_dataclass(hint):
        assert isinstance(hint, type)
        return hint() if data is None else value_of(hint, data)
    if origin in {tuple, frozenset}:
        return origin([_read(inside[0], each, name) for each in _checked(list | tuple, data, name)])
    if origin in {dict, Mapping}:
        return dict(_checked(Mapping, data, name))
    plain = getattr(hint, "__supertype__", hint)  # of a NewType
    if issubclass(plain, Enum):
        return plain(data)
    if plain is str and data is None:
        return ""
    is_flag = isinstance(data, bool) and plain is not bool
    return _checked(() if is_flag else int | float if plain is float else plain, data, name)


def _checked(kind: Any, data: Any, name: str) -> Any:
    if not isinstance(data, kind):
        msg = f"{name} is {data!r:.80}, a {type(data).__name__}"
        raise ValueError(msg)
    return data
