"""Valid circuits that the pinned Aer computes wrongly, made right before it sees them, or refused.

Each correction names the version that it is for and has a test that fails as soon as Aer is right;
docs/stack.md lists them.  A circuit that needs none is passed on as it is.
"""

from __future__ import annotations

import itertools
import warnings
from typing import Any, Final

from qiskit import QuantumCircuit
from qiskit.circuit.classical import expr, types
from qiskit.circuit.library import SwapGate
from qiskit_aer import AerError

_SAVED_STATES: Final = frozenset(
    f"save_{what}"
    for what in (
        "amplitudes",
        "amplitudes_sq",
        "matrix_product_state",
        "stabilizer",
        "state",
        "statevector",
        "statevector_dict",
    )
)
_SAVED_MAPS: Final = frozenset({"save_clifford", "save_superop", "save_unitary"})
_SILENT_SWAP: Final = SwapGate(label="order of a save instruction")
"""Without noise, because Aer looks the noise of a gate with a label up by that label."""


def corrected(circuits: Any, *, memory: bool) -> Any:
    """Return what Aer is to be given for one circuit or several, `memory` being asked for or not.

    Raises AerError for what Aer would compute wrongly and nothing here can make right.
    """
    if isinstance(circuits, QuantumCircuit):
        return _corrected(circuits, memory=memory)
    return [
        _corrected(each, memory=memory) if isinstance(each, QuantumCircuit) else each
        for each in circuits
    ]


def warn_of_joint_readout(model: Any) -> None:
    """Warn of readout errors of several qubits, in a noise model of Aer or None.

    Qiskit measures qubits one by one, and Aer looks errors up by exactly the measured qubits.
    """
    places = [qubits for qubits in getattr(model, "_local_readout_errors", ()) if len(qubits) > 1]
    if places:
        msg = (
            "the noise model has readout errors of several qubits, "
            f"{', '.join(map(str, places)):.99}, which Aer never applies: "
            "give each qubit an error of its own"
        )
        warnings.warn(msg, UserWarning, stacklevel=3)


def warn_of_missing_gates(circuit: QuantumCircuit, target: Any) -> None:
    """Warn of gates that a device does not have at their qubits: Aer runs them without noise."""
    used = {(step.name, step.qubits) for step in circuit.data if step.is_standard_gate()}
    places = (
        (name, tuple(circuit.find_bit(each).index for each in qubits)) for name, qubits in used
    )
    missing = [
        f"{name} {qubits}"
        for name, qubits in sorted(places)
        if qubits and not target.instruction_supported(name, qubits)
    ]
    if missing:
        msg = (
            f"circuit {circuit.name!r:.80}: the device has no {', '.join(missing):.200}, which is "
            "run without noise: transpile the circuit for the backend first"
        )
        warnings.warn(msg, UserWarning, stacklevel=3)


def _corrected(circuit: QuantumCircuit, *, memory: bool) -> QuantumCircuit:
    if circuit.cregs and list(itertools.chain(*circuit.cregs)) != circuit.clbits:
        circuit = _with_bits_in_order(circuit, memory=memory)
    if circuit.has_control_flow_op():
        circuit = _with_right_casts(circuit)
    if not (_SAVED_STATES | _SAVED_MAPS).isdisjoint(circuit.count_ops()):
        circuit = _with_saves_in_order(circuit)
    return circuit


# --- Aer 0.18.2 reports counts as if registers followed each other, with bits of their own --------


def _with_bits_in_order(circuit: QuantumCircuit, *, memory: bool) -> QuantumCircuit:
    """Return the circuit with its bits in the order of its registers, as counts are laid out.

    Samplers, which ask for the memory, lay it out by the first bit of each register instead.
    """
    if "measure" not in circuit.count_ops() and not circuit.has_control_flow_op():
        return circuit
    bits = list(itertools.chain(*circuit.cregs))
    name = f"circuit {circuit.name!r:.80}"
    if memory:
        scattered = [each.name for each in circuit.cregs if not _is_in_one_piece(circuit, each)]
        if scattered:
            msg = (
                f"{name}: the bits of its registers {', '.join(scattered):.200} do not follow each "
                "other, and samplers would report them in wrong places: make new registers of them"
            )
            raise AerError(msg)
        msg = (
            f"{name}: its registers reorder, share or skip bits; samplers report them rightly, but "
            "get_counts and get_memory of Aer do not"
        )
        warnings.warn(msg, UserWarning, stacklevel=5)
        return circuit
    if len(set(bits)) != len(bits):
        shared = [each.name for each in circuit.cregs if any(bits.count(bit) > 1 for bit in each)]
        msg = (
            f"{name}: its registers {', '.join(shared):.200} share bits, and Aer would report them "
            "in wrong places: give each register bits of its own, or use a sampler"
        )
        raise AerError(msg)
    if len(bits) != len(circuit.clbits):
        inside = set(bits)
        alone = [str(index) for index, bit in enumerate(circuit.clbits) if bit not in inside]
        msg = (
            f"{name}: its bits {', '.join(alone):.80} are in no register while others are, and Aer "
            "would lose counts: put them into a register, or use a sampler"
        )
        raise AerError(msg)
    return _rebuilt(circuit, bits)


def _is_in_one_piece(circuit: QuantumCircuit, register: Any) -> bool:
    places = [circuit.find_bit(bit).index for bit in register]
    return not places or places == list(range(places[0], places[0] + len(places)))


def _rebuilt(circuit: QuantumCircuit, bits: list[Any]) -> QuantumCircuit:
    new = QuantumCircuit(
        circuit.qubits,
        bits,
        *circuit.qregs,
        *circuit.cregs,
        name=circuit.name,
        global_phase=circuit.global_phase,
        metadata=circuit.metadata,
        inputs=circuit.iter_input_vars(),
    )
    for variable in circuit.iter_declared_vars():
        new.add_uninitialized_var(variable)
    for stretch in circuit.iter_declared_stretches():
        new.add_stretch(stretch)
    for step in circuit.data:
        new._append(step)
    new._layout = circuit._layout
    return new


# --- Aer 0.18.2 saves all qubits in the circuit's order, whatever order is asked for --------------


def _with_saves_in_order(circuit: QuantumCircuit) -> QuantumCircuit:
    """Return the circuit with its qubits swapped, for each save, into the order of its qubits.

    The transpiler names them in another order where it leaves a swap out, as it does by default.
    """
    in_order = tuple(circuit.qubits)
    turned = [
        step.name in _SAVED_STATES | _SAVED_MAPS and step.qubits != in_order
        for step in circuit.data
    ]
    if not any(turned):
        return circuit
    new = circuit.copy_empty_like(circuit.name)
    for step, is_turned in zip(circuit.data, turned, strict=True):
        if not is_turned:
            new._append(step)
            continue
        if step.name in _SAVED_MAPS and not _begins_in_order(circuit):
            msg = (
                f"circuit {circuit.name!r:.80}: {step.name} names the qubits in another order than "
                "the circuit does, and Aer would ignore it: name them in the circuit's order"
            )
            raise AerError(msg)
        swaps = _swaps([circuit.find_bit(qubit).index for qubit in step.qubits])
        for pair in swaps:
            new.append(_SILENT_SWAP, pair)
        new._append(step.replace(qubits=in_order))
        for pair in reversed(swaps):
            new.append(_SILENT_SWAP, pair)
    return new


def _begins_in_order(circuit: QuantumCircuit) -> bool:
    """Return whether the circuit has been transpiled, and its qubits began where they are.

    Only then the order in which a unitary names them is that of its results alone.
    """
    layout = circuit.layout
    return layout is not None and layout.initial_index_layout() == list(range(circuit.num_qubits))


def _swaps(order: list[int]) -> list[tuple[int, int]]:
    """Return the swaps that bring the qubit `order[i]` to the place `i`, for each `i`."""
    found, held = [], list(range(len(order)))
    for place, qubit in enumerate(order):
        now = held.index(qubit)
        if now != place:
            held[place], held[now] = held[now], held[place]
            found.append((place, now))
    return found


# --- Aer 0.18.2 inverts the cast of an integer to Bool, and dies of variables in conditions -------


def _with_right_casts(circuit: QuantumCircuit) -> QuantumCircuit:
    """Return the circuit with `x != 0` in the place of each cast of an integer to Bool."""
    before = list(circuit.data)
    after = [_step_with_right_casts(each) for each in before]
    if all(one is other for one, other in zip(before, after, strict=True)):
        return circuit
    new = circuit.copy_empty_like(circuit.name)
    for step in after:
        new._append(step)
    return new


def _step_with_right_casts(step: Any) -> Any:
    if not step.is_control_flow():
        return step
    old = step.operation
    before = list(old.blocks)
    after = list(map(_with_right_casts, before))
    condition = getattr(old, "condition", None)
    check_variables(step.name, condition)
    again = _right(condition)
    if again is not condition:
        return step.replace(operation=type(old)(again, *after, label=old.label))
    if all(one is other for one, other in zip(before, after, strict=True)):
        return step
    new = old.replace_blocks(after)
    new.label = old.label
    return step.replace(operation=new)


def check_variables(name: str, condition: Any) -> None:
    """Raise AerError, which names them, if a condition reads variables: Aer cannot."""
    found = expr.iter_vars(condition) if isinstance(condition, expr.Expr) else ()
    names = [each.name for each in found if each.standalone]
    if names:
        msg = (
            f"{name}: its condition reads the variable {', '.join(names):.80}, which Aer cannot "
            "evaluate: keep the value in a classical register"
        )
        raise AerError(msg)


def _right(node: Any) -> Any:
    """Return an expression without casts of integers to Bool; the same one if it has none."""
    if isinstance(node, expr.Cast):
        operand, again = node.operand, _right(node.operand)
        if isinstance(node.type, types.Bool) and isinstance(operand.type, types.Uint):
            return expr.not_equal(again, 0)
        return node if again is operand else expr.Cast(again, node.type, implicit=node.implicit)
    if isinstance(node, expr.Unary):
        operand, again = node.operand, _right(node.operand)
        return node if again is operand else expr.Unary(node.op, again, node.type)
    if isinstance(node, expr.Binary):
        pair = node.left, node.right
        first, second = map(_right, pair)
        if first is pair[0] and second is pair[1]:
            return node
        return expr.Binary(node.op, first, second, node.type)
    if isinstance(node, expr.Index):
        pair = node.target, node.index
        first, second = map(_right, pair)
        return node if (first, second) == pair else expr.Index(first, second, node.type)
    return node
