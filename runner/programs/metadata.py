"""Metadata of IBM's runtime programs, as users wrote them, into what a manifest may say.

IBM's clients sent on whatever stood in these files: types in words, texts instead of schemas,
keys of their own.  What has a meaning is kept; what can have none is left out, or told to people in
a description.  A key that is nearly one that has a meaning is left as it is, to be refused.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from pathlib import PurePath
from typing import Any, Final

SCHEMA_KEYS: Final = ("parameters", "return_values", "interim_results")
"""Keys whose values are schemas, or IBM's older lists."""

_KINDS: Final = {
    **dict.fromkeys(("int", "integer"), "integer"),
    **dict.fromkeys(("float", "number", "double"), "number"),
    **dict.fromkeys(("str", "string"), "string"),
    **dict.fromkeys(("bool", "boolean"), "boolean"),
    **dict.fromkeys(("dict", "object", "dictionary"), "object"),
    **dict.fromkeys(("list", "array"), "array"),
    **dict.fromkeys(("none", "null"), "null"),
}
"""Words for types, and what JSON Schema calls them; other words say nothing about the type."""

_CONTAINER: Final = re.compile(r"(?:an? )?(list|array|dict|dictionary)\b(?:\[.*\]| of .*)?")
_OR: Final = re.compile(r"\s*(?:\bor\b|[|/])\s*")
_WORDS: Final = ("max_execution_time", "spec", "cost")
_CLOSE: Final = 0.8


def beside(path: PurePath) -> tuple[PurePath, PurePath]:
    """Return where the metadata of a program file may be: `x.json` and `x_metadata.json`."""
    return path.with_suffix(".json"), path.with_name(f"{path.stem}_metadata.json")


def is_metadata(path: PurePath, text: str) -> bool:
    """Return whether a file calls itself metadata, by its name or by what it says.

    Any other JSON file may stand beside a program; what calls itself metadata must be right.
    """
    if path.stem.endswith("_metadata"):
        return True
    return '"name"' in text and any(f'"{word}"' in text for word in _WORDS)


def type_of(words: object) -> str | list[str] | None:
    """Return what JSON Schema calls the types that words such as "int or List[str]" name."""
    kinds = [_kind(each) for each in _OR.split(str(words).strip().lower())]
    named = list(dict.fromkeys(each for each in kinds if each is not None))
    if not named or None in kinds:
        return None
    return named[0] if len(named) == 1 else named


def _kind(words: str) -> str | None:
    if found := _CONTAINER.fullmatch(words):
        return _KINDS[found[1]]
    return _KINDS.get(words)


def normal(
    content: Mapping[str, Any], name: str, known: Collection[str], spec_known: Collection[str]
) -> dict[str, Any]:
    """Return the content of a metadata file with what its words mean.

    `name` is the program's where the file gives none; `known` are the keys of a manifest,
    `spec_known` those of its `spec`.
    """
    kept = {"name": name, **_known(content, known)}
    if isinstance(spec := kept.get("spec"), dict):
        kept["spec"] = _known(spec, spec_known)
    for place in (kept, kept.get("spec")):
        if isinstance(place, dict):
            place.update({key: _values(place[key]) for key in SCHEMA_KEYS if key in place})
    return kept


def _known(content: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    return {
        key: value
        for key, value in content.items()
        if value is not None
        and (key in known or difflib.get_close_matches(str(key), known, n=1, cutoff=_CLOSE))
    }


def _values(value: Any) -> Any:
    if isinstance(value, str):
        return {"description": value}
    return _schema(value) if isinstance(value, dict) else value


def _schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema whose types, and those of what is in it, are JSON Schema's."""
    made = dict(schema)
    words = schema.get("type")
    if isinstance(words, str) and words not in _KINDS.values():
        del made["type"]
        if kind := type_of(words):
            made["type"] = kind
        else:
            made["description"] = f"{schema.get('description', '')} ({words})".strip()
    if isinstance(properties := schema.get("properties"), dict):
        made["properties"] = {key: _values(each) for key, each in properties.items()}
        needed = [key for key, each in made["properties"].items() if _says_required(each)]
        if needed:
            made["required"] = list(dict.fromkeys([*made.get("required", ()), *needed]))
    if isinstance(items := schema.get("items"), dict):
        made["items"] = _schema(items)
    return made


def _says_required(schema: Any) -> bool:
    """Take `required: true` out of a schema, where it says nothing, and return what it said."""
    if not isinstance(schema, dict) or not isinstance(schema.get("required"), (bool, str)):
        return False
    return str(schema.pop("required")).lower() == "true"
