"""`program.yaml` → a frozen `Manifest`, or a `ManifestError` that names the key.

The manifest of an untrusted program is untrusted: its size is bounded, YAML aliases (which can
blow up) and duplicate keys are refused, and nothing in it can raise a limit of the operator.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, best_match

from runner.errors import ManifestError, RequestError
from runner.policy import Limits

MANIFEST_NAME: Final = "program.yaml"
DEFAULT_ENTRY: Final = "program.py"
MAX_MANIFEST_BYTES: Final = 256 * 1024

_SCHEMA_FILE: Final = Path(__file__).with_name("manifest.schema.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a program says of itself.

    `limits` are those it lowers, by the names of `Limits`; `parameters` is the JSON Schema of its
    inputs, `signature` what its source accepts (None if that cannot be told without running it).
    """

    name: str
    description: str = ""
    entry: str = DEFAULT_ENTRY
    limits: Mapping[str, float] = field(default_factory=dict)
    parameters: Mapping[str, Any] | None = None
    return_values: Mapping[str, Any] | None = None
    interim_results: Mapping[str, Any] | None = None
    backend_requirements: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_text(cls, text: str, *, source: str) -> Manifest:
        """Read YAML or JSON; `source` names the file in errors.  Raises ManifestError."""
        content = _parse(text, source)
        if error := best_match(_validator().iter_errors(content)):
            key = ".".join(str(each) for each in error.absolute_path) or "the manifest"
            msg = f"{source}: {key}: {error.message}"
            raise ManifestError(msg)
        spec = content.get("spec", {})
        for key in ("parameters", "return_values", "interim_results"):
            _check_schema(spec.get(key), f"{source}: spec.{key}")
        limits = dict(content.get("limits", {}))
        if "max_execution_time" in content:
            wanted = content["max_execution_time"]
            limits["timeout_s"] = min(wanted, limits.get("timeout_s", wanted))
        try:
            Limits().lowered_by(limits)
        except RequestError as error:
            msg = f"{source}: limits: {error}"
            raise ManifestError(msg) from error
        return cls(
            name=content["name"],
            description=content.get("description", ""),
            entry=content.get("entry", DEFAULT_ENTRY),
            limits=limits,
            parameters=spec.get("parameters"),
            return_values=spec.get("return_values"),
            interim_results=spec.get("interim_results"),
            backend_requirements=spec.get("backend_requirements", {}),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """The inputs that a program's `main` accepts, read from its source without running it."""

    required: tuple[str, ...]
    optional: tuple[str, ...]
    accepts_any: bool

    @classmethod
    def of_source(cls, source: bytes) -> Signature | None:
        """Return the signature of the one plain `def main` at top level, else None."""
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None  # the sandbox will say so, with the line
        bindings = [node for node in tree.body if getattr(node, "name", None) == "main"]
        if len(bindings) != 1 or not isinstance(bindings[0], ast.FunctionDef):
            return None
        if bindings[0].decorator_list:
            return None
        given = bindings[0].args
        positional = [each.arg for each in [*given.posonlyargs, *given.args]]
        if len(positional) < 2 or len(given.posonlyargs) > 2:  # backend and messenger may be
            return None
        without_default = positional[: len(positional) - len(given.defaults)][2:]
        keywords = list(zip(given.kwonlyargs, given.kw_defaults, strict=True))
        return cls(
            required=(*without_default, *(a.arg for a, default in keywords if default is None)),
            optional=(
                *(name for name in positional[2:] if name not in without_default),
                *(a.arg for a, default in keywords if default is not None),
            ),
            accepts_any=given.kwarg is not None,
        )


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


def _parse(text: str, source: str) -> dict[str, Any]:
    if len(text) > MAX_MANIFEST_BYTES:
        msg = f"{source}: longer than {MAX_MANIFEST_BYTES} bytes"
        raise ManifestError(msg)
    try:
        content = yaml.load(text, Loader=_StrictLoader)  # noqa: S506  a SafeLoader, made stricter
        json.dumps(content, allow_nan=False)  # dates, sets and NaN have no place in a manifest
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        msg = f"{source}: not a readable manifest: {' '.join(str(error).split())}"
        raise ManifestError(msg) from error
    if not isinstance(content, dict):
        msg = f"{source}: the manifest must be a mapping of keys to values, at least `name: …`"
        raise ManifestError(msg)
    return content


def _check_schema(schema: Mapping[str, Any] | None, where: str) -> None:
    if schema is None:
        return
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        msg = f"{where}: not a JSON Schema: {error.message}"
        raise ManifestError(msg) from error


@cache
def _validator() -> Draft202012Validator:
    return Draft202012Validator(json.loads(_SCHEMA_FILE.read_text()))
