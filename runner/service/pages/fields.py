"""The inputs of a program as fields of a form, made from its schema; and what was typed, as inputs.

Numbers, texts, choices and yes or no have fields of their own; whatever else a schema says is typed
as JSON.  The schema and `main`'s signature are a stranger's: nothing here is more than shown, and
the inputs are checked below, where those of every other request are.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from runner.programs import Program
from runner.programs.values import loaded

_MAX_FIELDS: Final = 200
_MAX_CHOICES: Final = 200
_MAX_HELP: Final = 1000


class Kind(StrEnum):
    """What a field takes, and so what it looks like."""

    NUMBER = "number"
    TEXT = "text"
    CHOICE = "choice"
    FLAG = "flag"
    JSON = "json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One input as a field; `typed` is what stands in it, "" for nothing.

    The field without a name is for inputs that nothing describes, as one JSON object.  `least`,
    `most` and `step` are those of a number, "" for none; `choices` are JSON texts.  `takes_empty`
    says that nothing typed is an empty text, and not the absence of one.
    """

    name: str
    kind: Kind
    title: str = ""
    help: str = ""
    typed: str = ""
    is_required: bool = False
    takes_empty: bool = False
    least: str = ""
    most: str = ""
    step: str = "any"
    choices: tuple[str, ...] = ()
    mistakes: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """What the field is called in its form."""
        return f"input.{self.name}" if self.name else "inputs"


def fields_of(program: Program, inputs: Mapping[str, Any] | None = None) -> list[Field]:
    """Return the fields of a program's inputs, with the defaults or these encoded inputs in them.

    The last one is for all that the program does not describe, if it takes more.
    """
    schema = program.manifest.parameters or {}
    described, signature = _mapping(schema.get("properties")), program.signature
    required = {*_texts(schema.get("required")), *(signature.required if signature else ())}
    named = (*signature.required, *signature.optional) if signature else ()
    names = [each for each in dict.fromkeys([*described, *named]) if each][:_MAX_FIELDS]
    found = [_field(name, _mapping(described.get(name)), name in required) for name in names]
    if inputs is not None:
        found = [_with(each, inputs.get(each.name, _NOTHING)) for each in found]
    if signature is None or signature.accepts_any:
        others = {name: each for name, each in (inputs or {}).items() if name not in names}
        typed = json.dumps(others, indent=1) if others else ""
        about = "A JSON object of inputs by their names."
        found.append(Field(name="", kind=Kind.JSON, title="Other inputs", help=about, typed=typed))
    return found


def typed_into(fields: Sequence[Field], form: Mapping[str, Any]) -> list[Field]:
    """Return the fields with what was typed into them, and what of it cannot be read."""
    return [_read(each, form) for each in fields]


def inputs_of(fields: Sequence[Field]) -> dict[str, Any]:
    """Return what was typed as encoded inputs; fields left empty are left out, for the defaults."""
    found: dict[str, Any] = {}
    for each in filter(_is_given, fields):
        value = _value(each)
        found |= {each.name: value} if each.name else value
    return found


def with_problems(
    fields: Sequence[Field], problems: Sequence[str]
) -> tuple[list[Field], list[str]]:
    """Return the fields with the problems that are about them, and all the others."""
    others = list(problems)
    found = []
    for each in fields:
        own = [text for text in others if each.name and _is_about(text, each.name)]
        others = [text for text in others if text not in own]
        found.append(dataclasses.replace(each, mistakes=(*each.mistakes, *own)))
    return found, others


# --- a schema as a field --------------------------------------------------------------------------

_NOTHING: Final = object()


def _field(name: str, schema: Mapping[str, Any], is_required: bool) -> Field:  # noqa: FBT001
    lower, upper = schema.get("minimum"), schema.get("maximum")
    has_default = "default" in schema
    kind, choices = _kind(schema, is_certain=is_required or has_default)
    field = Field(
        name=name,
        kind=kind,
        title=_text(schema.get("title")) or name,
        help=_text(schema.get("description")),
        is_required=is_required and not has_default,
        takes_empty=kind is Kind.TEXT and (is_required or has_default),
        least=_number(lower if lower is not None else schema.get("exclusiveMinimum")),
        most=_number(upper if upper is not None else schema.get("exclusiveMaximum")),
        step="1" if schema.get("type") == "integer" else "any",
        choices=choices,
    )
    return _with(field, schema.get("default", _NOTHING))


def _kind(schema: Mapping[str, Any], *, is_certain: bool) -> tuple[Kind, tuple[str, ...]]:
    choices, named = schema.get("enum"), schema.get("type")
    if isinstance(choices, list) and 0 < len(choices) <= _MAX_CHOICES:
        return Kind.CHOICE, tuple(json.dumps(each) for each in choices)
    if named == "boolean":  # what is not ticked is no; that nothing is said is a third choice
        return (Kind.FLAG, ()) if is_certain else (Kind.CHOICE, ("true", "false"))
    kinds = {"integer": Kind.NUMBER, "number": Kind.NUMBER, "string": Kind.TEXT}
    return kinds.get(named, Kind.JSON) if isinstance(named, str) else Kind.JSON, ()


def _with(field: Field, value: Any) -> Field:
    """Return a field with a value in it; one that it cannot hold is typed as JSON."""
    if value is _NOTHING:
        return field
    fits = {
        Kind.NUMBER: isinstance(value, int | float) and not isinstance(value, bool),
        Kind.TEXT: isinstance(value, str),
        Kind.FLAG: isinstance(value, bool),
        Kind.CHOICE: json.dumps(value) in field.choices,
        Kind.JSON: True,
    }
    if not fits[field.kind]:
        field = dataclasses.replace(field, kind=Kind.JSON, takes_empty=False)
    typed = value if field.kind is Kind.TEXT else json.dumps(value)
    return dataclasses.replace(field, typed=typed)


def _number(value: object) -> str:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return json.dumps(value) if is_number else ""


def _text(value: object) -> str:
    return value[:_MAX_HELP] if isinstance(value, str) else ""


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _texts(value: object) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


# --- what was typed -------------------------------------------------------------------------------


def _read(field: Field, form: Mapping[str, Any]) -> Field:
    given = form.get(field.key, "")
    typed = given.replace("\r\n", "\n") if isinstance(given, str) else ""
    if field.kind is Kind.FLAG:
        typed = json.dumps(bool(typed))
    field = dataclasses.replace(field, typed=typed)
    mistake = _mistake(field)
    return dataclasses.replace(field, mistakes=(mistake,)) if mistake else field


def _mistake(field: Field) -> str:
    """Return why what was typed cannot be read, "" if it can."""
    if not _is_given(field):
        return "it must be given" if field.is_required else ""
    try:
        value = _value(field)
    except (ValueError, RecursionError) as error:
        if field.kind is Kind.NUMBER:
            return f"{field.typed!r:.80} is no number"
        return f"this is no JSON: {error!s:.200}"
    if not field.name and not isinstance(value, dict):
        return "this is no JSON object"
    return ""


def _is_given(field: Field) -> bool:
    return field.takes_empty or bool(field.typed.strip())


def _value(field: Field) -> Any:
    """Return what stands in a field as an encoded value.  Raises ValueError."""
    if field.kind is Kind.TEXT:
        return field.typed
    value = loaded(field.typed)
    is_whole = field.step == "1" and isinstance(value, float) and value.is_integer()
    return int(value) if is_whole else value


def _is_about(problem: str, name: str) -> bool:
    """Return True if a problem, as `schema` and `Signature` word it, is about this input."""
    rest = problem.removeprefix(f"inputs.{name}")
    if rest != problem:
        return rest[:1] in {":", ".", "["}
    return problem.startswith((f"missing input {name!r} ", f"unknown input {name!r} "))
