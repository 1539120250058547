"""Values in and out: inputs are checked and encoded here, messages and results decoded.

The only host module that uses the codec.  What comes from a sandbox is decoded as plain data and
arrays; anything that would need Qiskit stays an opaque `Value` until the caller asks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry

from runner.errors import InputsError
from runner.registry import Program
from sandbox import codec
from sandbox.protocol import JsonText, ProtocolError, check_json

BACKENDS = ("aer_simulator",)
"""Names of the backends that a sandbox can build."""


def check_inputs(program: Program, inputs: Mapping[str, Any], *, limit_bytes: int) -> Any:
    """Return the inputs in encoded form, as they go to the sandbox.

    Raises InputsError that names every problem: names that `main` does not take or misses, values
    that do not fit the program's schema, that cannot be encoded, or are too large.
    """
    problems = [*_name_problems(program, inputs), *_schema_problems(program, inputs)]
    if problems:
        msg = f"inputs of {program.name!r} do not fit: " + "; ".join(problems)
        raise InputsError(msg)
    try:
        text = codec.encode(dict(inputs))
        check_json(text)
    except (codec.EncodingError, ProtocolError) as error:
        msg = f"inputs of {program.name!r} cannot be sent: {error}"
        raise InputsError(msg) from error
    if len(text) > limit_bytes:
        msg = f"inputs of {program.name!r} are {len(text)} bytes, the limit is {limit_bytes}"
        raise InputsError(msg)
    return json.loads(text)


def backend_description(backend: str | Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the description that the guest builds a backend from.

    A name stands for the backend without options.  Raises InputsError for an unknown one.
    """
    if backend is None or isinstance(backend, str):
        backend = {"name": backend or BACKENDS[0]}
    name = backend.get("name")
    if name not in BACKENDS:
        msg = f"unknown backend {name!r}: known are {', '.join(BACKENDS)}"
        raise InputsError(msg)
    return {"name": name, "options": dict(backend.get("options", {}))}


def decode(text: JsonText) -> Any:
    """Return the value of a message or result: plain data and arrays, safe for any content.

    What only Qiskit can build, and what is tagged but malformed, comes as an opaque `Value`.
    """
    try:
        return codec.decode(text, trusted=False)
    except codec.DecodingError:
        return codec.Value(json.loads(text))


def _name_problems(program: Program, inputs: Mapping[str, Any]) -> list[str]:
    signature = program.signature
    if signature is None:
        return []
    takes = ", ".join([*signature.required, *signature.optional]) or "nothing"
    known = {*signature.required, *signature.optional}
    problems = (
        []
        if signature.accepts_any
        else [
            f"unknown input {name!r} (main takes {takes})" for name in inputs if name not in known
        ]
    )
    return problems + [
        f"missing input {name!r} (main takes {takes})"
        for name in signature.required
        if name not in inputs
    ]


def _schema_problems(program: Program, inputs: Mapping[str, Any]) -> list[str]:
    if program.manifest.parameters is None:
        return []
    # An empty registry: a manifest's `$ref` must never make this host fetch something.
    validator = Draft202012Validator(program.manifest.parameters, registry=Registry())
    errors = validator.iter_errors(dict(inputs))
    return [
        f"{'.'.join(str(each) for each in error.absolute_path) or 'inputs'}: {error.message:.300}"
        for error in errors
    ]
