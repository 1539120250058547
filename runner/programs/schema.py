"""Validation against JSON Schemas, bounded in time and memory for any schema and any value.

Both may be hostile: a pattern can backtrack for ever, `uniqueItems` compares every pair of items,
and a large value, or reading a large schema, takes seconds.  Small values and schemas with harmless
keywords are checked in this process.  All others of a call are checked together in one child
process, with one budget of CPU time and memory.

Values are checked in their encoded form: tuples and sets count as arrays; NumPy arrays as arrays
whose items are not checked; NumPy numbers and members of enumerations as their values; dataclasses,
counters and the like as objects; every other tagged value as an object without properties.
"""

from __future__ import annotations

import copy
import functools
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.validators import extend, validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

from runner.encoded.parts import LISTS
from runner.host import bounded
from runner.host.bounded import Bounds

MAX_PROBLEMS: Final = 20
MAX_MESSAGE: Final = 200
CPU_S: Final = 3
WALL_S: Final = 10.0
MEMORY_BYTES: Final = 1 << 30

Flaw: TypeAlias = tuple[list[Any], str]
"""The path in a schema to an error, and the error in words."""

Question: TypeAlias = tuple[Mapping[str, Any], str, str]
"""A schema, the JSON text of an encoded value, and the name of the value."""

IN_PROCESS_WORK: Final = 20_000
"""Limit for the nodes of the schema times the nodes of the value: about 0.1 s."""

_QUICK_NODES: Final = 400
_QUICK_CHARS: Final = 8192
_SLOW_PATTERNS: Final = ("(?", "\\u")
"""Flags, and characters beyond ASCII, with which compiling a pattern can take seconds."""

_MAX_PATH: Final = 200

# Keywords that cost one look at the value each.  `pattern`, `format`, `uniqueItems` and
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
_VALUES: Final = frozenset({"const", "default", "enum", "examples", "properties"})
"""Harmless keywords whose value is not a schema itself."""

_ARRAYS: Final = frozenset({"ndarray", "masked_array", "matrix", "recarray", "sparse", "spmatrix"})
_PAIRS: Final = frozenset({"OrderedDict", "Counter"})
_OBJECTS: Final = frozenset({"SimpleNamespace", "OptimizeResult"})


def problems(schema: Mapping[str, Any], data: Any, *, name: str) -> list[str]:
    """Return every way in which encoded `data` violates `schema`, as text with the path.

    `name` denotes the value as a whole.  At most `MAX_PROBLEMS` are returned.  A check that exceeds
    the bounds is itself a problem.
    """
    return all_problems([(schema, json.dumps(data), name)])


def all_problems(questions: Iterable[Question]) -> list[str]:
    """Return the problems of several values, as `problems` does; the values share its bounds.

    Values after the one at which the bounds were reached are not checked, and the text says so.
    """
    first: list[Question] = []
    work = 0
    others = iter(questions)
    for each in others:
        first.append(each)
        work += cost(each[0], each[1])
        if work > IN_PROCESS_WORK:
            return _problems_in_child(itertools.chain(first, others))
    found = (problems_here(spec, json.loads(text), name) for spec, text, name in first)
    return list(itertools.islice(itertools.chain.from_iterable(found), MAX_PROBLEMS))


def cost(schema: Mapping[str, Any], text: str) -> int:
    """Return the work to check a value, or more than any bound if it cannot be estimated."""
    enough = IN_PROCESS_WORK
    nodes = 1 + (len(text) >> 6) + sum(map(text.count, ",[{"))
    if nodes > enough or not _is_harmless(schema):
        return enough + 1
    return _count(schema, enough) * nodes


def flaw(schema: Mapping[str, Any]) -> Flaw | None:
    """Return the first error in a JSON Schema, None if it is valid.

    A schema that names no draft is read as 2020-12.
    """
    return flaws([schema])[0]


def flaws(schemas: Sequence[Mapping[str, Any]]) -> list[Flaw | None]:
    """Return the first error in each of several schemas, which share one set of bounds."""
    if all(map(_is_quickly_read, schemas)):
        return [flaw_here(each) for each in schemas]
    answers = _ask(json.dumps(["flaw", each]) for each in schemas)
    found: list[Flaw | None] = [None if each is None else (each[0], each[1]) for each in answers]
    late: Flaw = ([], f"reading it takes more than {_BOUNDS}: make it simpler")
    return found + [late] * (len(schemas) - len(found))


def flaw_here(schema: Mapping[str, Any]) -> Flaw | None:
    """Return the same as `flaw`, without bounds, for a process that has its own."""
    try:
        validator_for(schema, default=Draft202012Validator).check_schema(dict(schema))
    except SchemaError as error:
        return list(error.absolute_path)[:MAX_PROBLEMS], f"{error.message:.{MAX_MESSAGE}}"
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  the library cannot read it, in whatever way
        return [], f"{type(error).__name__}: {error!s:.{MAX_MESSAGE}}"
    return None


def with_defaults(schema: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with the schema's defaults filled in, also in nested objects."""
    filled = dict(values)
    properties = schema.get("properties")
    for key, inner in properties.items() if isinstance(properties, dict) else ():
        if not isinstance(inner, dict):
            continue
        if key not in filled and "default" in inner:
            filled[key] = copy.deepcopy(inner["default"])
        if isinstance(filled.get(key), dict) and not _is_tagged(filled[key]):
            filled[key] = with_defaults(inner, filled[key])
    return filled


def _is_tagged(data: dict[str, Any]) -> bool:
    return data.keys() == {"__type__", "__value__"}


class _OpaqueObject(dict[str, Any]):
    """A tagged value that counts as an object."""


class _OpaqueArray(list[Any]):
    """An array whose items are not checked."""


def _view(data: Any) -> Any:
    """Return encoded data in the form that is checked against a schema."""
    if isinstance(data, list):
        return [_view(each) for each in data]
    if not isinstance(data, dict):
        return data
    if not _is_tagged(data):
        return {key: _view(value) for key, value in data.items()}
    tag, value = data["__type__"], data["__value__"]
    if not isinstance(tag, str):
        return _OpaqueObject()
    if tag in LISTS and isinstance(value, list):
        return [_view(each) for each in value]
    if tag == "float" and value in ("nan", "inf", "-inf"):  # `value` may be of any type
        return float(value)
    if tag in _ARRAYS:
        return _OpaqueArray()
    return _view_of_content(tag, value)


def _view_of_content(tag: Any, value: Any) -> Any:
    """Return the form of a tagged value that contains JSON values."""
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


def problems_here(schema: Mapping[str, Any], data: Any, name: str) -> list[str]:
    """Return the same as `problems`, without bounds, for a process that has its own."""
    try:
        kind = _kind(validator_for(schema, default=Draft202012Validator))
        # An empty registry, so that a `$ref` never makes this host fetch something.
        validator = kind(schema, registry=Registry())
        found = itertools.islice(validator.iter_errors(_view(data)), MAX_PROBLEMS)
        return [_words(each, name) for each in found]
    except MemoryError:
        raise
    except Unresolvable as error:
        what = f"{error.ref!r:.{MAX_MESSAGE}}, and that is not in it"
        return [f"{name}: the schema refers to {what}: nothing is fetched, so write it out"]
    except Exception as error:  # noqa: BLE001  as above
        words = f"{type(error).__name__}: {error!s:.{MAX_MESSAGE}}"
        return [f"{name}: the schema cannot be used: {words}"]


@functools.cache  # JSON Schema has half a dozen drafts
def _kind(base: Any) -> Any:
    # An array whose items are not checked never has too few.
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
    return f"{name}{path:.{_MAX_PATH}}: {error.message:.{MAX_MESSAGE}}"


_BOUNDS: Final = Bounds(cpu_s=CPU_S, wall_s=WALL_S, memory_bytes=MEMORY_BYTES)


def _ask(questions: Iterable[str]) -> list[Any]:
    return bounded.ask(__name__, questions, _BOUNDS)


def _problems_in_child(questions: Iterable[Question]) -> list[str]:
    names: list[str] = []

    def lines() -> Iterator[str]:
        """Yield the questions, each schema before the first question about it."""
        last = None
        for schema, text, name in questions:
            if schema is not last:
                yield json.dumps(["schema", schema])
                last = schema
            yield f'["check", {json.dumps(name)}, {text}]'
            names.append(name)

    answers = _ask(lines())
    found = list(itertools.chain.from_iterable(answers))[:MAX_PROBLEMS]
    if len(found) < MAX_PROBLEMS and len(answers) < len(names):
        late = names[len(answers)]
        rest = len(names) - len(answers) - 1
        others = f", and {rest} more values were not checked" if rest else ""
        found.append(
            f"{late}: checking it against the schema takes more than {_BOUNDS}: "
            f"make the schema simpler or the value smaller{others}"
        )
    return found


def _answers(questions: Iterator[Any]) -> Iterator[Any]:
    """Answer the questions; runs in the child."""
    schema: Mapping[str, Any] = {}
    count = 0
    for verb, first, *others in questions:
        if verb == "flaw":
            yield flaw_here(first)
        elif verb == "schema":
            schema = first
        else:
            # Each value gets an answer, but is not checked once there are enough problems.
            found = problems_here(schema, others[0], first) if count < MAX_PROBLEMS else []
            count += len(found)
            yield found


def _count(data: Any, enough: int) -> int:
    """Return the number of nodes in JSON data; stops counting soon after `enough`."""
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


def _is_quickly_read(schema: Mapping[str, Any]) -> bool:
    """Return True if reading a schema takes at most a tenth of a second, for any keywords."""
    if _count(schema, _QUICK_NODES) > _QUICK_NODES:
        return False
    try:
        text = json.dumps(schema)
    except (RecursionError, TypeError, ValueError):
        return True  # the library cannot read it either
    return len(text) <= _QUICK_CHARS and not any(each in text.lower() for each in _SLOW_PATTERNS)


def _is_harmless(schema: Any) -> bool:
    """Return True if a schema and its subschemas use harmless keywords only, in any draft."""
    if isinstance(schema, list):
        return all(map(_is_harmless, schema))
    if not isinstance(schema, dict):
        return True
    if not _HARMLESS.issuperset(schema):
        return False
    properties = schema.get("properties", {})
    if not isinstance(properties, dict):
        return False
    # In the oldest draft, a type can be a schema.
    inner = [value for word, value in schema.items() if word not in _VALUES]
    return all(map(_is_harmless, (*inner, *properties.values())))


if __name__ == "__main__":
    bounded.serve(_answers)
