"""The JSON Schemas of the files that people write, for their editors.

They are made from the data that the code itself checks these files with.  `qrunner schema` prints
them, and the documentation publishes them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from runner.checking import case_schema
from runner.policy import settings
from runner.programs import manifest

_DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"

# A schema that names no draft is read as the newest draft and must be valid in it; the code checks
# a schema that names another draft.
_SCHEMA_OF_2020: Final = {
    "if": {"type": "object", "properties": {"$schema": {"const": _DRAFT}}},
    "then": {"$ref": _DRAFT},
}


def _manifest() -> dict[str, Any]:
    schema = manifest.json_schema()
    inside = {**schema["$defs"], "values": {**schema["$defs"]["values"], **_SCHEMA_OF_2020}}
    return {**schema, "$defs": inside}


def _case() -> dict[str, Any]:
    about = "One case of a program: cases/*.json"
    return {"title": "qiskit-program-runner case", "description": about, **case_schema.CASE}


def _config() -> dict[str, Any]:
    about = "What the operator allows: qrunner.toml"
    return {
        "title": "qiskit-program-runner settings",
        "description": about,
        **settings.json_schema(),
    }


_DOCUMENTS: Final[Mapping[str, Callable[[], dict[str, Any]]]] = {
    "manifest": _manifest,
    "case": _case,
    "config": _config,
}

NAMES: Final = tuple(_DOCUMENTS)


def document(name: str) -> dict[str, Any]:
    """Return the JSON Schema of one of `NAMES`.  Raises KeyError for another."""
    return {"$schema": _DRAFT, **_DOCUMENTS[name]()}
