"""Values in and out: inputs are checked and encoded here, messages and results decoded.

The only host module that uses the codec.  Data from a sandbox is decoded as plain data and arrays;
anything that needs Qiskit stays an opaque `Value` until the caller decodes it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from runner.errors import InputsError
from runner.programs import Program, schema
from runner.programs.manifest import Manifest
from sandbox import codec
from sandbox.wire.protocol import JsonText, ProtocolError, check_json

Value = codec.Value
"""A value not decoded yet: `raw` is its JSON, `decode()` builds it and may need Qiskit."""


def check_inputs(program: Program, inputs: Mapping[str, Any], *, limit_bytes: int) -> JsonText:
    """Return the inputs as the text that goes to the sandbox, with defaults filled in.

    Raises InputsError that names every problem: unknown or missing arguments of `main`, and values
    that do not fit the program's schema, that cannot be encoded, or that exceed `limit_bytes`.
    """
    if not _are_named(inputs):
        msg = f"inputs are {inputs!r:.80}: give them by name, such as {{'shots': 100}}"
        raise InputsError(msg)
    parameters = program.manifest.parameters or {}
    inputs = _with_defaults(parameters, inputs)
    try:
        text = check_json(codec.encode(inputs, "inputs"))
    except (codec.EncodingError, ProtocolError) as error:
        msg = f"inputs of {program.name!r} cannot be sent: {error}"
        raise InputsError(msg) from error
    if len(text) > limit_bytes:
        msg = f"inputs of {program.name!r} are {len(text)} bytes, the limit is {limit_bytes}"
        raise InputsError(msg)
    problems = schema.all_problems([(parameters, text, "inputs")]) if parameters else []
    if program.signature is not None:
        problems = program.signature.problems(set(inputs)) + problems
    if problems:
        msg = f"inputs of {program.name!r} do not fit: " + "; ".join(problems)
        raise InputsError(msg, problems)
    return text


def _with_defaults(parameters: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs with the schema's defaults, also in objects that are encoded already."""
    objects = {
        name: each.raw
        for name, each in inputs.items()
        if isinstance(each, Value) and isinstance(each.raw, dict)
    }
    filled = schema.with_defaults(parameters, {**inputs, **objects})
    return {**filled, **{name: Value(filled[name]) for name in objects}}


def _are_named(inputs: object) -> bool:
    return isinstance(inputs, Mapping) and all(isinstance(name, str) for name in inputs)


def from_json(text: str | bytes) -> Any:
    """Return JSON text as a value in which tagged parts are decoded by whoever uses it.

    Raises ValueError or RecursionError for other text.
    """
    return as_encoded(json.loads(text, parse_constant=codec.tag_constant))


def as_encoded(data: Any) -> Any:
    """Return the same for what strict JSON has been read as."""
    return Value(data) if isinstance(data, dict | list) else data


def tagged(tag: str, content: Any) -> Value:
    """Return the value that the sandbox decodes from this content by the row of the tag.

    Bytes travel compressed, as circuits and arrays do.
    """
    return Value(codec.tagged(tag, content))


def as_sent(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return inputs that are encoded JSON data already, marked so that they are not encoded again.

    They are not decoded either, here or in `check_inputs`.
    """
    return {name: Value(data) for name, data in inputs.items()}


def as_text(data: Any) -> JsonText:
    """Return JSON data as text."""
    return JsonText(json.dumps(data))


def sent_text(inputs: Mapping[str, Any]) -> JsonText:
    """Return inputs as the text that a client sends.  Raises InputsError."""
    return as_text(encoded(dict(inputs), "inputs"))


def loaded(text: str | bytes) -> Any:
    """Return what JSON text says, with NaN and infinities tagged.  Raises ValueError.

    Bytes are UTF-8.  Numbers that are too large for a float, such as `1e999`, are refused.
    """
    return json.loads(text, parse_constant=codec.tag_constant, parse_float=_finite)


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        msg = f"the number {text:.40} is too large"
        raise ValueError(msg)
    return value


def encoded(value: Any, name: str) -> Any:
    """Return a value as JSON data.  Raises InputsError that names the part it cannot encode."""
    try:
        return json.loads(codec.encode(value, name))
    except codec.EncodingError as error:
        raise InputsError(str(error)) from error


def mismatches(
    manifest: Manifest, messages: Iterable[JsonText], result: JsonText | None
) -> list[str]:
    """Return how messages and result differ from the program's manifest.

    The differences are text for people; a mismatch changes neither the values nor the outcome.  All
    checks share one set of bounds.
    """

    def questions() -> Iterator[schema.Question]:
        if manifest.interim_results is not None:
            for number, body in enumerate(messages):
                yield manifest.interim_results, body, f"messages[{number}]"
        if manifest.return_values is not None and result is not None:
            yield manifest.return_values, result, "result"

    return schema.all_problems(questions())


def decode(text: JsonText) -> Any:
    """Return the value of a message or result: plain data and arrays, safe for any content.

    A value that only Qiskit can build is returned as an opaque `Value`.  The whole text becomes one
    `Value` if any part is tagged but malformed, or if it would take more than 256 MiB of memory.
    """
    try:
        return codec.decode(text, trusted=False)
    except codec.DecodingError:
        return codec.Value.of_text(text)
