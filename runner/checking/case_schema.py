"""The JSON Schema of a case file, both for checking it and for editors.

It does not check that schemas and pointers inside a case are valid, nor that probabilities add up
to at most 1.
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
"""The keys that replace `expect` on one isolation or in a session, and its name."""

_NOT_NEGATIVE: Final = {"type": "number", "minimum": 0, "maximum": sys.float_info.max}
_OUTCOME: Final = {"enum": [each.value for each in Outcome]}
_TOLERANCE: Final = {
    "description": "how much numbers may differ",
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
            "description": "probability of each outcome; the others share the rest up to 1",
            "type": "object",
            "additionalProperties": {"type": "number", "minimum": 0, "maximum": 1},
        },
        "counts": {
            "description": "another sample",
            "type": "object",
            "additionalProperties": {"type": "integer", "minimum": 0, "maximum": MAX_COUNT},
        },
        "significance": {
            "description": "the share of correct samples that fail",
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
    "description": "the expectation for one part: equals, schema or distribution",
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
    "description": "the expected outcome, result and messages",
    "type": "object",
    "properties": {
        "outcome": {
            "description": "the expected outcome, or a list of allowed ones (completed)",
            "anyOf": [_OUTCOME, {"type": "array", "items": _OUTCOME}],
        },
        "result": {"description": "the result in its encoded form"},
        "messages": {"description": "all messages in their encoded form", "type": "array"},
        "message_count": {"description": "how many messages", "type": "integer"},
        "tolerance": {"$ref": "#/$defs/tolerance"},
        "checks": {
            "description": "expectations for parts of result and messages",
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
        "$schema": {"description": "the location of this schema, for editors", "type": "string"},
        "description": {"description": "what the case shows", "type": "string"},
        "inputs": {"description": "the inputs of main in encoded form", "type": "object"},
        "input_files": {
            "description": "inputs that are files beside the case: .json, .qpy, .qasm, .npy, …",
            "type": "object",
            "additionalProperties": {"type": "string", "pattern": "^[^/\\u0000]{1,255}$"},
        },
        "backend": {
            "description": "a backend by name or as an object; null for the default",
            "type": ["string", "object", "null"],
            "properties": {"options": {"type": "object"}},
        },
        "recording": {
            "description": "a file beside the case with what a held backend answered",
            "type": "string",
            "pattern": "^[^/\\u0000]{1,255}$",
        },
        "seed": {
            "description": "the seed of the backend's random numbers",
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
