"""The operator's settings: `qrunner.toml`, and the flags that override parts of it.

The file is never searched for in the working directory or in a checkout, because code under check
must not set its own limits.  It is the file that is named, or the user's own.  Programs and cases
can lower these limits, never raise them.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import click
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from runner.errors import RequestError
from runner.policy import ENGINE_WARNINGS, REQUIREMENTS, Limits, Policy, held, parse_size
from runner.policy.held import HeldBackend
from runner.policy.isolation import Isolation
from runner.policy.limits import most
from runner.policy.rules import Rules

CONFIG_NAME: Final = "qrunner.toml"
VARIABLE: Final = "QRUNNER_CONFIG"
MAX_CONFIG_BYTES: Final = 64 * 1024
MAX_JOBS: Final = 1000
CHECK_DEADLINE_S: Final = 3600.0

_MISSING: Final = sorted({*REQUIREMENTS, ENGINE_WARNINGS})
_SIZE: Final = {"type": "string", "pattern": r"^\d{1,15}(\.\d{1,15})?[kmgKMG]?([iI]?[bB])?$"}
_SCHEMA: Final[dict[str, Any]] = {
    "properties": {
        "limits": {
            "description": "a table of limits, such as [limits] with timeout_s = 60",
            "type": "object",
        },
        "isolation": {
            "description": f"one of {', '.join(Isolation)}",
            "enum": [each.value for each in Isolation],
        },
        "jobs": {
            "description": f"a whole number from 1 to {MAX_JOBS}",
            "type": "integer",
            "minimum": 1,
            "maximum": MAX_JOBS,
        },
        "allow_missing": {
            "description": 'a list of texts, such as ["swap-limit"]',
            "type": "array",
            "items": {"description": f"one of {', '.join(_MISSING)}", "enum": _MISSING},
        },
        "service": Rules.json_schema(),
        "backends": {
            "description": "tables of backends that this host holds, such as [backends.lab]",
            "type": "object",
            "additionalProperties": {
                "description": "a table, such as [backends.lab]",
                "type": "object",
            },
        },
        "check_deadline_s": {
            "description": "a number of seconds above 0",
            "type": "number",
            "exclusiveMinimum": 0,
        },
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The operator's settings: the upper limits of every job, and how jobs are run.

    Attributes:
        isolation, jobs: None for the default; `jobs` is the number of sandboxes at once.
        service: what `qrunner serve` allows its users.
        check_deadline_s: the longest that a whole `qrunner check` may take, in seconds.
        cluster: the cluster whose nodes run the jobs, None for this machine; not in the file.
        retries: how often a job is run again after its node was lost; not in the file.
        backends: the backends that this host holds for programs.
        source: the file that the settings came from.
    """

    limits: Limits = field(default_factory=Limits)
    isolation: Isolation | None = None
    jobs: int | None = None
    allow_missing: frozenset[str] = frozenset()
    check_deadline_s: float = CHECK_DEADLINE_S
    service: Rules = field(default_factory=Rules)
    cluster: str | None = None
    retries: int = 0
    backends: tuple[HeldBackend, ...] = ()
    source: Path | None = None

    @property
    def policy(self) -> Policy:
        """The hardening of every sandbox."""
        chosen = Policy(allow_missing=self.allow_missing)
        if self.isolation is None:
            return chosen
        return dataclasses.replace(chosen, isolation=self.isolation)

    def replaced_by(self, flags: Mapping[str, Any]) -> Settings:
        """Return these settings, overridden by the flags of the command line that are not None.

        Takes `timeout`, `memory`, `cpus`, `isolation`, `allow_missing`, `jobs`, `cluster` and
        `retries`.  Raises RequestError.
        """
        limits = {
            "timeout_s": flags.get("timeout"),
            "memory_bytes": flags.get("memory"),
            "cpus": flags.get("cpus"),
        }
        given = {name: value for name, value in limits.items() if value is not None}
        changes: dict[str, Any] = {"limits": _limits(given, self.limits, "")}
        if flags.get("isolation") is not None:
            changes["isolation"] = Isolation(flags["isolation"])
        for name in ("jobs", "cluster", "retries"):
            if flags.get(name) is not None:
                changes[name] = flags[name]
        changes["allow_missing"] = self.allow_missing | set(flags.get("allow_missing") or ())
        return dataclasses.replace(self, **changes)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the file, for editors; it includes the limits."""
    limits = Limits.json_schema()
    for name, schema in limits["properties"].items():
        schema["maximum"] = most(name)
        if name.endswith("_bytes"):
            size = {"description": f"{schema['description']}, or a text such as 512m"}
            limits["properties"][name] = {**size, "anyOf": [schema, _SIZE]}
    return {
        "type": "object",
        "properties": {
            **_SCHEMA["properties"],
            "limits": limits,
            "backends": {**_SCHEMA["properties"]["backends"], "additionalProperties": held.SCHEMA},
        },
        "additionalProperties": False,
    }


def load(named: Path | None = None) -> Settings:
    """Return the settings of the named file, else of $QRUNNER_CONFIG, else of the user's file.

    Raises RequestError that names file and key; a file that is named must exist.
    """
    variable = os.environ.get(VARIABLE)
    if named is None and variable:
        named = Path(variable)
    path = named or Path(click.get_app_dir("qrunner")) / CONFIG_NAME
    try:
        with path.open("rb") as file:
            content = file.read(MAX_CONFIG_BYTES + 1)
    except FileNotFoundError:
        if named is None:
            return Settings()
        msg = f"{path}: no such file: name the operator's {CONFIG_NAME} with --config or {VARIABLE}"
        raise RequestError(msg) from None
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror}"
        raise RequestError(msg) from error
    if len(content) > MAX_CONFIG_BYTES:
        msg = f"{path}: longer than {MAX_CONFIG_BYTES} bytes"
        raise RequestError(msg)
    try:
        return _settings(tomllib.loads(content.decode(), parse_float=_finite), path)
    except ValueError as error:  # not TOML, or not UTF-8
        msg = f"{path}: not readable as TOML: {error}"
        raise RequestError(msg) from error


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        msg = f"{text:.40} is no number that anything here can have"
        raise ValueError(msg)
    return number


def _settings(data: dict[str, Any], path: Path) -> Settings:
    for key in data:
        _check_known(key, list(_SCHEMA["properties"]), f"{path}: {key}")
    service = data.get("service")
    for key in service if isinstance(service, dict) else ():
        known = list(_SCHEMA["properties"]["service"]["properties"])
        _check_known(key, known, f"{path}: service.{key}")
    if error := best_match(Draft202012Validator(_SCHEMA).iter_errors(data)):
        key = ".".join(str(each) for each in error.absolute_path)
        meaning = cast("dict[str, Any]", error.schema).get("description", "something else")
        msg = f"{path}: {key}: {error.instance!r:.80}: must be {meaning}"
        raise RequestError(msg)
    limits = _limits(data.pop("limits", {}), Limits(), f"{path}: limits.")
    if "isolation" in data:
        data["isolation"] = Isolation(data["isolation"])
    if "allow_missing" in data:
        data["allow_missing"] = frozenset(data["allow_missing"])
    if "service" in data:
        data["service"] = Rules.of(data["service"])
    tables = data.pop("backends", {})
    data["backends"] = tuple(
        HeldBackend.of(name, table, f"{path}: backends.{name}") for name, table in tables.items()
    )
    return Settings(limits=limits, source=path, **data)


def _limits(given: Mapping[str, Any], ceiling: Limits, where: str) -> Limits:
    """Return the limits with some replaced; sizes may be texts such as "512m"."""
    names = [each.name for each in dataclasses.fields(Limits)]
    values: dict[str, Any] = {}
    for name, value in given.items():
        _check_known(name, names, f"{where}{name}")
        try:
            is_text = isinstance(value, str) and name.endswith("_bytes")
            values[name] = parse_size(value) if is_text else value
            dataclasses.replace(ceiling, **values)
        except RequestError as error:
            msg = f"{where}{name}: {error}" if where else str(error)
            raise RequestError(msg) from error
    return dataclasses.replace(ceiling, **values)


def _check_known(key: str, known: list[str], where: str) -> None:
    if key in known:
        return
    close = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
    msg = f"{where}: unknown key; {hint}"
    raise RequestError(msg)
