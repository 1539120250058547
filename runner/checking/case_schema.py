"""What a case file may hold, as a JSON Schema: the one that is checked, and that editors get.

Not in there: that the schemas and pointers inside of a case are right, and that probabilities do
not add up to more than 1.
"""

from __future__ import annotations

import sys
from typing import Any, Final

from runner.encoded.counts import MAX_COUNT
from runner.job.record import Outcome
from runner.policy import Limits
from runner.policy.isolation import Isolation

IN_SESSION: Final = "session"
EXPECT_ON: Final = {f"expect_{each}": each for each in (*map(str, Isolation), IN_SESSION)}
"""The keys that stand for `expect` on one isolation, or in a session, and which that is."""

_NOT_NEGATIVE: Final = {"type": "number", "minimum": 0, "maximum": sys.float_info.max}
_OUTCOME: Final = {"enum": [each.value for each in Outcome]}
_TOLERANCE: Final = {
    "description": "how far numbers may be off",
    "type": "object",
    "properties": {"absolute": _NOT_NEGATIVE, "relative": _NOT_NEGATIVE},
    "additionalProperties": False,
    "minProperties": 1,
}
_DISTRIBUTION: Final = {
    "description": "counts, compared by a chi-squared test",
    "type": "object",
    "properties": {
        "probabilities": {
            "description": "of each outcome; those not named share what is missing to 1",
            "type": "object",
            "additionalProperties": {"type": "number", "minimum": 0, "maximum": 1},
        },
        "counts": {
            "description": "another sample",
            "type": "object",
            "additionalProperties": {"type": "integer", "minimum": 0, "maximum": MAX_COUNT},
        },
        "significance": {
            "description": "the share of right samples that fail",
            "type": "number",
            "minimum": 1e-15,
            "maximum": 0.1,
        },
    },
    "required": ["significance"],
    "oneOf": [{"required": ["probabilities"]}, {"required": ["counts"]}],
    "additionalProperties": False,
}
_CHECK: Final = {
    "description": "what is expected of one part: equals, schema or distribution",
    "type": "object",
    "properties": {
        "at": {
            "description": "a JSON Pointer that begins with /result or /messages",
            "type": "string",
            "pattern": "^/(result|messages)(/|$)",
        },
        "equals": {"description": "the value in its encoded form"},
        "tolerance": {"$ref": "#/$defs/tolerance"},
        "schema": {
            "description": "a JSON Schema of the value",
            "type": ["object", "boolean"],
            "properties": {"$schema": {"type": "string"}},
        },
        "distribution": _DISTRIBUTION,
    },
    "required": ["at"],
    "oneOf": [{"required": [each]} for each in ("equals", "schema", "distribution")],
    "dependentRequired": {"tolerance": ["equals"]},
    "additionalProperties": False,
}
_EXPECT: Final = {
    "description": "what should come of it",
    "type": "object",
    "properties": {
        "outcome": {
            "description": "how it ends, any of these (completed)",
            "anyOf": [_OUTCOME, {"type": "array", "items": _OUTCOME}],
        },
        "result": {"description": "the result in its encoded form"},
        "messages": {"description": "all messages in their encoded form", "type": "array"},
        "message_count": {"description": "how many messages", "type": "integer"},
        "tolerance": {"$ref": "#/$defs/tolerance"},
        "checks": {
            "description": "what is expected of parts",
            "type": "array",
            "items": {"$ref": "#/$defs/check"},
        },
    },
    "additionalProperties": False,
}

_PARTS: Final = {"tolerance": _TOLERANCE, "check": _CHECK, "expect": _EXPECT}

EXPECT: Final[dict[str, Any]] = {"$ref": "#/$defs/expect", "$defs": _PARTS}
CASE: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "$schema": {"description": "where this schema is, for editors", "type": "string"},
        "description": {"description": "what the case shows", "type": "string"},
        "inputs": {"description": "the inputs of main", "type": "object"},
        "backend": {
            "description": "a backend by name or as an object; null for the default",
            "type": ["string", "object", "null"],
            "properties": {"options": {"type": "object"}},
        },
        "seed": {
            "description": "of what the backend draws",
            "type": "integer",
            "minimum": 0,
            "maximum": (1 << 31) - 1,
        },
        "limits": Limits.json_schema(),
        "expect": {"$ref": "#/$defs/expect"},
        **{key: {"$ref": "#/$defs/expect"} for key in EXPECT_ON},
    },
    "additionalProperties": False,
    "$defs": _PARTS,
}
