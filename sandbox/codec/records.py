"""What instances of a program's own classes become on the other side: read-only records.

Classes are never imported by a name found in data.  A dataclass arrives as a `Record`, a named
tuple as a `TupleRecord`, a member of an enumeration as an `EnumRecord`; each knows the name of its
class, and goes back in the form it came in.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NoReturn


class Record:
    """The fields of a dataclass: read as attributes, compared by class name and content.

    `more` are its attributes that are no fields; they are read in the same way.
    """

    __slots__ = ("_content", "_more", "class_name")

    class_name: str
    _content: dict[str, Any]
    _more: dict[str, Any]

    def __init__(
        self, class_name: str, content: dict[str, Any], more: dict[str, Any] | None = None
    ) -> None:
        object.__setattr__(self, "class_name", class_name)
        object.__setattr__(self, "_content", dict(content))
        object.__setattr__(self, "_more", dict(more or {}))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.class_name, self._content, self._more)

    def __getattr__(self, name: str) -> Any:
        for found in (self._content, self._more):
            if name in found:
                return found[name]
        msg = f"{self.class_name!r} has no field {name!r}"
        raise AttributeError(msg)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        msg = f"a {type(self).__name__} is read-only"
        raise AttributeError(msg)

    def __delattr__(self, name: str) -> NoReturn:
        self.__setattr__(name, None)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return (self.class_name, self._content, self._more) == (
            other.class_name,
            other._content,
            other._more,
        )

    def __hash__(self) -> int:
        return hash((self.class_name, *self._content.values()))

    def __repr__(self) -> str:
        content = ", ".join(f"{name}={value!r}" for name, value in self._content.items())
        return f"{self.class_name}({content})"

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by their names."""
        return dict(self._content)


class EnumRecord(Record):
    """A member of an enumeration: `name` and `value`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{self.class_name}.{self.name}: {self.value!r}>"


class TupleRecord(tuple[Any, ...]):  # noqa: SLOT001 (a tuple has no room for slots)
    """A named tuple: a tuple whose items have names, and which may have attributes besides."""

    class_name = "tuple"
    _fields: tuple[str, ...] = ()
    _more: Mapping[str, Any] = MappingProxyType({})

    @classmethod
    def of(
        cls, class_name: str, content: dict[str, Any], more: dict[str, Any] | None = None
    ) -> TupleRecord:
        record = cls(content.values())
        fields = tuple(content)
        record.__dict__.update(class_name=class_name, _fields=fields, _more=dict(more or {}))
        return record

    def __reduce__(self) -> tuple[Any, ...]:
        return TupleRecord.of, (self.class_name, self._asdict(), dict(self._more))

    def __getattr__(self, name: str) -> Any:
        if name in self._fields:
            return self[self._fields.index(name)]
        if name in self._more:
            return self._more[name]
        msg = f"{self.class_name!r} has no field {name!r}"
        raise AttributeError(msg)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        msg = "a TupleRecord is read-only"
        raise AttributeError(msg)

    def __repr__(self) -> str:
        content = ", ".join(f"{name}={self[n]!r}" for n, name in enumerate(self._fields))
        return f"{self.class_name}({content})"

    def _asdict(self) -> dict[str, Any]:
        return dict(zip(self._fields, self, strict=True))
