"""Aer's noise models as data and back, with all that acts on a circuit.

The form is that of `NoiseModel.to_dict`, which IBM's clients write, and what that leaves out
beside it: the basis gates, the sizes of errors, the pass that adds relaxation to delays.  Standard
library only at import.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any, Final, Protocol

from sandbox.codec import exact
from sandbox.codec.rows import LossError, a_dict, a_list, a_size, a_text, an_int

_STATE: Final = frozenset(
    {
        *("_basis_gates", "_noise_instructions", "_noise_qubits", "_custom_noise_passes"),
        *("_default_quantum_errors", "_local_quantum_errors"),
        *("_default_readout_error", "_local_readout_errors"),
    }
)
"""Everything that Aer keeps in a model; one with more would lose it."""

_KEYS: Final = ("errors", "basis_gates", "noise_instructions", "noise_qubits", "passes")
_PASS: Final = ("t1s", "t2s", "p1s", "dt")
_QUBIT_BYTES: Final = 200


def to_data(model: Any) -> dict[str, Any]:
    """Return the data of a model; LossError for one that they would not give back as it is."""
    data = _data_of(model)
    back = _data_of(from_data(data, _Unbounded()))
    if not exact.is_same(data, back):
        msg = "the form of noise models does not give it back as it is"
        raise LossError(msg)
    return data


class Charged(Protocol):
    """What is asked of the walk that decodes."""

    def charge(self, size: int) -> None: ...


class _Unbounded:
    def charge(self, size: int) -> None:
        """What has been written here is no attack."""


def _data_of(model: Any) -> dict[str, Any]:
    unknown = sorted(vars(model).keys() - _STATE)
    if unknown:
        msg = f"its attributes {', '.join(unknown)} have no place in the form of noise models"
        raise LossError(msg)
    return {
        "errors": list(_errors(model)),
        "basis_gates": model.basis_gates,
        "noise_instructions": model.noise_instructions,
        "noise_qubits": model.noise_qubits,
        "passes": [_pass_to(each) for each in model._custom_noise_passes],
    }


def from_data(data: Any, reader: Charged) -> Any:
    """Return the model of data that `to_data` has written."""
    from qiskit_aer.noise import NoiseModel

    a_dict(data, *_KEYS)
    model = NoiseModel()
    for each in a_list(data["errors"]):
        if each["type"] == "roerror":
            _add_readout(model, each)
        else:
            _add_error(model, each, reader)
    model._basis_gates = set(map(a_text, a_list(data["basis_gates"])))
    model._noise_instructions = set(map(a_text, a_list(data["noise_instructions"])))
    model._noise_qubits = set(map(a_size, a_list(data["noise_qubits"])))
    model._custom_noise_passes = [_pass_from(each) for each in a_list(data["passes"])]
    return model


# --- errors ---------------------------------------------------------------------------------------


def _errors(model: Any) -> Iterator[dict[str, Any]]:
    for name, error in model._default_quantum_errors.items():
        yield {**_error_to(error), "operations": [name]}
    for name, places in model._local_quantum_errors.items():
        for qubits, error in places.items():
            yield {**_error_to(error), "operations": [name], "gate_qubits": [list(qubits)]}
    if model._default_readout_error is not None:
        yield _readout_to(model._default_readout_error)
    for qubits, error in model._local_readout_errors.items():
        yield {**_readout_to(error), "gate_qubits": [list(qubits)]}


def _readout_to(error: Any) -> dict[str, Any]:
    return {
        "type": "roerror",
        "operations": ["measure"],
        "probabilities": [list(map(float, each)) for each in error.probabilities],
    }


def _add_readout(model: Any, data: Mapping[str, Any]) -> None:
    from qiskit_aer.noise import ReadoutError

    error = ReadoutError(data["probabilities"])
    if "gate_qubits" not in data:
        model._default_readout_error = error
        return
    model._local_readout_errors[_place(data, error.number_of_qubits)] = error


def _place(data: Mapping[str, Any], size: int) -> tuple[int, ...]:
    (qubits,) = data["gate_qubits"]
    if len(a_list(qubits)) != size:
        msg = f"an error on {size} qubits in a place of {len(qubits)}"
        raise ValueError(msg)
    return tuple(map(a_size, qubits))


def _error_to(error: Any) -> dict[str, Any]:
    from qiskit_aer.noise import errors

    kind = type(error)
    if kind not in (errors.QuantumError, errors.PauliError, errors.PauliLindbladError):
        msg = f"it has an error of the class {kind.__name__}, which the form of noise models lacks"
        raise LossError(msg)
    if kind is not errors.QuantumError:
        paulis = error.generators if kind is errors.PauliLindbladError else error.paulis
        if paulis.phase.any():
            msg = f"it has a {kind.__name__} of Paulis with phases, which its form lacks"
            raise LossError(msg)
        return {**error.to_dict(), "class": kind.__name__, "num_qubits": error.num_qubits}
    return {
        "type": "qerror",
        "class": kind.__name__,
        "id": error.id,
        "num_qubits": error.num_qubits,
        "instructions": [list(_steps_to(each)) for each in error.circuits],
        "probabilities": list(map(float, error.probabilities)),
    }


def _steps_to(circuit: Any) -> Iterator[dict[str, Any]]:
    if circuit.global_phase:
        msg = "it has an error with a global phase, which the form of noise models lacks"
        raise LossError(msg)
    for each in circuit.data:
        operation = each.operation
        step = {
            "name": operation.name,
            "qubits": [circuit.find_bit(qubit).index for qubit in each.qubits],
            "params": [_number(param) for param in operation.params],
        }
        if getattr(operation, "label", None) is not None:
            step["label"] = operation.label
        try:
            is_same = operation.base_class is _operation(step).base_class
        except ValueError:
            is_same = False
        if not is_same:
            msg = (
                f"it has an error with an operation {operation.name!r:.80} "
                f"({operation.base_class.__name__}), which the form of noise models lacks"
            )
            raise LossError(msg)
        yield step


def _number(param: Any) -> Any:
    return float(param) if isinstance(param, float) else param


def _operation(step: Mapping[str, Any]) -> Any:
    """Return what a step of an error does; ValueError for a name that is no gate of Qiskit's."""
    from qiskit.circuit import Instruction
    from qiskit.circuit.library import PauliGate, Reset, UnitaryGate

    name, params, label = step["name"], a_list(step.get("params", [])), step.get("label")
    options = {} if label is None else {"label": a_text(label)}
    if name == "kraus":
        return Instruction(name, len(step["qubits"]), 0, params, **options)
    special = {"pauli": PauliGate, "unitary": UnitaryGate, "reset": Reset}
    kind = special.get(name) or _standard_gates().get(name)
    if kind is None:
        msg = f"an error with an operation {name!r:.80}"
        raise ValueError(msg)
    return kind(*params, **options)


@functools.cache
def _standard_gates() -> dict[str, type]:
    from qiskit.circuit.library import get_standard_gate_name_mapping

    return {name: each.base_class for name, each in get_standard_gate_name_mapping().items()}


def _add_error(model: Any, data: Mapping[str, Any], reader: Charged) -> None:
    (name,) = map(a_text, data["operations"])
    error = _error_from(data, reader)
    model._check_number_of_qubits(error, name)
    # Not by its methods: they look whether each error does anything, which takes longest.
    if "gate_qubits" not in data:
        model._default_quantum_errors[name] = error
        return
    place = _place(data, error.num_qubits)
    model._local_quantum_errors.setdefault(name, {})[place] = error


def _error_from(data: Mapping[str, Any], reader: Charged) -> Any:
    import numpy
    from qiskit_aer.noise import errors

    kind, size = data["class"], a_size(data["num_qubits"])
    if kind == "QuantumError":
        terms = []
        for steps in a_list(data["instructions"]):
            reader.charge(_QUBIT_BYTES * size)
            terms.append(_circuit(a_list(steps), size))
        error = errors.QuantumError(zip(terms, data["probabilities"], strict=True))
        error._probs = [numpy.float64(each) for each in data["probabilities"]]  # it rescales them
    else:
        labels = [each["params"][0] for (each,) in a_list(data["instructions"])]
        kinds = {"PauliError": "probabilities", "PauliLindbladError": "rates"}
        error = getattr(errors, kind)(labels, data[kinds[kind]])
    error._id = a_text(data["id"])
    return error


def _circuit(steps: list[Any], size: int) -> Any:
    from qiskit.circuit import QuantumCircuit

    circuit = QuantumCircuit(size)
    for each in steps:
        circuit.append(_operation(each), [an_int(qubit) for qubit in each["qubits"]])
    return circuit


# --- passes ---------------------------------------------------------------------------------------


def _pass_to(found: Any) -> dict[str, Any]:
    """Return the data of the pass that every device's model has; LossError for another."""
    from qiskit.circuit import Delay
    from qiskit_aer.noise import RelaxationNoisePass

    if type(found) is not RelaxationNoisePass or found._ops != (Delay,):
        msg = (
            f"it has a pass of the class {type(found).__name__} that acts on other instructions "
            "than delays, or runs code of its own, which the form of noise models lacks"
        )
        raise LossError(msg)
    # For delays its target makes no difference.
    return {
        **{name: list(map(float, getattr(found, f"_{name}"))) for name in ("t1s", "t2s", "p1s")},
        "dt": None if found._dt is None else float(found._dt),
    }


def _pass_from(data: Any) -> Any:
    from qiskit.circuit import Delay
    from qiskit_aer.noise import RelaxationNoisePass

    t1s, t2s, p1s, dt = (a_dict(data, *_PASS)[name] for name in _PASS)
    times = [list(map(float, a_list(each))) for each in (t1s, t2s, p1s)]
    return RelaxationNoisePass(
        *times[:2],
        dt=None if dt is None else float(dt),
        op_types=Delay,
        excited_state_populations=times[2],
    )
