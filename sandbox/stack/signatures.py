"""The signature of what a program asks of a held backend: the same whenever it asks the same.

Names of circuits count up within a process, and parameters have identities of their own.  Neither
changes what a device does, so neither is part of it.
"""

from __future__ import annotations

import hashlib
import marshal
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from qiskit.circuit import QuantumCircuit
from qiskit.circuit.controlflow import ForLoopOp, SwitchCaseOp

_IDENTITY: Final = re.compile(r"UUID\('[^']*'\)")
"""Of a variable, which has a name as well."""

_LOOSE: Final = "<Clbit uid="
"""How a bit is written that is in no register."""

_NO_SHARING: Final = 2
"""The version of marshal's form in which equal values are equal bytes."""


def of(verb: str, items: Sequence[Any], options: Mapping[str, Any]) -> str:
    """Return the signature of a call with circuits, or with PUBs."""
    digest = hashlib.sha256(f"{verb} {len(items)} {sorted(options.items())}".encode())
    for each in items:
        circuit = each if isinstance(each, QuantumCircuit) else each.circuit
        for part in _parts(circuit):
            digest.update(part)
        if circuit is not each:
            _add_values(digest, each)
    return digest.hexdigest()


def _parts(circuit: QuantumCircuit) -> Iterator[bytes]:
    qubits = {bit: index for index, bit in enumerate(circuit.qubits)}
    clbits = {bit: index for index, bit in enumerate(circuit.clbits)}
    yield _text(circuit.num_qubits, circuit.num_clbits, str(circuit.global_phase))
    for register in circuit.cregs:
        yield _text(register.name, [clbits[bit] for bit in register])
    # There may be thousands of gates, so all are written at once, with a number for each place.
    places: dict[Any, int] = {}
    gates: list[tuple[Any, ...]] = []
    others: list[tuple[int, Any]] = []
    for number, each in enumerate(circuit.data):
        if each.is_standard_gate():
            place = places.setdefault(each.qubits, len(places))
            gates.append((each.name, place, *each.params))
        else:
            others.append((number, each))
    try:
        yield marshal.dumps(gates, _NO_SHARING)
    except ValueError:  # for numbers of other kinds, and expressions
        yield _text([list(map(str, each)) for each in gates])
    yield _text([[qubits[bit] for bit in place] for place in places])
    for number, each in others:
        where = [*[qubits[bit] for bit in each.qubits], "-", *[clbits[bit] for bit in each.clbits]]
        operation: Any = each.operation
        blocks = getattr(operation, "blocks", ())
        params = _flow(operation) if blocks else [_value(value) for value in operation.params]
        asked = getattr(operation, "condition", getattr(operation, "target", None))
        condition = _value(asked, clbits)
        unit = getattr(operation, "unit", None)
        yield _text(number, operation.name, where, params, condition, unit, len(blocks))
        for block in blocks:
            yield from _parts(block)


def _flow(operation: Any) -> list[str]:
    """Return what control flow has beside its blocks and its condition."""
    if isinstance(operation, ForLoopOp):
        indices, variable, _ = operation.params
        return [str(list(indices)), str(variable)]
    if isinstance(operation, SwitchCaseOp):
        return [str(labels) for labels, _ in operation.cases_specifier()]
    return []


def _text(*parts: Any) -> bytes:
    return repr(parts).encode()


def _value(value: Any, clbits: Mapping[Any, int] | None = None) -> str:
    """Return a parameter or a condition in a form without identities."""
    if isinstance(value, tuple):
        target, wanted = value
        named = getattr(target, "name", None)
        return f"{named or (clbits or {}).get(target)} {wanted}"
    if isinstance(value, np.ndarray):
        return np.array2string(value)
    text = _IDENTITY.sub("", str(value))
    for bit, index in (clbits or {}).items() if _LOOSE in text else ():
        text = text.replace(str(bit), f"bit {index}")
    return text


def _add_values(digest: Any, pub: Any) -> None:
    bound = pub.parameter_values.data
    for names in sorted(bound):
        digest.update(f"{names}".encode())
        digest.update(np.ascontiguousarray(bound[names]).tobytes())
    digest.update(f"{pub.shape} {getattr(pub, 'shots', None)}".encode())
    digest.update(f"{getattr(pub, 'precision', None)}".encode())
    observables = getattr(pub, "observables", None)
    if observables is not None:
        digest.update(repr(observables.tolist()).encode())
