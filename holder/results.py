"""What providers answer, in the one form that Qiskit's own simulators have.

Providers differ: bit strings where Qiskit has hexadecimal keys, bits that are missing because
nothing measures them, no memory although it was asked for.  Here each answer is made right or
refused.  Only counts, memory and shots are taken over: nothing else of a provider's text goes on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from qiskit.circuit import QuantumCircuit
from qiskit.primitives import PrimitiveResult, PubResult, SamplerPubResult

from holder.refusals import Refused
from holder.targets import measured_bits


def normal(
    result: Any, circuits: Sequence[QuantumCircuit], *, shots: int, memory: bool
) -> dict[str, Any]:
    """Return a provider's result as the data of `Result.from_dict`.  Raises Refused."""
    found = list(result.results)
    if len(found) != len(circuits):
        msg = f"the device answered {len(found)} of {len(circuits)} circuits"
        raise Refused(msg)
    experiments = []
    for index, (each, circuit) in enumerate(zip(found, circuits, strict=True)):
        where = f"circuit {index} ({circuit.name!r:.80})"
        if not each.success:
            msg = f"{where}: the device did not run it"
            raise Refused(msg)
        data = each.data.to_dict() if hasattr(each.data, "to_dict") else dict(each.data)
        said = data.get("memory") if memory else None
        experiments.append(
            experiment(circuit, data.get("counts"), said, shots, wants_memory=memory, where=where)
        )
    return whole(experiments)


def whole(experiments: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the data of a result with these experiments."""
    return {
        "backend_name": "",
        "backend_version": "",
        "job_id": "",
        "success": True,
        "status": "COMPLETED",
        "results": experiments,
    }


def experiment(
    circuit: QuantumCircuit,
    counts: Mapping[str, int] | None,
    memory: Sequence[str] | None,
    shots: int,
    *,
    wants_memory: bool,
    where: str,
) -> dict[str, Any]:
    """Return the data of one experiment.  Raises Refused for an answer that cannot be right.

    Bits are in the order of the registers, as Qiskit cuts counts; with `wants_memory` in that of
    the circuit, as its samplers cut the memory.
    """
    order = _order(circuit, by_register=not wants_memory)
    spread = _Spread(circuit, order, where)
    found: dict[str, Any] = {}
    if memory is not None:
        values = [spread.value(each) for each in memory]
        found["memory"] = list(map(hex, values))
        found["counts"] = {hex(value): count for value, count in Counter(values).items()}
    elif wants_memory:
        msg = (
            f"{where}: this device does not give the memory of single shots: ask without memory, "
            "or for a device's sampler"
        )
        raise Refused(msg)
    if counts is not None:
        told: Counter[int] = Counter()
        for key, count in counts.items():
            if int(count) < 0:
                msg = f"{where}: the device answered a negative count"
                raise Refused(msg)
            told[spread.value(key)] += int(count)
        own = {hex(value): count for value, count in told.items() if count}
        if found.get("counts", own) != own:
            msg = f"{where}: the device's memory and counts contradict each other"
            raise Refused(msg)
        found["counts"] = own
    if (total := sum(found.get("counts", {}).values())) != shots:
        msg = f"{where}: the device answered {total} shots instead of {shots}"
        raise Refused(msg)
    return {
        "shots": shots,
        "success": True,
        "meas_level": 2,
        "data": found,
        "header": _header(circuit, order),
        "status": "DONE",
    }


def _order(circuit: QuantumCircuit, *, by_register: bool) -> list[int] | None:
    """Return the bits of a circuit in the order of an answer; None if no registers cut them."""
    bits = list(chain(*circuit.cregs))
    if bits == circuit.clbits:
        return list(range(len(bits)))
    if not by_register or len(set(bits)) != len(bits) or len(bits) != circuit.num_clbits:
        return None
    return [circuit.find_bit(each).index for each in bits]


def _header(circuit: QuantumCircuit, order: list[int] | None) -> dict[str, Any]:
    header = {
        "name": circuit.name,
        "memory_slots": circuit.num_clbits,
        "n_qubits": circuit.num_qubits,
        "qreg_sizes": [[each.name, each.size] for each in circuit.qregs],
        "metadata": circuit.metadata,
    }
    # Qiskit cuts counts by these sizes; where registers share or skip bits, it would cut wrong.
    if order is not None:
        header["creg_sizes"] = [[each.name, each.size] for each in circuit.cregs]
    return header


class _Spread:
    """Reads a provider's keys: numbers, or bit strings of all bits or of the measured ones."""

    def __init__(self, circuit: QuantumCircuit, order: list[int] | None, where: str) -> None:
        self._width = circuit.num_clbits
        self._circuit = circuit
        self._order = None if order == list(range(self._width)) else order
        self._where = where
        self._known: dict[str, int] = {}

    def value(self, key: Any) -> int:
        """Return the bits as a number, the first one the lowest.  Raises Refused."""
        text = str(key)
        if text not in self._known:
            value = self._read(text)
            if self._order is not None:
                value = sum((value >> bit & 1) << n for n, bit in enumerate(self._order))
            self._known[text] = value
        return self._known[text]

    def _read(self, text: str) -> int:
        try:
            if text.startswith("0x"):
                value = int(text, 16)
                if value < 1 << self._width:
                    return value
            else:
                bits = text.replace(" ", "")
                value = int(bits, 2)
                if len(bits) == self._width:
                    return value
                measured = measured_bits(self._circuit)
                if len(bits) == len(measured):
                    return sum((value >> n & 1) << bit for n, bit in enumerate(measured))
        except ValueError:
            pass
        msg = f"{self._where}: the device's answer has no {self._width} bits: {text!r:.80}"
        raise Refused(msg)


def of_sampler(
    found: Any, circuits: Sequence[QuantumCircuit], *, shots: int, memory: bool
) -> dict[str, Any]:
    """Return a sampler's result as the data of `Result.from_dict`.  Raises Refused."""
    answers = list(found)
    if len(answers) != len(circuits):
        msg = f"the device answered {len(answers)} of {len(circuits)} circuits"
        raise Refused(msg)
    experiments = []
    for index, (each, circuit) in enumerate(zip(answers, circuits, strict=True)):
        where = f"circuit {index} ({circuit.name!r:.80})"
        said = [hex(value) for value in _joined(each.data, circuit, where)]
        counts = None if memory else Counter(said)
        experiments.append(
            experiment(
                circuit, counts, said if memory else None, shots, wants_memory=memory, where=where
            )
        )
    return whole(experiments)


def with_plain_metadata(found: Any) -> PrimitiveResult:
    """Return a primitive's result in Qiskit's classes, with metadata of plain values and arrays.

    Providers have classes of their own for both, which no program could read.
    """
    kinds = [
        SamplerPubResult if isinstance(each, SamplerPubResult) else PubResult for each in found
    ]
    pubs = [
        kind(each.data, metadata=_plain(each.metadata))
        for kind, each in zip(kinds, found, strict=True)
    ]
    return PrimitiveResult(pubs, metadata=_plain(found.metadata))


def _plain(value: Any) -> Any:
    """Return metadata without what is of no plain kind; the name of its class stands there."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if value is None or isinstance(value, str | int | float | bool | np.ndarray | np.generic):
        return value
    if hasattr(value, "model_dump"):  # pydantic's, as IBM's are
        return _plain(value.model_dump())
    return f"<{type(value).__name__}>"


def _joined(data: Any, circuit: QuantumCircuit, where: str) -> list[int]:
    """Return the bits of each shot, which a sampler gives by register, as one number."""
    index_of = {bit: index for index, bit in enumerate(circuit.clbits)}
    if any(not circuit.find_bit(bit).registers for bit in circuit.clbits):
        msg = f"{where}: this device only gives bits of registers; put its bits into a register"
        raise Refused(msg)
    shots: list[int] = []
    for register in circuit.cregs:
        strings = getattr(data, register.name).get_bitstrings()
        shots = shots or [0] * len(strings)
        places = [index_of[bit] for bit in register]
        for number, text in enumerate(strings):
            value = int(text, 2)
            shots[number] |= sum((value >> n & 1) << place for n, place in enumerate(places))
    return shots
