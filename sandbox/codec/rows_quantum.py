"""The codec's rows for `qiskit.quantum_info` and the containers of Qiskit's primitives.

The carrier of IBM's clients for operators, `settings`, names a module and a class.  Here the names
only choose among these rows; nothing is imported by them.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any, Final

from sandbox.codec.rows import Reader, Row, UnavailableError, a_dict, a_list, attributes

_OPERATORS: Final = "qiskit.quantum_info.operators"
_STATES: Final = "qiskit.quantum_info.states"


def _info(name: str) -> Any:
    try:
        import qiskit.quantum_info as module
    except ImportError as error:
        raise UnavailableError from error
    return getattr(module, name)


def _containers(name: str) -> Any:
    try:
        from qiskit.primitives import containers
        from qiskit.primitives.containers.bindings_array import BindingsArray
        from qiskit.primitives.containers.estimator_pub import EstimatorPub
        from qiskit.primitives.containers.observables_array import ObservablesArray
        from qiskit.primitives.containers.sampler_pub import SamplerPub
    except ImportError as error:
        raise UnavailableError from error
    late = (BindingsArray, EstimatorPub, ObservablesArray, SamplerPub)
    return {each.__name__: each for each in late}.get(name) or getattr(containers, name)


# --- quantum_info ---------------------------------------------------------------------------------


def _setting(value: Any) -> Any:
    return list(value) if type(value) is tuple else value


def _settings_row(module: str, name: str, *keys: str) -> Row:
    """Return the row of a class that IBM's clients carry by its `settings`."""

    def to_data(value: Any) -> dict[str, Any]:
        return {key: _setting(item) for key, item in value.settings.items()}

    def from_data(data: Any, _: Reader) -> Any:
        return _info(name)(**a_dict(data, *keys))

    path = f"qiskit.quantum_info:{name}"
    carrier = (module, name)
    return Row("settings", path, to_data, from_data, needs_trust=True, carrier=carrier)


def _own_row(name: str, to_data: Callable[[Any], Any], *keys: str) -> Row:
    """Return the row of a class whose constructor takes what `to_data` returns."""

    def from_data(data: Any, _: Reader) -> Any:
        return _info(name)(**a_dict(data, *keys))

    return Row(name, f"qiskit.quantum_info:{name}", to_data, from_data, needs_trust=True)


def _channel_row(name: str) -> Row:
    def to_data(value: Any) -> dict[str, Any]:
        return {
            "data": value.data,
            "input_dims": list(value.input_dims()),
            "output_dims": list(value.output_dims()),
        }

    return _own_row(name, to_data, "data", "input_dims", "output_dims")


def _raw_parts_row(name: str, *parts: str) -> Row:
    """Return the row of a class of Qiskit's that gives out, and takes, its arrays."""

    def to_data(value: Any) -> list[Any]:
        import numpy

        return [value.num_qubits, *(numpy.array(getattr(value, part)) for part in parts)]

    def from_data(data: Any, _: Reader) -> Any:
        # The number of bits is no size: nothing is kept for each of them.
        return _info(name).from_raw_parts(*a_list(data))

    return Row(name, f"qiskit.quantum_info:{name}", to_data, from_data, needs_trust=True)


def _sparse_list_row(name: str) -> Row:
    """Return the row of a class that IBM's clients carry, or could, by its sparse list."""

    def to_data(value: Any) -> dict[str, Any]:
        paulis = [list(each) for each in value.to_sparse_list()]
        return {"paulis": paulis, "num_qubits": value.num_qubits}

    def from_data(data: Any, _: Reader) -> Any:
        a_dict(data, "paulis", "num_qubits")
        paulis = [tuple(each) for each in a_list(data["paulis"])]
        return _info(name).from_sparse_list(paulis, num_qubits=data["num_qubits"])

    return Row(name, f"qiskit.quantum_info:{name}", to_data, from_data, needs_trust=True)


# --- primitives -----------------------------------------------------------------------------------


def _container_row(
    name: str,
    to_data: Callable[[Any], Any],
    from_data: Callable[[Any, Reader], Any],
    module: str = "qiskit.primitives.containers",
) -> Row:
    return Row(name, f"{module}:{name}", to_data, from_data, needs_trust=True)


def _pub_result_row(name: str) -> Row:
    def from_data(data: Any, _: Reader) -> Any:
        return _containers(name)(**a_dict(data, "data", "metadata"))

    return _container_row(name, attributes("data", "metadata"), from_data)


def _observables_to(value: Any) -> Any:
    plain = value.tolist()
    back = type(value)(plain)
    if back.shape == value.shape and value.size and _same_observables(back, value):
        return plain
    return {"shape": list(value.shape), "observables": list(value._array.reshape(-1))}


def _same_observables(first: Any, second: Any) -> bool:
    pairs = zip(first._array.reshape(-1), second._array.reshape(-1), strict=True)
    return all(one == other for one, other in pairs)


def _observables_from(data: Any, _: Reader) -> Any:
    kind = _containers("ObservablesArray")
    if not isinstance(data, dict) or set(data) != {"shape", "observables"}:
        return kind(data)
    return kind(a_list(data["observables"])).reshape(tuple(data["shape"]))


def _bindings_to(value: Any) -> dict[str, Any]:
    data = {json.dumps(key): item for key, item in value.data.items()}
    return {"shape": list(value.shape), "data": data}


def _bindings_from(data: Any, _: Reader) -> Any:
    a_dict(data, "shape", "data")
    arrays = {tuple(json.loads(key)): item for key, item in dict(data["data"]).items()}
    return _containers("BindingsArray")(arrays, shape=tuple(data["shape"]))


def _bits_from(data: Any, _: Reader) -> Any:
    return _containers("BitArray")(**a_dict(data, "array", "num_bits"))


def _bin_to(value: Any) -> dict[str, Any]:
    fields = dict(value.items())
    return {"field_names": list(fields), "shape": list(value.shape), "fields": fields}


def _bin_from(data: Any, _: Reader) -> Any:
    a_dict(data, "field_names", "shape", "fields")
    return _containers("DataBin")(shape=tuple(data["shape"] or ()), **data["fields"])


def _results_to(value: Any) -> dict[str, Any]:
    return {"pub_results": list(value), "metadata": value.metadata}


def _results_from(data: Any, _: Reader) -> Any:
    return _containers("PrimitiveResult")(**a_dict(data, "pub_results", "metadata"))


def _pub_row(name: str, module: str, *keys: str) -> Row:
    def from_data(data: Any, _: Reader) -> Any:
        return _containers(name)(**a_dict(data, *keys))

    path = f"qiskit.primitives.containers.{module}"
    return _container_row(name, attributes(*keys), from_data, path)


_QISKITS: Final = (
    _settings_row(f"{_OPERATORS}.symplectic.pauli", "Pauli", "data"),
    _settings_row(f"{_OPERATORS}.symplectic.pauli_list", "PauliList", "data"),
    _settings_row(f"{_OPERATORS}.symplectic.sparse_pauli_op", "SparsePauliOp", "data", "coeffs"),
    _settings_row(f"{_OPERATORS}.operator", "Operator", "data", "input_dims", "output_dims"),
    _settings_row(f"{_STATES}.statevector", "Statevector", "data", "dims"),
    _settings_row(f"{_STATES}.densitymatrix", "DensityMatrix", "data", "dims"),
    *map(_channel_row, ("SuperOp", "Choi", "PTM", "Chi", "Kraus", "Stinespring")),
    _own_row(
        "ScalarOp",
        lambda value: {"dims": list(value.input_dims()), "coeff": value.coeff},
        *("dims", "coeff"),
    ),
    _own_row("Clifford", lambda value: {"data": value.tableau}, "data"),
    _own_row("StabilizerState", lambda value: {"data": value.clifford}, "data"),
    _raw_parts_row("SparseObservable", "coeffs", "bit_terms", "indices", "boundaries"),
    _raw_parts_row("QubitSparsePauli", "paulis", "indices"),
    _raw_parts_row("PhasedQubitSparsePauli", "paulis", "indices", "phase"),
    *map(
        _sparse_list_row,
        ("PauliLindbladMap", "QubitSparsePauliList", "PhasedQubitSparsePauliList"),
    ),
    _container_row(
        "ObservablesArray",
        _observables_to,
        _observables_from,
        "qiskit.primitives.containers.observables_array",
    ),
    _container_row(
        "BindingsArray",
        _bindings_to,
        _bindings_from,
        "qiskit.primitives.containers.bindings_array",
    ),
    _container_row("BitArray", attributes("array", "num_bits"), _bits_from),
    _container_row("DataBin", _bin_to, _bin_from),
    _pub_result_row("PubResult"),
    _pub_result_row("SamplerPubResult"),
    _container_row("PrimitiveResult", _results_to, _results_from),
    _pub_row("SamplerPub", "sampler_pub", "circuit", "parameter_values", "shots"),
    _pub_row(
        "EstimatorPub",
        "estimator_pub",
        *("circuit", "observables", "parameter_values", "precision"),
    ),
)

_AERS: Final = ("Statevector", "DensityMatrix", "Operator", "SuperOp", "StabilizerState")
"""What a simulation saves is of classes that Aer derives from these, with nothing of their own."""

ROWS: Final = (
    *_QISKITS,
    *(
        dataclasses.replace(row, of=f"qiskit_aer.backends.compatibility:{name}")
        for row in _QISKITS
        for name in _AERS
        if row.of == f"qiskit.quantum_info:{name}"
    ),
)
