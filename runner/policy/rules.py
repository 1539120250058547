"""What the operator allows every user of a service, and what a service bounds for itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The table `[service]` of `qrunner.toml`.

    Attributes:
        programs: how many programs a user may own.
        program_bytes: what all versions of a user's programs may take, packed.
        jobs: how many jobs of a user may wait or run.
        running: how many of them may run at the same time; 0 for no bound of the user's own.
        cpu_s_per_day: CPU seconds that a user's jobs may use within a day; 0 for no bound.
        streams: how many streams of events a user may have open.
        all_streams: how many streams there may be in all.
        connections: how many connections there may be in all.
        request_s: seconds within which the head of a request, and a small body, must arrive.
        grace_s: seconds that running jobs get to end after SIGTERM.
        requirements: the packages, by name, that uploaded programs may lock.
    """

    programs: int = 100
    program_bytes: int = 256 * _MIB
    jobs: int = 1000
    running: int = 0
    cpu_s_per_day: float = 0.0
    streams: int = 1000
    all_streams: int = 2000
    connections: int = 4000
    request_s: float = 30.0
    grace_s: float = 30.0
    requirements: tuple[str, ...] = ()

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> Rules:
        """Return the rules of a table that fits the schema."""
        given = dict(table)
        if "requirements" in given:
            given["requirements"] = tuple(given["requirements"])
        return cls(**given)

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """Return the JSON Schema of the table."""
        kinds = {
            "int": {"description": "a whole number, 0 or more", "type": "integer", "minimum": 0},
            "float": {"description": "a number, 0 or more", "type": "number", "minimum": 0},
            "tuple[str, ...]": {
                "description": "a list of the names of packages",
                "type": "array",
                "items": {"description": "the name of a package", "type": "string"},
            },
        }
        return {
            "description": f"a table of {', '.join(each.name for each in dataclasses.fields(cls))}",
            "type": "object",
            "properties": {each.name: kinds[str(each.type)] for each in dataclasses.fields(cls)},
            "additionalProperties": False,
        }
