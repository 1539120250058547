"""`program.yaml` → a frozen `Manifest`, or a `ManifestError` that names file, line and key.

YAML and JSON are read alike, and so are the metadata files of IBM's runtime programs, the newer
form with a `spec` and the older one with lists.  The manifest of an untrusted program is
untrusted: its size is bounded, YAML aliases (which can blow up) and duplicate keys are refused,
and nothing in it can raise a limit of the operator.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final, cast

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match

from runner.errors import ManifestError
from runner.policy import Limits
from runner.policy.isolation import Isolation
from runner.programs import metadata
from runner.programs.schema import flaws

MANIFEST_NAME: Final = "program.yaml"
MANIFEST_NAMES: Final = (MANIFEST_NAME, "program.yml", "program.json")
DEFAULT_ENTRY: Final = "program.py"
MAX_MANIFEST_BYTES: Final = 256 * 1024

_SCHEMA_FILE: Final = Path(__file__).with_name("manifest.schema.json")
_SPEC_KEYS: Final = ("backend_requirements", *metadata.SCHEMA_KEYS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a program says of itself.

    `limits` are those it lowers, by the names of `Limits`.  `parameters`, `return_values` and
    `interim_results` are JSON Schemas, None where the program says nothing.  `requirements` is the
    file that lists what it needs beyond the stack.
    """

    name: str
    description: str = ""
    entry: str = DEFAULT_ENTRY
    isolation: Isolation | None = None
    requirements: str | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    parameters: Mapping[str, Any] | None = None
    return_values: Mapping[str, Any] | None = None
    interim_results: Mapping[str, Any] | None = None
    backend_requirements: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    @lru_cache(maxsize=64)  # by the text itself, and a manifest is never changed
    def from_text(cls, text: str, *, source: str, named: str | None = None) -> Manifest:
        """Read YAML or JSON.

        `source` names the file in errors.  With `named` it is IBM's metadata, which may be written
        more freely, of the program that is called so if the metadata does not say how.  Raises
        ManifestError.
        """
        document = _Document(text, source)
        if named is not None:
            known = json_schema()["properties"]
            document.content = metadata.normal(document.content, named, known, _SPEC_KEYS)
        content = document.content
        if error := best_match(_validator().iter_errors(content)):
            raise document.mistake(error)
        older: dict[str, Any] = {key: content[key] for key in _SPEC_KEYS if key in content}
        spec = {**older, **content.get("spec", {})}
        limits = dict(content.get("limits", {}))
        wanted = content.get("max_execution_time", content.get("cost"))
        if wanted is not None:
            limits["timeout_s"] = min(wanted, limits.get("timeout_s", wanted))
        isolation = content.get("isolation")
        return cls(
            name=content["name"],
            description=content.get("description", ""),
            entry=content.get("entry", DEFAULT_ENTRY),
            isolation=Isolation(isolation) if isolation else None,
            requirements=content.get("requirements"),
            limits=limits,
            backend_requirements=spec.get("backend_requirements", {}),
            **_schemas(document, spec),
        )


class _Document:
    """A parsed manifest that knows on which line each of its keys stands."""

    def __init__(self, text: str, source: str) -> None:
        self._source = source
        self._root: yaml.Node | None = None
        if len(text) > MAX_MANIFEST_BYTES:
            raise self.error([], f"longer than {MAX_MANIFEST_BYTES} bytes")
        # JSON may be indented with tabs, YAML may not; inside its texts a tab is always escaped.
        if text.lstrip().startswith("{"):
            text = text.replace("\t", " ")
        try:
            self._root = yaml.compose(text, Loader=_StrictLoader)
            content = yaml.load(text, Loader=_StrictLoader)  # noqa: S506  a SafeLoader, stricter
            json.dumps(content, allow_nan=False)  # dates, sets and NaN have no place in a manifest
        except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
            problem = f"not a readable manifest: {' '.join(str(error).split())}"
            raise self.error([], problem) from error
        if not isinstance(content, dict):
            raise self.error([], "must be a mapping of keys to values, at least `name: …`")
        self.content: dict[str, Any] = content

    def mistake(self, error: ValidationError) -> ManifestError:
        """Return the error for a violation of the manifest's own schema: key, line, what goes."""
        path, violated = list(error.absolute_path), cast("dict[str, Any]", error.schema)
        allowed = sorted(each for each in violated.get("properties", ()) if each[0] != "$")
        if error.validator == "additionalProperties" and allowed:
            unknown = min(set(cast("dict[str, Any]", error.instance)) - set(allowed))
            close = difflib.get_close_matches(str(unknown), allowed, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(allowed)}"
            return self.error([*path, unknown], f"unknown key; {hint}")
        meaning = violated.get("description")
        expected = f"; expected: {meaning}" if meaning and path else ""
        return self.error(path, f"{error.message:.200}{expected}")

    def error(self, path: Sequence[Any], problem: str) -> ManifestError:
        line = self._line(path)
        where = self._source if line is None else f"{self._source}, line {line}"
        key = ".".join(str(each) for each in path)
        return ManifestError(f"{where}: {key}: {problem}" if key else f"{where}: {problem}")

    def _line(self, path: Sequence[Any]) -> int | None:
        """Return the line of the innermost key of `path` that is there."""
        node, mark = self._root, None
        for step in path:
            if isinstance(node, yaml.MappingNode):
                found = [pair for pair in node.value if pair[0].value == str(step)]
                if not found:
                    break
                mark, node = found[0][0].start_mark, found[0][1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
                node = node.value[step]
                mark = node.start_mark
        return None if mark is None else mark.line + 1


class _StrictLoader(yaml.SafeLoader):
    """YAML without aliases, which can grow without bound, and without duplicate keys."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            problem = "aliases (*name) are not allowed"
            mark = self.get_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.constructor.ConstructorError(None, None, problem, mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        seen = set()
        for key_node, _ in node.value:
            if key_node.value in seen:
                problem = f"the key {key_node.value!r} stands twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            if isinstance(key_node.value, str):
                seen.add(key_node.value)
        return super().construct_mapping(node, deep=deep)


def _schemas(document: _Document, spec: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the JSON Schemas of a manifest, made from the older list form where it is one."""
    given = {key: spec[key] for key in metadata.SCHEMA_KEYS if spec.get(key) is not None}
    read = {key: found for key, found in given.items() if not isinstance(found, list)}
    for key, mistake in zip(read, flaws(list(read.values())), strict=True):
        if mistake is not None:  # schemas of IBM's time name draft 2019-09
            inside, words = mistake
            path = ["spec", key] if key in document.content.get("spec", {}) else [key]
            raise document.error([*path, *inside], f"not a JSON Schema: {words}")
    return {key: _from_list(found) if key not in read else found for key, found in given.items()}


def _from_list(entries: list[Any]) -> dict[str, Any]:
    properties, required = {}, []
    for entry in entries:
        described = {"description": entry["description"]} if "description" in entry else {}
        kind = metadata.type_of(entry.get("type", ""))
        properties[entry["name"]] = {**described, **({"type": kind} if kind else {})}
        # The oldest files say "required": "true", as text.
        if str(entry.get("required", "")).lower() == "true":
            required.append(entry["name"])
    return {"type": "object", "properties": properties, "required": required}


@cache
def json_schema() -> Mapping[str, Any]:
    """Return the JSON Schema of a manifest; that schemas inside of it are right is not in there."""
    schema = json.loads(_SCHEMA_FILE.read_text())
    schema["$defs"]["limits"] = Limits.json_schema()
    return cast("Mapping[str, Any]", schema)


@cache
def _validator() -> Draft202012Validator:
    return Draft202012Validator(json_schema())
