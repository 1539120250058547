"""What QPY drops of a circuit, carried beside it, and whether what comes back is the same.

QPY has no units of delays, no schedule, and no names or metadata of the blocks of control flow:
they travel as *marks*.  Equality of circuits looks at none of these, nor at labels or at the
classes of parameters, so what is read back is compared here, part by part.
Standard library only at import.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from sandbox.codec.rows import a_dict, a_list

_MARKS: Final = frozenset({"name", "metadata", "delays", "schedule", "blocks"})
_UNITS: Final = frozenset({"s", "ms", "us", "ns", "ps", "dt"})
_NUMBERS: Final = frozenset({int, float, complex, bool})
_CACHES: Final = frozenset(
    {
        "_definition",
        "_params",
        "_params_arg",
        "_name",
        "_label",
        "_num_qubits",
        "_num_clbits",
        "_base_gate",
    }
    | {"base_gate", "_hash", "definition", "_standard_gate", "_decomposition"}
)
"""Attributes of operations that are compared by themselves, or made from the others."""

_MAX_DEPTH: Final = 20
_UNEQUAL: Final = "it is not equal to what was written"


# --- marks ----------------------------------------------------------------------------------------


def marks_of(circuit: Any) -> dict[str, Any]:
    """Return what QPY would drop of a circuit, {} if nothing, but for its own metadata."""
    delays, blocks = [], []
    for index, each in enumerate(circuit.data):
        if each.name == "delay":
            unit = each.operation.unit
            if unit in _UNITS and (unit != "dt" or type(each.params[0]) is not int):
                delays.append([index, unit])
        elif each.is_control_flow():
            inner = [
                {"name": block.name, "metadata": block.metadata, **marks_of(block)}
                for block in each.operation.blocks
            ]
            blocks.append([index, inner])
    found: dict[str, Any] = {"delays": delays, "blocks": blocks, "schedule": _schedule_of(circuit)}
    return {name: item for name, item in found.items() if item}


def _schedule_of(circuit: Any) -> list[Any] | None:
    schedule = [circuit._op_start_times, circuit._duration, circuit._unit]
    return None if schedule == [None, None, "dt"] else schedule


def with_marks(circuit: Any, marks: Any) -> Any:
    """Return the circuit that was read from QPY with what it lacks; ValueError for others' marks.

    It is made anew, because replacing what stands in one breaks Qiskit's count of blocks.
    """
    if not set(a_dict(marks, *marks)) <= _MARKS:
        msg = f"marks called {', '.join(map(repr, marks)):.80}"
        raise ValueError(msg)
    delays, blocks = (dict(marks.get(name, ())) for name in ("delays", "blocks"))
    if delays or blocks:
        steps = list(circuit.data)
        circuit = circuit.copy_empty_like(circuit.name)
        for index, step in enumerate(steps):
            if index in delays:
                circuit._append(_with_unit(step, delays.pop(index)))
            elif index in blocks:
                circuit._append(_with_blocks(step, a_list(blocks.pop(index))))
            else:
                circuit._append(step)
        if delays or blocks:
            msg = "marks of operations that it does not have"
            raise ValueError(msg)
    for name in ("name", "metadata"):
        if name in marks:
            setattr(circuit, name, marks[name])
    if "schedule" in marks:
        circuit._op_start_times, circuit._duration, circuit._unit = marks["schedule"]
    return circuit


def _with_unit(step: Any, unit: str) -> Any:
    from qiskit.circuit import Delay

    if step.name != "delay" or unit not in _UNITS:
        msg = f"a unit {unit!r:.80} for an operation {step.name!r:.80}"
        raise ValueError(msg)
    return step.replace(operation=Delay(step.params[0], unit))


def _with_blocks(step: Any, marks: list[Any]) -> Any:
    old = step.operation
    new = old.replace_blocks(
        [with_marks(block, each) for block, each in zip(old.blocks, marks, strict=True)]
    )
    new.label = old.label
    return step.replace(operation=new)


# --- differences ----------------------------------------------------------------------------------


def difference(first: Any, second: Any) -> str:
    """Return in what two circuits differ, first of all; "" if in nothing."""
    for name, part in _CIRCUIT_PARTS.items():
        if not is_same(part(first), part(second)):
            return f"its {name}"
    found = _difference_inside(first, second)
    if found or not any(each.is_control_flow() for each in first.data):
        return found
    return "" if first == second else _UNEQUAL  # conditions name bits, which only this follows


def _difference_inside(first: Any, second: Any, depth: int = 0) -> str:
    if len(first.data) != len(second.data):
        return "how many operations it has"
    places = [_indices(each) for each in (first, second)]
    for index, (one, other) in enumerate(zip(first.data, second.data, strict=True)):
        found = "its bits"
        if _places(one, places[0]) == _places(other, places[1]):
            found = _difference_of_steps(one, other, depth)
        if found:
            return f"{one.name!r:.80} at {index}: {found}"
    return ""


def _indices(circuit: Any) -> dict[Any, int]:
    return {
        bit: index for bits in (circuit.qubits, circuit.clbits) for index, bit in enumerate(bits)
    }


def _places(step: Any, indices: Mapping[Any, int]) -> list[int]:
    return [indices[bit] for bits in (step.qubits, step.clbits) for bit in bits]


def _difference_of_steps(one: Any, other: Any, depth: int) -> str:
    if not (one.is_standard_gate() and other.is_standard_gate()):
        return difference_of_operations(one.operation, other.operation, depth)
    if one.name != other.name:
        return "its class"
    if one.label != other.label:
        return "its label"
    return "" if is_same(one.params, other.params) else "its parameters"


def difference_of_operations(one: Any, other: Any, depth: int = 0) -> str:
    """Return in what two operations differ, first of all; "" if in nothing."""
    if depth > _MAX_DEPTH:
        return "what is nested too deeply in it"
    if _class_of(one) is not _class_of(other):
        return f"its class {_class_of(one).__name__}"
    for name in ("name", "label", "num_qubits", "num_clbits", "unit", "duration"):
        if not is_same(getattr(one, name, None), getattr(other, name, None)):
            return f"its {name}"
    if getattr(one, "blocks", ()):  # conditions are compared with the whole, whose bits they name
        return _difference_of_blocks(one, other)
    return _difference_of_parts(one, other, depth) or ("" if one == other else _UNEQUAL)


def special_classes(circuit: Any) -> list[str]:
    """Return the classes of operations that are more than standard gates, each once."""
    special = (each for each in circuit.data if not each.is_standard_gate())
    return list(dict.fromkeys(_class_of(each.operation).__name__ for each in special))


def _class_of(operation: Any) -> type:
    kind: type = getattr(operation, "base_class", type(operation))
    return kind


def _difference_of_blocks(one: Any, other: Any) -> str:
    if not is_same(getattr(one, "annotations", None), getattr(other, "annotations", None)):
        return "its annotations"
    if len(one.blocks) != len(other.blocks):
        return "how many blocks it has"
    for number, pair in enumerate(zip(one.blocks, other.blocks, strict=True)):
        if found := difference(*pair):
            return f"{found} in its block {number}"
    return ""


def _difference_of_parts(one: Any, other: Any, depth: int) -> str:
    if not is_same(list(getattr(one, "params", ())), list(getattr(other, "params", ()))):
        return "its parameters"
    for name in ("base_gate", "base_op"):
        base, again = (getattr(each, name, None) for each in (one, other))
        if base is not None and again is not None:
            found = difference_of_operations(base, again, depth + 1)
            if found:
                return f"{found} in its base"
    states = [getattr(each, "__dict__", {}) for each in (one, other)]
    made, again = (each.get("_definition") for each in states)
    if _class_of(one).__module__ in _PLAIN and made is not None and again is not None:
        found = _difference_inside(made, again, depth + 1)
        if found:
            return f"{found} in its definition"
    for name, item in states[0].items():
        if name not in _CACHES and not is_same(item, states[1].get(name)):
            return f"its {name.strip('_')}"
    return ""


_PLAIN: Final = frozenset(
    f"qiskit.circuit.{each}" for each in ("gate", "instruction", "controlledgate")
)
"""Where the classes stand that are nothing but their name and definition."""


def is_same(one: Any, other: Any, depth: int = 0) -> bool:
    """Return whether two parts are equal and of the same classes, all through."""
    if one is other:
        return True
    if type(one) is not type(other) or depth > _MAX_DEPTH:
        return False
    if type(one) in (list, tuple):
        return len(one) == len(other) and all(
            is_same(*pair, depth + 1) for pair in zip(one, other, strict=True)
        )
    if type(one) is dict:
        return one.keys() == other.keys() and all(
            is_same(item, other[key], depth + 1) for key, item in one.items()
        )
    if hasattr(one, "dtype"):
        return bool(one.dtype == other.dtype and one.shape == other.shape and (one == other).all())
    if hasattr(one, "data") and hasattr(one, "qubits"):
        return not _difference_inside(one, other, depth + 1)
    if one == other or (one != one and other != other):  # NaN
        return True
    return _has_no_equality(one) and is_same(vars(one), vars(other), depth + 1)


def _has_no_equality(value: Any) -> bool:
    """Return whether an object is what its attributes are: a synthesis, an option."""
    return "__eq__" not in vars(type(value)) and hasattr(value, "__dict__")


def _registers(circuit: Any) -> list[Any]:
    indices = _indices(circuit)
    return [
        (type(each).__name__, each.name, [indices[bit] for bit in each])
        for each in (*circuit.qregs, *circuit.cregs)
    ]


_CIRCUIT_PARTS: Final[dict[str, Callable[[Any], Any]]] = {
    "name": lambda circuit: circuit.name,
    "global phase": lambda circuit: circuit.global_phase,
    "metadata": lambda circuit: circuit.metadata,
    "number of bits": lambda circuit: (circuit.num_qubits, circuit.num_clbits),
    "registers": _registers,
    "variables": lambda circuit: [
        *circuit.iter_input_vars(),
        None,
        *circuit.iter_captures(),
        None,
        *circuit.iter_declared_vars(),
        None,
        *circuit.iter_declared_stretches(),
    ],
    "schedule": _schedule_of,
    "layout": lambda circuit: circuit.layout,
}
