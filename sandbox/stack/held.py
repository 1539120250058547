"""The backend that the host holds, as the program meets it: a `BackendV2` whose jobs are calls.

What the host's backend cannot do is refused there, in the program's words; here only what costs no
call.  Answers are the host's, and trusted.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

from qiskit.circuit import Gate, Parameter, QuantumCircuit
from qiskit.circuit.controlflow import ForLoopOp, IfElseOp, SwitchCaseOp, WhileLoopOp
from qiskit.circuit.library import get_standard_gate_name_mapping
from qiskit.primitives import BaseEstimatorV2, BaseSamplerV2, PrimitiveResult
from qiskit.primitives.base.base_primitive_job import BasePrimitiveJob
from qiskit.primitives.containers.estimator_pub import EstimatorPub
from qiskit.primitives.containers.sampler_pub import SamplerPub
from qiskit.providers import BackendV2, JobError, JobStatus, JobV1, QubitProperties
from qiskit.providers import Options as BackendOptions
from qiskit.result import Result
from qiskit.transpiler import InstructionProperties, Target

from sandbox import codec
from sandbox.stack import signatures

DEFAULT_SHOTS: Final = 1024
DEFAULT_PRECISION: Final = 0.015625

_CONTROL_FLOW: Final = {
    "if_else": IfElseOp,
    "for_loop": ForLoopOp,
    "while_loop": WhileLoopOp,
    "switch_case": SwitchCaseOp,
}
_TIMING: Final = ("granularity", "min_length", "pulse_alignment", "acquire_alignment")
_QPY_VERSION_AT: Final = 6
_HEAD_CHARS: Final = 1024
"""Of a circuit's text; more than the tables take that zlib begins with."""


class Caller(Protocol):
    """The way to the host: `sandbox.program.caller`."""

    def send(self, verb: str, body: Any, signature: str = "") -> int: ...
    def reply(self, number: int, timeout: float | None = None) -> dict[str, Any]: ...


class HeldBackend(BackendV2):  # type: ignore[misc]
    """A backend outside the sandbox.

    `run` takes circuits for its target, and the options that `options` lists.  Where the device has
    primitives of its own, `sampler()` and `estimator()` return them.
    """

    def __init__(self, described: Mapping[str, Any], caller: Caller) -> None:
        self._described = described
        self._caller = caller
        super().__init__(
            name=described["backend"],
            description=f"{described['name']}, held outside the sandbox",
            backend_version=described["version"],
        )
        defaults = {"shots": DEFAULT_SHOTS, "memory": False}
        self._options = BackendOptions(
            **{name: defaults.get(name) for name in described["options"]}
        )
        self._target = target_of(described["target"])

    @property
    def target(self) -> Target:
        """What the device can do."""
        return self._target

    @property
    def max_circuits(self) -> int | None:
        """The most circuits of one `run`, None if there is no bound."""
        most: int | None = self._described["max_circuits"]
        return most

    @classmethod
    def _default_options(cls) -> BackendOptions:
        return BackendOptions()

    def __copy__(self) -> HeldBackend:
        return self

    def __deepcopy__(self, _memo: object) -> HeldBackend:
        return self

    def run(self, run_input: QuantumCircuit | Iterable[QuantumCircuit], **options: Any) -> HeldJob:
        """Send circuits to the device, and return their job at once.

        Options that are None count as not given.  Raises TypeError and ValueError for what cannot
        be sent; what the device or its operator refuses is raised by the job's `result()`.
        """
        circuits = [run_input] if isinstance(run_input, QuantumCircuit) else list(run_input)
        for index, each in enumerate(circuits):
            if not isinstance(each, QuantumCircuit):
                msg = f"circuit {index} is a {type(each).__name__}: run takes circuits"
                raise TypeError(msg)
        known = self._described["options"]
        if unknown := sorted(set(options) - set(known) - _absent(options)):
            msg = (
                f"backend {self.name!r} takes no option {unknown[0]!r}; it takes {', '.join(known)}"
            )
            raise ValueError(msg)
        chosen = {**dict(self._options.items()), **options}
        chosen = {name: value for name, value in chosen.items() if value is not None}
        if not circuits:
            msg = "no circuits: run takes one or several"
            raise ValueError(msg)
        if chosen.get("memory"):
            for index, each in enumerate(circuits):
                _check_registers(each, f"circuit {index} ({each.name!r:.80})")
        return HeldJob(self, self._send("run", "circuits", circuits, chosen))

    def sampler(self, *, default_shots: int = DEFAULT_SHOTS) -> HeldSampler:
        """Return the device's own sampler.  Raises ValueError if it has none."""
        self._check_primitive("sampler", "BackendSamplerV2")
        return HeldSampler(self, default_shots)

    def estimator(self, *, default_precision: float = DEFAULT_PRECISION) -> HeldEstimator:
        """Return the device's own estimator.  Raises ValueError if it has none."""
        self._check_primitive("estimator", "BackendEstimatorV2")
        return HeldEstimator(self, default_precision)

    def _check_primitive(self, name: str, instead: str) -> None:
        if name not in self._described["primitives"]:
            msg = f"backend {self.name!r} has no {name} of its own: use {instead}(backend=backend)"
            raise ValueError(msg)

    def _send(self, verb: str, name: str, items: list[Any], options: dict[str, Any]) -> Call:
        newest = self._described["qpy"]
        if verb == "run":
            encoded = codec.circuits_to_data(items, name, newest)
        else:
            encoded = [codec.to_data(each, f"{name}[{n}]") for n, each in enumerate(items)]
        for index, each in enumerate(encoded):
            circuit = each if verb == "run" else each["__value__"]["circuit"]
            _check_version(circuit, newest, f"{name}[{index}]")
        data = {name: encoded, "options": codec.to_data(options, "options")}
        # Only a recording needs it, and of many circuits it takes a while.
        is_kept = self._described.get("kept", True)
        signature = signatures.of(verb, items, options) if is_kept else ""
        return Call(self._caller, self._caller.send(verb, codec.write(data), signature))


class Call:
    """One call whose reply is asked for when it is needed, and kept then."""

    def __init__(self, caller: Caller, number: int) -> None:
        self._caller = caller
        self.number = number
        self._reply: dict[str, Any] | None = None

    def reply(self, timeout: float | None = None) -> dict[str, Any]:
        """Return the reply.  Raises TimeoutError."""
        if self._reply is None:
            self._reply = self._caller.reply(self.number, timeout)
        return self._reply

    def answer(self, timeout: float | None = None) -> Any:
        """Return the answer.  Raises JobError if the call was refused, and TimeoutError."""
        reply = self.reply(timeout)
        if "refusal" in reply:
            raise JobError(reply["refusal"])
        return codec.from_data(reply["answer"], "answer", trusted=True)

    @property
    def ended(self) -> JobStatus | None:
        """How the call has ended, None before."""
        try:
            reply = self.reply(0)
        except TimeoutError:
            return None
        if "refusal" not in reply:
            return JobStatus.DONE
        is_cancelled = "cancelled" in reply["refusal"]
        return JobStatus.CANCELLED if is_cancelled else JobStatus.ERROR

    def ask(self, verb: str) -> Any:
        """Ask something about this call, and return the answer."""
        body = codec.encode({"of": self.number})
        return Call(self._caller, self._caller.send(verb, body)).answer()

    def status(self) -> dict[str, Any]:
        """Return status, the device's id of the job and its place in the queue, as far as known."""
        found = self.ask("status")
        return found or {"status": "INITIALIZING", "job_id": None, "queue": None}


class HeldJob(JobV1):  # type: ignore[misc]
    """Circuits on the device."""

    def __init__(self, backend: HeldBackend, call: Call) -> None:
        super().__init__(backend, f"call-{call.number}")
        self._call = call
        self._result: Result | None = None

    def submit(self) -> None:
        """Do nothing: `run` has submitted it."""

    def result(self, timeout: float | None = None) -> Result:
        """Wait for the result.  Raises JobError with the reason if the job was refused or failed.

        Raises TimeoutError after `timeout` seconds.
        """
        if self._result is None:
            result = self._call.answer(timeout)
            result.backend_name, result.backend_version = self._backend.name, ""
            result.job_id = self._job_id
            self._result = result
        return self._result

    def status(self) -> JobStatus:
        """Return where the job is."""
        name = "" if (ended := self._call.ended) else self._call.status()["status"]
        return ended or JobStatus.__members__.get(name, JobStatus.RUNNING)

    def cancel(self) -> bool:
        """Ask the device to cancel the job; return False if it has ended."""
        if self._call.ended is not None:
            return False
        self._call.ask("cancel")
        return True

    def device_job_id(self) -> str | None:
        """Return the device's own id of the job while it runs there; None if it has none yet."""
        return None if self._call.ended else self._call.status()["job_id"]

    def queue_position(self) -> int | None:
        """Return the job's place in the device's queue, None if there is none or it is unknown."""
        return None if self._call.ended else self._call.status()["queue"]


class HeldPrimitiveJob(BasePrimitiveJob[PrimitiveResult, JobStatus]):  # type: ignore[misc]
    """PUBs on the device."""

    def __init__(self, call: Call) -> None:
        super().__init__(f"call-{call.number}")
        self._call = call

    def result(self, timeout: float | None = None) -> PrimitiveResult:
        """Wait for the result; raises as `HeldJob.result` does."""
        return self._call.answer(timeout)

    def status(self) -> JobStatus:
        """Return where the job is."""
        name = "" if (ended := self._call.ended) else self._call.status()["status"]
        return ended or JobStatus.__members__.get(name, JobStatus.RUNNING)

    def done(self) -> bool:
        """Whether there is a result."""
        return self._call.ended is JobStatus.DONE

    def running(self) -> bool:
        """Whether the device works on it."""
        return self.status() is JobStatus.RUNNING

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._call.ended is JobStatus.CANCELLED

    def in_final_state(self) -> bool:
        """Whether it has ended."""
        return self._call.ended is not None

    def cancel(self) -> bool:
        """Ask the device to cancel it; return False if it has ended."""
        if self._call.ended is not None:
            return False
        self._call.ask("cancel")
        return True


class HeldSampler(BaseSamplerV2):  # type: ignore[misc]
    """The device's own sampler."""

    def __init__(self, backend: HeldBackend, default_shots: int) -> None:
        self._backend = backend
        self._default_shots = default_shots

    def run(self, pubs: Iterable[Any], *, shots: int | None = None) -> HeldPrimitiveJob:
        """Send PUBs to the device, and return their job at once."""
        found = [SamplerPub.coerce(each, shots or self._default_shots) for each in pubs]
        return HeldPrimitiveJob(self._backend._send("sampler", "pubs", found, {}))


class HeldEstimator(BaseEstimatorV2):  # type: ignore[misc]
    """The device's own estimator."""

    def __init__(self, backend: HeldBackend, default_precision: float) -> None:
        self._backend = backend
        self._default_precision = default_precision

    def run(self, pubs: Iterable[Any], *, precision: float | None = None) -> HeldPrimitiveJob:
        """Send PUBs to the device, and return their job at once."""
        precision = precision or self._default_precision
        found = [EstimatorPub.coerce(each, precision) for each in pubs]
        return HeldPrimitiveJob(self._backend._send("estimator", "pubs", found, {}))


def target_of(described: Mapping[str, Any]) -> Target:
    """Return the target that `holder.targets` has described."""
    target = Target(
        num_qubits=described["num_qubits"],
        dt=described["dt"],
        qubit_properties=[QubitProperties(**(each or {})) for each in described["qubits"]] or None,
        **{name: described[name] for name in _TIMING},
    )
    for each in described["instructions"]:
        name, places = each["name"], each["places"]
        if name in _CONTROL_FLOW:
            target.add_instruction(_CONTROL_FLOW[name], name=name)
            continue
        properties = None
        if places is not None:
            values = zip(each["durations"], each["errors"], strict=True)
            made = [InstructionProperties(duration=d, error=e) for d, e in values]
            properties = dict(zip(map(tuple, places), made, strict=True))
        target.add_instruction(_operation(each), properties, name=name)
    return target


def _operation(described: Mapping[str, Any]) -> Any:
    """Return the instruction of a target; a gate of the provider's own has a name and a width."""
    params = [
        Parameter(f"p{index}") if value is None else value
        for index, value in enumerate(described["params"])
    ]
    name = described["gate"]
    if name is None:
        return Gate(described["name"], described["width"], params)
    operation = get_standard_gate_name_mapping()[name]
    if all(value is None for value in described["params"]):
        return operation
    operation = operation.copy()
    operation.params = params
    return operation


def _check_registers(circuit: QuantumCircuit, where: str) -> None:
    """Raise ValueError for registers that samplers would take from wrong places of the memory."""
    for register in circuit.cregs:
        places = [circuit.find_bit(bit).index for bit in register]
        if places and places != list(range(places[0], places[0] + len(places))):
            msg = (
                f"{where}: the bits of its register {register.name} do not follow each other, and "
                "samplers would report them in wrong places: make a new register of them"
            )
            raise ValueError(msg)


def _check_version(data: Any, newest: int, where: str) -> None:
    """Raise ValueError for a circuit in a newer form than the holder's Qiskit reads."""
    value = data["__value__"]
    text = value["qpy"] if isinstance(value, dict) and "qpy" in value else value
    if not isinstance(text, str):
        return
    packed = base64.b64decode(text[:_HEAD_CHARS])
    head = zlib.decompressobj().decompress(packed, _QPY_VERSION_AT + 1)
    if head[_QPY_VERSION_AT] > newest:
        msg = (
            f"{where} needs QPY {head[_QPY_VERSION_AT]}, and the Qiskit of the held backend reads "
            f"up to {newest}"
        )
        raise ValueError(msg)


def _absent(options: Mapping[str, Any]) -> set[str]:
    return {name for name, value in options.items() if value is None}
