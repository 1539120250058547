"""The codec's rows for Qiskit's circuits, gates, parameters, registers and results.

Circuits, and what only circuits can carry, travel as QPY.  Its head is read here before Qiskit
sees any of it: versions whose reading could run code are refused (unless they come from the
caller), and so is everything but one circuit of a credible size.
"""

from __future__ import annotations

import io
import itertools
import re
import struct
from collections.abc import Callable
from typing import Any, Final

from sandbox.codec import exact, noise
from sandbox.codec.rows import (
    SAFE_QPY,
    LossError,
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

_OLDEST_QISKIT: Final = 2
"""The first without pulses, whose envelopes were expressions in the QPY of circuits."""

_HEAD: Final = struct.Struct("!6sBBBBQcc")
_OFFSETS_SINCE: Final = 16
_QUICK_QPY: Final = 17
"""The first that Qiskit writes outside Python."""

_CIRCUIT: Final = struct.Struct("!HcHII")
_ELEMENT_BYTES: Final = 200
_PARAMETER: Final = struct.Struct("!H16s")
_MEASURED: Final = {"meas_level": "MeasLevel", "meas_return": "MeasReturnType"}
_QASM_3: Final = re.compile(r"OPENQASM\s+3|stdgates\.inc")
_EXACT_GATES: Final = frozenset(
    {
        *("x", "y", "z", "h", "s", "sdg", "t", "tdg", "sx", "sxdg", "id", "p", "u", "rx", "ry"),
        *("rz", "cx", "cy", "cz", "ch", "cp", "crx", "cry", "crz", "swap", "iswap", "ecr", "rxx"),
        *("ryy", "rzz", "rzx", "ccx", "cswap", "measure", "barrier", "reset"),
    }
)
"""Circuits of these only, and nothing else that QPY could drop, need no second look."""


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


def _dump(circuit: Any, version: int = SAFE_QPY) -> bytes:
    stream = io.BytesIO()
    _qiskit().qpy.dump(circuit, stream, version=version)
    return stream.getvalue()


def _dump_exactly(circuit: Any, marks: dict[str, Any]) -> bytes:
    """Return the circuit in the lowest version that gives it back, with the marks; LossError."""
    qpy, reason = _qiskit().qpy, ""
    for version in range(SAFE_QPY, qpy.QPY_VERSION + 1):
        try:
            content = _dump(circuit, version)
            reason = _loss(circuit, content, marks)
        except qpy.UnsupportedFeatureForVersion as error:
            reason = reason or str(error)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # noqa: BLE001 (its reader fails at valid circuits, or panics in Rust)
            reason = f"reading it fails: {', '.join(exact.special_classes(circuit)):.200}"
        else:
            if not reason:
                return content
    msg = (
        f"QPY does not give it back as it is ({reason:.300}); "
        "the format loses this, and nothing is wrong with the circuit"
    )
    raise LossError(msg)


def _loss(circuit: Any, content: bytes, marks: dict[str, Any]) -> str:
    """Return what of the circuit is lost in its QPY, "" for nothing."""
    (back,) = _qiskit().qpy.load(io.BytesIO(content))
    return exact.difference(circuit, exact.with_marks(back, marks))


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
    if reader.tries_out:
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
    metadata, marks = value.metadata, {}
    if not is_json(metadata):  # QPY would make lists of tuples, and text of keys
        value = value.copy()
        value.metadata = {}
        marks["metadata"] = metadata
    if _is_carried_exactly(value):
        content = _dump(value)
    else:
        dropped = exact.marks_of(value)
        content = _dump_exactly(value, dropped)
        marks |= dropped
    return {"qpy": pack(content), **marks} if marks else pack(content)


def quickly(circuit: Any, newest: int, *, is_plain: bool = False) -> str | None:
    """Return what a circuit's tag has, in a version that is written five times as fast.

    None for a circuit that needs a second look, or where `newest` or this Qiskit are older.
    `is_plain` says that a tag had nothing but QPY when the circuit was read from it: then there is
    nothing in it that QPY could change.
    """
    is_new = min(newest, _qiskit().qpy.QPY_VERSION) >= _QUICK_QPY
    if is_new and (is_plain or (is_json(circuit.metadata) and _is_carried_exactly(circuit))):
        return pack(_dump(circuit, _QUICK_QPY))
    return None


def _is_carried_exactly(circuit: Any) -> bool:
    """Whether there is nothing in a circuit that any version of QPY could change."""
    qiskit = _qiskit().circuit
    kinds = {"measure": qiskit.Measure, "barrier": qiskit.Barrier, "reset": qiskit.Reset}
    return (
        not circuit.num_parameters
        and _EXACT_GATES.issuperset(circuit.count_ops())
        and (circuit._op_start_times, circuit._duration, circuit._unit) == (None, None, "dt")
        and circuit._layout is None
        and type(circuit.name) is str
        and list(itertools.chain(*circuit.qregs)) == circuit.qubits
        and list(itertools.chain(*circuit.cregs)) == circuit.clbits
        and all(
            each.label is None and each.operation.base_class is kinds.get(each.name)
            for each in [  # of many instructions few
                each
                for each in circuit.data
                if not each.is_standard_gate() or each.label is not None
            ]
        )
    )


def _circuit_from(data: Any, reader: Reader) -> Any:
    if isinstance(data, str):
        return _load(data, reader)
    if not isinstance(data, dict) or not {"qpy"} < set(data):
        msg = "neither QPY nor a dict of it and what it drops"
        raise ValueError(msg)
    marks = {name: item for name, item in data.items() if name != "qpy"}
    return exact.with_marks(_load(data["qpy"], reader), marks)


def _qasm_from(data: Any, reader: Reader) -> Any:
    if reader.is_bounded:
        msg = "a program's own text: only inputs are read so"
        raise ValueError(msg)
    qiskit, text = _qiskit(), a_text(data)
    if _QASM_3.search(text) is None:
        return qiskit.QuantumCircuit.from_qasm_str(text)
    from qiskit import qasm3

    return qasm3.loads(text)


def _instruction_to(value: Any) -> Any:
    qiskit = _qiskit().circuit
    if value.base_class is qiskit.Delay and value.unit != "expr" and value.label is None:
        return {"duration": value.duration, "unit": value.unit}  # a circuit would change integers
    circuit = qiskit.QuantumCircuit(value.num_qubits, value.num_clbits, name="one")
    circuit.append(value, circuit.qubits, circuit.clbits)
    return _circuit_to(circuit)


def _instruction_from(data: Any, reader: Reader) -> Any:
    if isinstance(data, dict) and "qpy" not in data:
        a_dict(data, "duration", "unit")
        return _qiskit().circuit.Delay(data["duration"], a_text(data["unit"]))
    return _circuit_from(data, reader).data[0].operation


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


def _expression_to(value: Any) -> Any:
    if not value.parameters:  # QPY would make it a number
        return {"bound": value.numeric()}
    circuit = _qiskit().circuit.QuantumCircuit(global_phase=value, name="expression")
    return pack(_dump_exactly(circuit, {}))


def _expression_from(data: Any, reader: Reader) -> Any:
    if isinstance(data, str):
        return _load(data, reader).global_phase
    number = a_dict(data, "bound")["bound"]
    if type(number) not in (int, float, complex):
        msg = f"an expression bound to {type(number).__name__}"
        raise TypeError(msg)
    parameter = _qiskit().circuit.Parameter("x")
    return parameter.bind({parameter: number})


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
    return noise.to_data(value)


def _noise_from(data: Any, reader: Reader) -> Any:
    import warnings

    try:
        from qiskit_aer.noise import NoiseModel
    except ImportError as error:
        raise UnavailableError from error
    if set(data) != {"errors"}:
        return noise.from_data(data, reader)
    with (
        warnings.catch_warnings()
    ):  # what IBM's clients write; deprecated, without anything to take its place
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

QASM: Final = Row("qasm", "", a_text, _qasm_from, needs_trust=True)
"""For inputs from a file in OpenQASM 2, as Qiskit writes it, or 3; no value is written so."""
