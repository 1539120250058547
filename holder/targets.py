"""A backend's target as plain data, and whether a circuit fits it.

The data becomes a target again inside the sandbox (`sandbox.stack.held`).  It has the gates that
Qiskit's library knows, gates of the provider by name and width, and control flow; what else a
target may offer (Aer's save instructions, channels) cannot be asked for across the boundary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Set
from typing import Any, Final

from qiskit.circuit import Barrier, Delay, Gate, Measure, ParameterExpression, QuantumCircuit, Reset
from qiskit.circuit.controlflow import (
    BreakLoopOp,
    ContinueLoopOp,
    ControlFlowOp,
    ForLoopOp,
    IfElseOp,
    SwitchCaseOp,
    WhileLoopOp,
)
from qiskit.circuit.library import get_standard_gate_name_mapping

from holder.refusals import Refused

_CONTROL_FLOW: Final = {
    "if_else": IfElseOp,
    "for_loop": ForLoopOp,
    "while_loop": WhileLoopOp,
    "switch_case": SwitchCaseOp,
}
_WITHIN_LOOPS: Final = (BreakLoopOp, ContinueLoopOp)
_LIBRARY: Final = get_standard_gate_name_mapping()
_TIMING: Final = (
    "granularity",
    "min_length",
    "pulse_alignment",
    "acquire_alignment",
)


def describe(target: Any, *, without: Set[str] = frozenset()) -> dict[str, Any]:
    """Return the target as JSON data; seconds and hertz, None where it does not say.

    `without` are names of instructions to leave out.
    """
    return {
        "num_qubits": target.num_qubits,
        "dt": target.dt,
        **{name: getattr(target, name) for name in _TIMING},
        "qubits": [
            None if each is None else {n: _number(getattr(each, n, None)) for n in _QUBIT}
            for each in target.qubit_properties or ()
        ],
        "instructions": list(_instructions(target, without)),
    }


_QUBIT: Final = ("t1", "t2", "frequency")


def _instructions(target: Any, without: Set[str]) -> Iterator[dict[str, Any]]:
    for name in sorted(set(target.operation_names) - without):
        operation = target.operation_from_name(name)
        if isinstance(operation, type):
            if _CONTROL_FLOW.get(name) is operation:
                yield {"name": name, "gate": name, "places": None}
            continue
        if not _can_be_asked_for(operation):
            continue
        found = target[name]
        places = None if found is None or set(found) == {None} else sorted(found)
        properties = [] if places is None else [found[place] for place in places]
        yield {
            "name": name,
            "gate": operation.name if _is_of_library(operation) else None,
            "width": operation.num_qubits,
            "params": [_number(each) for each in operation.params],
            "places": None if places is None else list(map(list, places)),
            "durations": [_number(getattr(each, "duration", None)) for each in properties],
            "errors": [_number(getattr(each, "error", None)) for each in properties],
        }


def _is_of_library(operation: Any) -> bool:
    known = _LIBRARY.get(operation.name)
    return known is not None and operation.base_class is known.base_class


def _can_be_asked_for(operation: Any) -> bool:
    """Whether a program can have the instruction: of the library, or a gate of the provider."""
    module = str(operation.base_class.__module__)
    is_qiskits = module.partition(".")[0] in {"qiskit", "qiskit_aer"}
    is_plain = type(operation) is Gate
    return _is_of_library(operation) or (
        isinstance(operation, Gate) and (is_plain or not is_qiskits)
    )


def _number(value: Any) -> float | None:
    """Return a number as JSON has it, None for a parameter that is free."""
    if value is None or isinstance(value, ParameterExpression):
        return None
    number = float(value)
    return number if math.isfinite(number) else None


class Fit:
    """Says of circuits whether a target can run them, in the program's own words."""

    def __init__(self, target: Any, described: dict[str, Any]) -> None:
        self._target = target
        self._known = {each["name"]: each for each in described["instructions"]}
        self._good: set[tuple[str, tuple[int, ...]]] = set()

    def check(self, circuits: list[QuantumCircuit], *, bound: bool = True) -> None:
        """Raise Refused for the first circuit that does not fit.

        With `bound`, parameters must have values, and something must be measured.
        """
        for index, circuit in enumerate(circuits):
            where = f"circuit {index} ({circuit.name!r:.80})"
            if circuit.num_qubits > (self._target.num_qubits or circuit.num_qubits):
                most = self._target.num_qubits
                msg = f"{where} has {circuit.num_qubits} qubits, the backend {most}"
                raise Refused(msg)
            if bound and circuit.num_parameters:
                names = ", ".join(sorted(each.name for each in circuit.parameters))
                msg = f"{where} has parameters without values: {names:.200}"
                raise Refused(msg)
            if bound and not ("measure" in circuit.count_ops() or measured_bits(circuit)):
                msg = f"{where} measures nothing"
                raise Refused(msg)
            self._check_block(circuit, range(circuit.num_qubits), where)

    def _check_block(self, circuit: Any, qubits: Any, where: str) -> None:
        index_of: dict[Any, int] = {bit: qubits[index] for index, bit in enumerate(circuit.qubits)}
        seen: set[tuple[str, Any]] = set()
        for number, each in enumerate(circuit.data):
            is_standard = each.is_standard_gate()
            if is_standard and (each.name, each.qubits) in seen:
                continue
            place = tuple([index_of[bit] for bit in each.qubits])
            if is_standard and (each.name, place) in self._good:
                seen.add((each.name, each.qubits))
                continue
            operation: Any = each.operation
            said = f"{where}, instruction {number}: {operation.name!r:.80} on qubits {place!s:.80}"
            if isinstance(operation, (Barrier, *_WITHIN_LOOPS)):
                continue
            if isinstance(operation, ControlFlowOp):
                if operation.name not in self._known:
                    msg = f"{said}: the backend has no such control flow"
                    raise Refused(msg)
                for block in operation.blocks:
                    self._check_block(block, place, where)
                continue
            self._check_operation(operation, place, said)

    def _check_operation(self, operation: Any, place: tuple[int, ...], said: str) -> None:
        name = operation.name
        if name not in self._known:
            msg = f"{said}: the backend has no such gate; transpile for it first"
            raise Refused(msg)
        ours = self._target.operation_from_name(name)
        is_same = operation.base_class is ours.base_class
        if not is_same and (self._known[name]["gate"] is not None or operation.definition):
            msg = f"{said}: a gate of the program's own with a name that the backend uses"
            raise Refused(msg)
        if isinstance(operation, Measure | Reset | Delay) or self._known[name]["places"] is None:
            # Where they have no place of their own, they go everywhere.
            is_there = not self._known[name]["places"] or list(place) in self._known[name]["places"]
        else:
            is_there = self._target.instruction_supported(name, place)
        if is_there and self._known[name]["gate"] == name:
            self._good.add((name, place))
        if not is_there:
            msg = f"{said}: the backend has this gate, but not there; transpile for it"
            raise Refused(msg)


def measured_bits(circuit: QuantumCircuit) -> list[int]:
    """Return the indices of the bits that the circuit may write, in order."""
    found: set[int] = set()
    _collect(circuit, list(range(circuit.num_clbits)), found)
    return sorted(found)


def _collect(circuit: QuantumCircuit, outer: list[int], found: set[int]) -> None:
    index_of = {bit: outer[index] for index, bit in enumerate(circuit.clbits)}
    for each in circuit.data:
        if not each.clbits:
            continue
        bits = [index_of[bit] for bit in each.clbits]
        if each.name == "measure":
            found.update(bits)
        elif each.is_control_flow():
            for block in each.operation.blocks:
                _collect(block, bits, found)
