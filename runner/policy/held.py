"""What an operator says of a backend that this host holds for programs: `[backends.NAME]`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from runner.errors import RequestError

MAX_NAME_CHARS: Final = 64
_NAME: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.:-]{{0,{MAX_NAME_CHARS - 1}}}")
_TEXTS: Final = {"type": "array", "items": {"type": "string", "minLength": 1}}
_WHOLE: Final = {"type": "integer", "minimum": 0}
_BUDGET: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "circuits": {**_WHOLE, "description": "a whole number of circuits"},
        "shots": {**_WHOLE, "description": "a whole number of shots, over all circuits"},
        "seconds": {"type": "number", "minimum": 0, "description": "a number of seconds"},
    },
    "additionalProperties": False,
}
SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "description": 'a table, such as [backends.lab] with factory = "module:callable"',
    "properties": {
        "factory": {
            "type": "string",
            "pattern": r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
            "description": "what makes the backend, as module:callable",
        },
        "args": {"type": "object", "description": "the keyword arguments of the factory"},
        "env": {
            **_TEXTS,
            "description": "names of environment variables that its process gets, and no other",
        },
        "python": {"type": "string", "description": "the Python of the provider's environment"},
        "options": {
            **_TEXTS,
            "description": "options of run that programs may set besides shots, memory and seed",
        },
        "max_shots": {
            "type": "integer",
            "minimum": 1,
            "description": "the most shots of a circuit",
        },
        "users": {**_TEXTS, "description": "the users whose jobs may call it (default: all)"},
        "per_job": {**_BUDGET, "description": "what one job may use"},
        "per_day": {**_BUDGET, "description": "what one user may use in a day (UTC)"},
        "log": {"type": "string", "description": "a file for what its process prints"},
    },
    "required": ["factory"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The most that may be used of a backend; None where there is no bound.

    `seconds` are the device's own where it says them, else those from a call to its answer.
    """

    circuits: int | None = None
    shots: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldBackend:
    """How a held backend is made, and what may be asked of it.

    Attributes:
        name: the name by which jobs ask for it.
        factory: what makes it in its own process, as `module:callable`.
        args: the keyword arguments of the factory.
        env: the environment variables that its process gets from this one, and nobody else does.
        python: the Python of its provider's environment; None for this one.
        options: options of `run` that programs may set besides shots, memory and seed_simulator.
        max_shots: the most shots of one circuit, None for what the backend takes.
        users: the users whose jobs may call it, None for all.
        per_job, per_day: the budgets of each job, and of each user for a day (UTC).
        log: the file for what its process prints, None for nowhere.
    """

    name: str
    factory: str
    args: Mapping[str, Any] = field(default_factory=dict)
    env: tuple[str, ...] = ()
    python: str | None = None
    options: tuple[str, ...] = ()
    max_shots: int | None = None
    users: tuple[str, ...] | None = None
    per_job: Budget = field(default_factory=Budget)
    per_day: Budget = field(default_factory=Budget)
    log: Path | None = None

    @classmethod
    def of(cls, name: str, table: Any, where: str) -> Self:
        """Return the backend of one table.  Raises RequestError, which `where` begins."""
        if not _NAME.fullmatch(name):
            msg = f"{where}: a name is letters, digits, dots, colons and dashes, not {name!r:.80}"
            raise RequestError(msg)
        if error := best_match(Draft202012Validator(SCHEMA).iter_errors(table)):
            path = ".".join(["", *(str(each) for each in error.absolute_path)])
            schema = error.schema if isinstance(error.schema, dict) else {}
            if error.validator in {"additionalProperties", "required"}:
                known = ", ".join(schema.get("properties", ()))
                msg = f"{where}{path}: {error.message:.200}; known are {known}"
            else:
                meaning = schema.get("description", f"a {schema.get('type')}")
                msg = f"{where}{path}: {error.instance!r:.80}: must be {meaning}"
            raise RequestError(msg)
        given = dict(table)
        for key in ("env", "options", "users"):
            if key in given:
                given[key] = tuple(given[key])
        for key in ("per_job", "per_day"):
            given[key] = Budget(**given.get(key, {}))
        if "log" in given:
            given["log"] = Path(given["log"])
        return cls(name=name, **given)
