"""The codec's rows for the standard library and for a program's own classes.

Only the standard library is used; modules besides `builtins` are imported when a value is decoded.
"""

from __future__ import annotations

import functools
import math
import re
import sys
from collections.abc import Iterator
from typing import Any, Final

from sandbox.codec.records import EnumRecord, Record, TupleRecord
from sandbox.codec.rows import (
    Reader,
    Row,
    UnavailableError,
    a_dict,
    a_list,
    a_record,
    a_text,
    an_int,
    base64_of,
    bytes_of,
    check_cost,
)

_LARGE_INT_BITS: Final = 14_000
"""Integers from here on are tagged, because Python's JSON readers refuse over 4300 digits."""

_MAX_EXACT_BITS: Final = _LARGE_INT_BITS
"""The most bits of numbers in a fraction or range, whose arithmetic is quadratic."""

_MAX_DECIMAL: Final = 10_000
"""The most digits of a decimal, and before or after its point: `int` writes all of them."""

_FLOATS: Final = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_FACTORIES: Final = {each.__name__: each for each in (list, dict, set, int, float, str, tuple)}
_ZONE: Final = re.compile(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+){0,4}")


def is_plain(value: Any) -> bool:
    """Return whether a value of one of JSON's own scalar types can be written unchanged."""
    if type(value) is float:
        return math.isfinite(value)
    return type(value) is not int or value.bit_length() < _LARGE_INT_BITS


def _complex_from(data: Any, _: Reader) -> complex:
    real, imaginary = data
    if not {type(real), type(imaginary)} <= {int, float}:
        msg = "its parts are no numbers"
        raise TypeError(msg)
    return complex(float(real), float(imaginary))


def _pairs(value: dict[Any, Any]) -> list[Any]:
    return [[key, item] for key, item in dict.items(value)]


def _dict_from(data: Any, reader: Reader) -> dict[Any, Any]:
    return dict(_pairs_from(data, reader))


def _pairs_from(data: Any, reader: Reader) -> Iterator[tuple[Any, Any]]:
    return reader.pairs([(key, value) for key, value in a_list(data)])


def _defaultdict_to(value: Any) -> list[Any]:
    factory = value.default_factory
    name = factory if factory is None else getattr(factory, "__name__", "?")
    if name is not None and _FACTORIES.get(name) is not factory:
        msg = "its default_factory is no type of Python's own"
        raise TypeError(msg)
    return [name, _pairs(value)]


def _defaultdict_from(data: Any, reader: Reader) -> Any:
    import collections

    name, pairs = data
    factory = None if name is None else _FACTORIES[name]
    return collections.defaultdict(factory, _pairs_from(pairs, reader))


def _ordered_from(data: Any, reader: Reader) -> Any:
    import collections

    return collections.OrderedDict(_pairs_from(data, reader))


def _counter_from(data: Any, reader: Reader) -> Any:
    import collections

    return collections.Counter(_dict_from(data, reader))


def _deque_from(data: Any, _: Reader) -> Any:
    import collections

    items, length = data
    return collections.deque(a_list(items), None if length is None else an_int(length))


def _time_to(value: Any) -> Any:
    """Return ISO text; a list with zone and fold if the zone has a name or the hour is repeated."""
    datetime, zone = sys.modules["datetime"], value.tzinfo
    name: Any = None
    if type(zone) is datetime.timezone:
        _, name = (*zone.__getinitargs__(), None)[:2]
    elif zone is not None:
        name = getattr(zone, "key", None)
        if type(zone) is not getattr(sys.modules.get("zoneinfo"), "ZoneInfo", None) or not name:
            msg = f"its time zone is a {type(zone).__name__}; use those of datetime or zoneinfo"
            raise TypeError(msg)
        return [value.replace(tzinfo=None, fold=0).isoformat(), name, value.fold]
    text = value.replace(fold=0).isoformat()
    return text if name is None and not value.fold else [text, name, value.fold]


def _with_zone(value: Any, name: Any, fold: Any, reader: Reader) -> Any:
    import datetime

    zone = value.tzinfo
    if name is not None and zone is not None:
        zone = datetime.timezone(zone.utcoffset(None), a_text(name))
    elif name is not None:
        zone = _zone(a_text(name), reader)
    return value.replace(tzinfo=zone, fold=an_int(fold))


def _zone(name: str, reader: Reader) -> Any:
    if not _ZONE.fullmatch(name):
        msg = f"a time zone called {name!r:.80}"
        raise ValueError(msg)
    import zoneinfo

    # Searching for a name that does not exist is slow.
    if reader.is_bounded and name.removeprefix("posix/").removeprefix("right/") not in _zones():
        raise UnavailableError from zoneinfo.ZoneInfoNotFoundError(name)
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, OSError) as error:
        raise UnavailableError from error


@functools.cache
def _zones() -> frozenset[str]:
    import zoneinfo

    return frozenset(zoneinfo.available_timezones())


def _datetime_from(data: Any, reader: Reader) -> Any:
    import datetime

    if isinstance(data, str):
        return datetime.datetime.fromisoformat(data)
    text, name, fold = data
    return _with_zone(datetime.datetime.fromisoformat(text), name, fold, reader)


def _clock_from(data: Any, reader: Reader) -> Any:
    import datetime

    if isinstance(data, str):
        return datetime.time.fromisoformat(data)
    text, name, fold = data
    return _with_zone(datetime.time.fromisoformat(text), name, fold, reader)


def _date_from(data: Any, _: Reader) -> Any:
    import datetime

    return datetime.date.fromisoformat(data)


def _timedelta_from(data: Any, _: Reader) -> Any:
    import datetime

    days, seconds, microseconds = map(an_int, data)
    return datetime.timedelta(days, seconds, microseconds)


def _decimal_from(data: Any, reader: Reader) -> Any:
    import decimal

    check_cost(reader, len(a_text(data)), _MAX_DECIMAL, "digits")
    number = decimal.Decimal(data)
    if number.is_finite():
        check_cost(reader, abs(number.adjusted()), _MAX_DECIMAL, "digits before or after the point")
    return number


def _fraction_from(data: Any, reader: Reader) -> Any:
    import fractions

    # Never from text: Fraction("1e999999999") would compute that power of ten.
    numerator, denominator = _exact(data, reader)
    return fractions.Fraction(numerator, denominator)


def _uuid_from(data: Any, _: Reader) -> Any:
    import uuid

    return uuid.UUID(a_text(data))


def _range_from(data: Any, reader: Reader) -> range:
    start, stop, step = _exact(data, reader)
    return range(start, stop, step)


def _exact(data: Any, reader: Reader) -> list[int]:
    """Return integers small enough to be divided by each other."""
    numbers = [an_int(each) for each in a_list(data)]
    for each in numbers:
        check_cost(reader, each.bit_length(), _MAX_EXACT_BITS, "bits")
    return numbers


def _slice_from(data: Any, _: Reader) -> slice:
    start, stop, step = data
    return slice(start, stop, step)


def _namespace_from(data: Any, _: Reader) -> Any:
    import types

    return types.SimpleNamespace(**a_record(data))


def _is_enum(kind: type) -> bool:
    return kind is EnumRecord or issubclass(kind, getattr(sys.modules.get("enum"), "Enum", ()))


def _enum_to(value: Any) -> dict[str, Any]:
    if isinstance(value, EnumRecord):
        return {"class": value.class_name, **value.as_dict()}
    return {"class": type(value).__name__, "name": value._name_, "value": value._value_}


def _enum_from(data: Any, _: Reader) -> EnumRecord:
    a_dict(data, "class", "name", "value")
    return EnumRecord(a_text(data["class"]), {"name": data["name"], "value": data["value"]})


def _is_named_tuple(kind: type) -> bool:
    fields = getattr(kind, "_fields", None)
    return issubclass(kind, tuple) and type(fields) is tuple and all(map(_is_text, fields))


def _is_text(value: Any) -> bool:
    return type(value) is str


def _is_dataclass(kind: type) -> bool:
    return kind is Record or type(getattr(kind, "__dataclass_fields__", None)) is dict


def _class_name(value: Any) -> str:
    return value.class_name if isinstance(value, (Record, TupleRecord)) else type(value).__name__


def _named_tuple_to(value: Any) -> dict[str, Any]:
    content = dict(zip(value._fields, tuple.__iter__(value), strict=True))
    return _record_data(value, content)


def _dataclass_to(value: Any) -> dict[str, Any]:
    if isinstance(value, Record):
        return _record_data(value, value.as_dict())
    fields = sys.modules["dataclasses"].fields(value)
    return _record_data(value, {field.name: getattr(value, field.name) for field in fields})


def _record_data(value: Any, content: dict[str, Any]) -> dict[str, Any]:
    """Return the data of a record; `more` has attributes that are no fields, if there are any.

    Private attributes (where SciPy keeps modules) stay behind, like the methods that they serve.
    """
    if isinstance(value, (Record, TupleRecord)):
        more = value._more
    else:
        attributes = getattr(value, "__dict__", {})
        names = [name for name in attributes if name not in content and name[:1] != "_"]
        more = {name: attributes[name] for name in names}
    data = {"class": _class_name(value), "fields": content}
    return {**data, "more": more} if more else data


def _record_from(data: Any, _: Reader) -> Record:
    return Record(*_record_parts(data))


def _named_tuple_from(data: Any, _: Reader) -> TupleRecord:
    return TupleRecord.of(*_record_parts(data))


def _record_parts(data: Any) -> tuple[str, dict[str, Any], dict[str, Any]]:
    more = a_dict({"more": {}, **a_dict(data, *data)}, "class", "fields", "more")["more"]
    return a_text(data["class"]), a_record(data["fields"]), a_record(more)


ROWS: Final = (
    Row("float", "builtins:float", repr, lambda data, _: _FLOATS[data]),
    Row("int", "builtins:int", hex, lambda data, _: int(a_text(data), 16)),
    Row("complex", "builtins:complex", lambda v: [v.real, v.imag], _complex_from),
    Row("tuple", "builtins:tuple", list, lambda data, _: tuple(a_list(data))),
    Row("set", "builtins:set", list, lambda d, reader: set(reader.members(a_list(d)))),
    Row(
        "frozenset",
        "builtins:frozenset",
        list,
        lambda d, reader: frozenset(reader.members(a_list(d))),
    ),
    Row("dict", "builtins:dict", _pairs, _dict_from),
    Row("bytes", "builtins:bytes", base64_of, lambda data, _: bytes_of(data)),
    Row("bytearray", "builtins:bytearray", base64_of, lambda data, _: bytearray(bytes_of(data))),
    Row("range", "builtins:range", lambda v: [v.start, v.stop, v.step], _range_from),
    Row("slice", "builtins:slice", lambda v: [v.start, v.stop, v.step], _slice_from),
    Row("datetime", "datetime:datetime", _time_to, _datetime_from),
    Row("date", "datetime:date", lambda v: v.isoformat(), _date_from),
    Row("time", "datetime:time", _time_to, _clock_from),
    Row(
        "timedelta",
        "datetime:timedelta",
        lambda v: [v.days, v.seconds, v.microseconds],
        _timedelta_from,
    ),
    Row("Decimal", "decimal:Decimal", str, _decimal_from),
    Row("Fraction", "fractions:Fraction", lambda v: [v.numerator, v.denominator], _fraction_from),
    Row("UUID", "uuid:UUID", str, _uuid_from),
    Row("OrderedDict", "collections:OrderedDict", _pairs, _ordered_from),
    Row("Counter", "collections:Counter", _pairs, _counter_from),
    Row("defaultdict", "collections:defaultdict", _defaultdict_to, _defaultdict_from),
    Row("deque", "collections:deque", lambda v: [list(v), v.maxlen], _deque_from),
    Row("SimpleNamespace", "types:SimpleNamespace", lambda v: dict(vars(v)), _namespace_from),
)

FAMILIES: Final = (
    Row("enum", _is_enum, _enum_to, _enum_from),
    Row("namedtuple", _is_named_tuple, _named_tuple_to, _named_tuple_from),
    Row("dataclass", _is_dataclass, _dataclass_to, _record_from),
)
"""Rows for a program's own classes, recognised by their kind."""
