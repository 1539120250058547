"""The codec's rows for Qiskit's circuits, gates, parameters, registers and results.

Circuits, and what only circuits can carry, travel as QPY.  Its head is read here before Qiskit
sees any of it: versions whose reading could run code are refused (unless they come from the
caller), and so is everything but one circuit of a credible size.
"""

from __future__ import annotations

import io
import itertools
import struct
from collections.abc import Callable
from typing import Any, Final

from sandbox.codec.rows import (
    Reader,
    Row,
    UnavailableError,
    a_dict,
    a_list,
    a_size,
    a_text,
    base64_of,
    bytes_of,
    is_json,
    pack,
)

_IBM_QPY: Final = 17
"""What IBM's clients and service read; newer versions are written only where this cannot do it."""

_OLDEST_QISKIT: Final = 2
"""The first without pulses, whose envelopes were expressions in the QPY of circuits."""

_HEAD: Final = struct.Struct("!6sBBBBQcc")
_OFFSETS_SINCE: Final = 16
_CIRCUIT: Final = struct.Struct("!HcHII")
_ELEMENT_BYTES: Final = 200
_PARAMETER: Final = struct.Struct("!H16s")
_MEASURED: Final = {"meas_level": "MeasLevel", "meas_return": "MeasReturnType"}
_EXACT_GATES: Final = frozenset(
    {
        *("x", "y", "z", "h", "s", "sdg", "t", "tdg", "sx", "sxdg", "id", "p", "u", "rx", "ry"),
        *("rz", "cx", "cy", "cz", "ch", "cp", "crx", "cry", "crz", "swap", "iswap", "ecr", "rxx"),
        *("ryy", "rzz", "rzx", "ccx", "cswap", "measure", "barrier", "reset", "delay"),
    }
)
"""Circuits of these only, without parameters, need no second look at what QPY gives back."""


def _row(
    name: str,
    to_data: Callable[[Any], Any],
    from_data: Callable[[Any, Reader], Any],
    module: str = "qiskit.circuit",
    *,
    derived: bool = False,
) -> Row:
    """Return the row of a class whose tag is its name."""
    return Row(name, f"{module}:{name}", to_data, from_data, derived=derived, needs_trust=True)


def _qiskit() -> Any:
    try:
        import qiskit.circuit
        import qiskit.exceptions
        import qiskit.qpy
    except ImportError as error:
        raise UnavailableError from error
    return qiskit


# --- QPY ------------------------------------------------------------------------------------------


def _dump(circuit: Any) -> bytes:
    qpy = _qiskit().qpy
    stream = io.BytesIO()
    try:
        qpy.dump(circuit, stream, version=min(_IBM_QPY, qpy.QPY_VERSION))
    except qpy.UnsupportedFeatureForVersion:
        stream = io.BytesIO()
        qpy.dump(circuit, stream)
    return stream.getvalue()


def _load(data: Any, reader: Reader) -> Any:
    stream = reader.unpack(a_text(data))
    content = bytearray()
    while piece := stream.read(1 << 20):
        reader.charge(len(piece))
        content += piece
    _check_head(content, reader.oldest_qpy)
    qiskit = _qiskit()
    if reader.oldest_qpy and int(qiskit.__version__.partition(".")[0]) < _OLDEST_QISKIT:
        msg = f"Qiskit {qiskit.__version__} here, whose reading of circuits is not safe"
        raise ValueError(msg)
    if reader.oldest_qpy:
        _try_out(content)
    try:
        (circuit,) = qiskit.qpy.load(io.BytesIO(content))
    except qiskit.exceptions.MissingOptionalLibraryError:
        msg = (
            f"a circuit in QPY {content[6]} whose expressions symengine has written, which is not "
            "here: write it with qpy.dump(…, use_symengine=False), or with Qiskit 1.3 or newer"
        )
        raise ValueError(msg) from None
    return circuit


def _try_out(content: bytearray) -> None:
    """Refuse what a process does not survive reading; for the host, which has time to find out."""
    from sandbox.codec import trial

    if not trial.TRIAL.survives(content):
        msg = (
            "a circuit whose reading ends the process, or takes more than "
            f"{trial.MEMORY_BYTES >> 20} MiB or {trial.TIMEOUT_S:.0f} s for each MiB"
        )
        raise ValueError(msg)


def _check_head(content: bytearray, oldest: int) -> None:
    """Refuse what is no single circuit of a credible size, or is older than is safe."""
    if content[:6] != b"QISKIT":
        msg = "not QPY"
        raise ValueError(msg)
    if content[6] < oldest:
        msg = f"a circuit in QPY {content[6]}; reading one before {oldest} is not safe"
        raise ValueError(msg)
    if not oldest:
        return
    *_, programs, symbols, kind = _HEAD.unpack_from(content)
    if (programs, symbols, kind) != (1, b"p", b"q"):
        msg = f"{programs} programs of the kind {kind!r}, symbols as {symbols!r}"
        raise ValueError(msg)
    start = _HEAD.size
    if content[6] >= _OFFSETS_SINCE:
        (start,) = struct.unpack_from("!Q", content, start)
    *_, qubits, clbits = _CIRCUIT.unpack_from(content, start)
    a_size(qubits)
    a_size(clbits)


# --- circuits and gates ---------------------------------------------------------------------------


def _circuit_to(value: Any) -> Any:
    metadata = value.metadata
    if not is_json(metadata):  # QPY would make lists of tuples, and text of keys
        value = value.copy()
        value.metadata = {}
        return {"qpy": _circuit_to(value), "metadata": metadata}
    content = _dump(value)
    if value.num_parameters or not _EXACT_GATES.issuperset(value.count_ops()):
        (back,) = _qiskit().qpy.load(io.BytesIO(content))
        if back != value:
            msg = f"QPY does not give it back as it is ({', '.join(value.count_ops()):.200})"
            raise TypeError(msg)
    return pack(content)


def _circuit_from(data: Any, reader: Reader) -> Any:
    if isinstance(data, str):
        return _load(data, reader)
    circuit = _load(a_dict(data, "qpy", "metadata")["qpy"], reader)
    circuit.metadata = data["metadata"]
    return circuit


def _instruction_to(value: Any) -> str:
    circuit = _qiskit().circuit.QuantumCircuit(value.num_qubits, value.num_clbits, name="one")
    circuit.append(value, circuit.qubits, circuit.clbits)
    content = _dump(circuit)
    (loaded,) = _qiskit().qpy.load(io.BytesIO(content))
    back = loaded.data[0].operation
    if back != value or back.base_class is not value.base_class or back.label != value.label:
        msg = "QPY does not give it back as it is"
        raise TypeError(msg)
    return pack(content)


def _instruction_from(data: Any, reader: Reader) -> Any:
    return _load(data, reader).data[0].operation


# --- parameters -----------------------------------------------------------------------------------


def _parameter_to(value: Any) -> str:
    name = value.name.encode()
    return base64_of(_PARAMETER.pack(len(name), value.uuid.bytes) + name)


def _parameter_from(data: Any, _: Reader) -> Any:
    import uuid

    content = bytes_of(data)
    size, identity = _PARAMETER.unpack_from(content)
    name = content[_PARAMETER.size :]
    if len(name) != size:
        msg = f"a name of {len(name)} bytes instead of {size}"
        raise ValueError(msg)
    return _qiskit().circuit.Parameter(name.decode(), uuid=uuid.UUID(bytes=identity))


def _vector_to(value: Any) -> list[Any]:
    return [value.name, len(value), value.uuid]


def _vector_from(data: Any, reader: Reader) -> Any:
    name, length, identity = data
    reader.charge(_ELEMENT_BYTES * a_size(length))
    return _qiskit().circuit.ParameterVector(a_text(name), length, identity)


def _element_from(data: Any, reader: Reader) -> Any:
    vector, index = data
    return _vector_from(vector, reader)[a_size(index)]


def _expression_to(value: Any) -> str:
    circuit = _qiskit().circuit.QuantumCircuit(global_phase=value, name="expression")
    content = _dump(circuit)
    (back,) = _qiskit().qpy.load(io.BytesIO(content))
    if back.global_phase != value:  # complex factors become real in QPY
        msg = "QPY does not give it back as it is"
        raise TypeError(msg)
    return pack(content)


def _expression_from(data: Any, reader: Reader) -> Any:
    return _load(data, reader).global_phase


# --- registers, devices, results ------------------------------------------------------------------


def _register_to(value: Any) -> list[Any]:
    if value != type(value)(value.size, value.name):
        msg = "its bits belong to another register"
        raise TypeError(msg)
    return [value.size, value.name]


def _register_row(name: str) -> Row:
    def register_from(data: Any, _: Reader) -> Any:
        size, text = data
        return getattr(_qiskit().circuit, name)(a_size(size), a_text(text))

    return _row(name, _register_to, register_from)


def _coupling_to(value: Any) -> dict[str, Any]:
    edges = [list(edge) for edge in value.get_edges()]
    return {"size": value.size(), "edges": edges, "description": value.description}


def _coupling_from(data: Any, _: Reader) -> Any:
    from qiskit.transpiler import CouplingMap

    a_dict(data, "size", "edges", "description")
    coupling = CouplingMap(description=data["description"])
    for qubit in range(a_size(data["size"])):
        coupling.add_physical_qubit(qubit)
    for source, target in a_list(data["edges"]):
        coupling.add_edge(a_size(source), a_size(target))
    if coupling.size() != data["size"]:
        msg = "edges between qubits that it does not have"
        raise ValueError(msg)
    return coupling


def _options_to(value: Any) -> dict[str, Any]:
    if value.validator:
        msg = "its validators have no plain form"
        raise TypeError(msg)
    return dict(value.items())


def _options_from(data: Any, _: Reader) -> Any:
    from qiskit.providers import Options

    return Options(**data)


def _result_to(value: Any) -> dict[str, Any]:
    data: dict[str, Any] = value.to_dict()
    experiments = [dict(each) for each in data["results"]]
    for each, name in itertools.product(experiments, _MEASURED):
        if name in each:  # in IBM's form the enumerations are what they are based on
            each[name] = getattr(each[name], "value", each[name])
    return {**data, "results": experiments}


def _result_from(data: Any, _: Reader) -> Any:
    from qiskit import result

    experiments = [dict(each) for each in a_list(data["results"])]
    for each, (name, kind) in itertools.product(experiments, _MEASURED.items()):
        if name in each:
            each[name] = getattr(result, kind)(each[name])
    return result.Result.from_dict({**data, "results": experiments})


def _noise_to(value: Any) -> dict[str, Any]:
    from sandbox.codec import noise

    return noise.to_data(value)


def _noise_from(data: Any, reader: Reader) -> Any:
    import warnings

    from sandbox.codec import noise

    try:
        from qiskit_aer.noise import NoiseModel
    except ImportError as error:
        raise UnavailableError from error
    if set(data) != {"errors"}:
        return noise.from_data(data, reader)
    with warnings.catch_warnings():  # what IBM's clients write; deprecated, without anything to take its place
        warnings.simplefilter("ignore", DeprecationWarning)
        return NoiseModel.from_dict(data)


ROWS: Final = (
    _row("QuantumCircuit", _circuit_to, _circuit_from, derived=True),
    _row("Instruction", _instruction_to, _instruction_from, derived=True),
    _row("Parameter", _parameter_to, _parameter_from),
    _row(
        "ParameterVectorElement",
        lambda value: [_vector_to(value.vector), value.index],
        _element_from,
    ),
    _row("ParameterVector", _vector_to, _vector_from),
    Row(
        "expression",
        "qiskit.circuit:ParameterExpression",
        _expression_to,
        _expression_from,
        needs_trust=True,
    ),
    *map(_register_row, ("QuantumRegister", "ClassicalRegister", "AncillaRegister")),
    _row("CouplingMap", _coupling_to, _coupling_from, "qiskit.transpiler"),
    _row("Options", _options_to, _options_from, "qiskit.providers"),
    _row("Result", _result_to, _result_from, "qiskit.result"),
    _row("NoiseModel", _noise_to, _noise_from, "qiskit_aer.noise"),
)
