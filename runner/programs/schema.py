"""Values against JSON Schemas, bounded in time and memory whatever the schema and the value.

Both sides may be hostile: a pattern can backtrack for ever, `uniqueItems` compares all with all,
a large value costs seconds anywhere.  A small value and a schema of harmless words are checked
here; everything else in a child process with limits on its CPU time, memory and answer.

Values are looked at in their encoded form: tuples and sets count as arrays, NumPy arrays as
arrays whose items are not looked at, NumPy numbers and members of enumerations as their values,
dataclasses, counters and the like as objects; everything else that is tagged as an object without
properties.
"""

from __future__ import annotations

import copy
import functools
import itertools
import json
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.validators import extend, validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

from runner.encoded.parts import LISTS

MAX_PROBLEMS: Final = 20
MAX_MESSAGE: Final = 200
CPU_S: Final = 3
WALL_S: Final = 10.0
MEMORY_BYTES: Final = 1 << 30

_IN_PROCESS_WORK: Final = 20_000
"""Nodes of the schema times nodes of the value: about 0.1 s at most."""

# Words whose cost is one look at the value each.  `pattern`, `format`, `uniqueItems` and
# references are not among them.
_HARMLESS: Final = frozenset(
    {
        "$schema",
        "$comment",
        "title",
        "description",
        "default",
        "examples",
        "type",
        "enum",
        "const",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "minItems",
        "maxItems",
        "minLength",
        "maxLength",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "minProperties",
        "maxProperties",
        "allOf",
        "anyOf",
        "oneOf",
        "not",
        "readOnly",
        "writeOnly",
        "deprecated",
    }
)
_ARRAYS: Final = frozenset({"ndarray", "masked_array", "matrix", "recarray", "sparse", "spmatrix"})
_PAIRS: Final = frozenset({"OrderedDict", "Counter"})
_OBJECTS: Final = frozenset({"SimpleNamespace", "OptimizeResult"})


def problems(schema: Mapping[str, Any], data: Any, *, name: str) -> list[str]:
    """Return every way in which encoded `data` violates `schema`, in words, with its path.

    `name` stands for the value as a whole.  At most `MAX_PROBLEMS` are named.  A check that would
    take more than the bounds is itself a problem.
    """
    work = _count(schema, _IN_PROCESS_WORK) * _count(data, _IN_PROCESS_WORK)
    if work <= _IN_PROCESS_WORK and _is_harmless(schema):
        return _find(schema, data, name)
    return _find_in_child(schema, data, name)


def flaw(schema: Mapping[str, Any]) -> tuple[list[Any], str] | None:
    """Return where in a JSON Schema something is wrong, and what that is; None if it is right.

    What names no draft is read as 2020-12.
    """
    try:
        validator_for(schema, default=Draft202012Validator).check_schema(dict(schema))
    except SchemaError as error:
        return list(error.absolute_path), f"{error.message:.{MAX_MESSAGE}}"
    except (RecursionError, ArithmeticError, AttributeError, TypeError, ValueError) as error:
        # The library cannot read it at all.
        return [], f"{type(error).__name__}: {error!s:.{MAX_MESSAGE}}"
    return None


def with_defaults(schema: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with the defaults of the schema's properties filled in, also inside."""
    filled = dict(values)
    properties = schema.get("properties")
    for key, inner in properties.items() if isinstance(properties, dict) else ():
        if not isinstance(inner, dict):
            continue
        if key not in filled and "default" in inner:
            filled[key] = copy.deepcopy(inner["default"])
        if isinstance(filled.get(key), dict):
            filled[key] = with_defaults(inner, filled[key])
    return filled


class _OpaqueObject(dict[str, Any]):
    """Something tagged that counts as an object."""


class _OpaqueArray(list[Any]):
    """An array whose items are not looked at."""


def _view(data: Any) -> Any:
    """Return encoded data as a schema is to see it."""
    if isinstance(data, list):
        return [_view(each) for each in data]
    if not isinstance(data, dict):
        return data
    if set(data) != {"__type__", "__value__"}:
        return {key: _view(value) for key, value in data.items()}
    tag, value = data["__type__"], data["__value__"]
    if not isinstance(tag, str):
        return _OpaqueObject()
    if tag in LISTS and isinstance(value, list):
        return [_view(each) for each in value]
    if tag == "float" and value in ("nan", "inf", "-inf"):  # it may be no text
        return float(value)
    if tag in _ARRAYS:
        return _OpaqueArray()
    return _view_of_content(tag, value)


def _view_of_content(tag: Any, value: Any) -> Any:
    """Return what stands for a tagged value that has JSON's own values inside."""
    match tag, value:
        case "numpy", [_, bool() | int() | float() | str() as item]:
            return item
        case "enum", {"value": item}:
            return _view(item)
        case "namedtuple", {"fields": dict(fields)}:
            return [_view(each) for each in fields.values()]
        case "dataclass", {"fields": dict(fields)}:
            return _view(fields)
        case str(), dict() if tag in _OBJECTS:
            return _view(value)
        case str(), list() if tag in _PAIRS and all(map(_is_pair, value)):
            return {key: _view(item) for key, item in value}
    return _OpaqueObject()


def _is_pair(item: Any) -> bool:
    return isinstance(item, list) and len(item) == 2 and isinstance(item[0], str)


def _find(schema: Mapping[str, Any], data: Any, name: str) -> list[str]:
    kind = _kind(validator_for(schema, default=Draft202012Validator))
    # An empty registry: a `$ref` must never make this host fetch something.
    validator = kind(schema, registry=Registry())
    found = itertools.islice(validator.iter_errors(_view(data)), MAX_PROBLEMS)
    try:
        return [_words(each, name) for each in found]
    except (Unresolvable, RecursionError, ArithmeticError, TypeError, ValueError) as error:
        return [f"{name}: the schema cannot be used: {type(error).__name__}: {error}"]


@functools.cache  # there are half a dozen drafts of JSON Schema
def _kind(base: Any) -> Any:
    # Items of an array that is not looked at cannot be too few.
    checks = {"minItems": _min_items(base.VALIDATORS["minItems"])}
    return extend(base, checks)  # type: ignore[no-untyped-call]


def _min_items(check: Any) -> Any:
    def min_items(validator: Any, least: Any, instance: Any, schema: Any) -> Iterator[Any]:
        if not isinstance(instance, _OpaqueArray):
            yield from check(validator, least, instance, schema) or ()

    return min_items


def _words(error: ValidationError, name: str) -> str:
    path = "".join(
        f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.absolute_path
    )
    return f"{name}{path}: {error.message:.{MAX_MESSAGE}}"


def _find_in_child(schema: Mapping[str, Any], data: Any, name: str) -> list[str]:
    request = json.dumps({"schema": schema, "data": data, "name": name})
    try:
        child = subprocess.run(
            [sys.executable, "-s", "-m", "runner.programs.schema"],
            input=request,
            capture_output=True,
            text=True,
            timeout=WALL_S,
            cwd=Path(__file__).parents[2],
            check=False,
        )
        answer = json.loads(child.stdout) if child.returncode == 0 else None
    except (subprocess.TimeoutExpired, ValueError):
        answer = None
    if answer is None:
        return [
            f"{name}: checking it against the schema takes more than {CPU_S} s or "
            f"{MEMORY_BYTES >> 20} MiB: make the schema simpler or the value smaller"
        ]
    return [str(each) for each in answer]


def _count(data: Any, enough: int) -> int:
    """Return the number of nodes in JSON data, at most about `enough`."""
    count, pending = 1, [data]
    while pending and count <= enough:
        each = pending.pop()
        children = list(each.values()) if isinstance(each, dict) else each
        if isinstance(children, list):
            count += len(children)
            pending += children
        elif isinstance(children, str):
            count += len(children) >> 6
    return count


def _is_harmless(schema: Any) -> bool:
    """Return whether a schema, and those in it, use harmless words only."""
    if not isinstance(schema, dict):
        return True
    if not _HARMLESS.issuperset(schema):
        return False
    inner: list[Any] = [schema.get("items"), schema.get("additionalProperties"), schema.get("not")]
    for word in ("allOf", "anyOf", "oneOf"):
        inner += schema.get(word, ())
    inner += schema.get("properties", {}).values()
    return all(_is_harmless(each) for each in inner)


def _main() -> None:
    """Answer one request; runs in the child."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    request = json.load(sys.stdin)
    json.dump(_find(request["schema"], request["data"], request["name"]), sys.stdout)


if __name__ == "__main__":
    _main()
