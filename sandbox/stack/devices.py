"""Backends with a size, a coupling map and errors of their own, all simulated by Aer."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Final

from qiskit.circuit.controlflow import ForLoopOp, IfElseOp, SwitchCaseOp, WhileLoopOp
from qiskit.circuit.library import get_standard_gate_name_mapping
from qiskit.providers import BackendV2, QubitProperties
from qiskit.providers import Options as BackendOptions
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit.transpiler import CouplingMap, InstructionProperties, Target
from qiskit_aer.backends.backendproperties import AerBackendProperties

from sandbox.stack import simulator

_GENERIC: Final = (
    "num_qubits",
    "basis_gates",
    "coupling_map",
    "control_flow",
    "dtm",
    "dt",
    "seed",
    "noise_info",
)
"""What GenericBackendV2 is made with; its other options are Aer's."""

_CONTROL_FLOW: Final = {
    "if_else": IfElseOp,
    "for_loop": ForLoopOp,
    "while_loop": WhileLoopOp,
    "switch_case": SwitchCaseOp,
}


def generic_backend_v2(options: dict[str, Any], limits: Mapping[str, int]) -> GenericBackendV2:
    """Return Qiskit's generic backend; it runs on an AerSimulator with its options."""
    simulator.fit(limits)
    made_with = {name: options[name] for name in _GENERIC if name in options}
    rest = {name: value for name, value in options.items() if name not in made_with}
    backend = GenericBackendV2(**made_with)
    if "noise_model" in rest:  # its first run would put that of its errors in the place
        backend._sim = simulator.AerSimulator()
    backend.set_options(**simulator.run_options(rest, limits))
    return backend


def device(options: dict[str, Any], limits: Mapping[str, int]) -> simulator.AerSimulator:
    """Return a simulator of the device that `options["device"]` describes, its errors included.

    The description is the host's normal form: gates with all their places, numbers in SI units.
    """
    simulator.fit(limits)
    options = dict(options)
    described, is_noisy = options.pop("device"), options.pop("noise", True)
    model = _Device(described)
    options = simulator.run_options(options, limits)
    options.setdefault("noise_model", _noise_model(model, described) if is_noisy else None)
    backend: simulator.AerSimulator = simulator.AerSimulator.from_backend(model, **options)
    backend._properties = _properties(described)  # Aer's own know the gates and the readout only
    return backend


class _Device(BackendV2):  # type: ignore[misc]
    """Something that has a target: what Aer derives a simulator and its noise from."""

    def __init__(self, described: Mapping[str, Any]) -> None:
        super().__init__(name=described["name"], description=described.get("description"))
        self._target = _target(described)

    @property
    def target(self) -> Target:
        return self._target

    @property
    def max_circuits(self) -> None:
        return None

    @property
    def coupling_map(self) -> CouplingMap:
        """The map; one without edges where no gate couples anything."""
        return self._target.build_coupling_map() or CouplingMap.from_full(self.num_qubits)

    @classmethod
    def _default_options(cls) -> BackendOptions:
        return BackendOptions()

    def run(self, run_input: Any, **options: Any) -> Any:
        raise NotImplementedError


def _target(described: Mapping[str, Any]) -> Target:
    library, qubits = get_standard_gate_name_mapping(), described["qubits"]
    target = Target(
        description=described["name"],
        num_qubits=len(qubits),
        dt=described.get("dt"),
        qubit_properties=[
            QubitProperties(**{name: each.get(name) for name in ("t1", "t2", "frequency")})
            for each in qubits
        ],
        **described.get("timing_constraints", {}),
    )
    for name, places in described["gates"].items():
        properties = {
            tuple(each["qubits"]): InstructionProperties(
                error=each.get("error"), duration=each.get("duration")
            )
            for each in places
        }
        target.add_instruction(library[name], properties, name=name)
    working = [index for index, each in enumerate(qubits) if each.get("operational", True)]
    readout = {
        (index,): InstructionProperties(
            error=_mean(qubits[index].get("readout_error")) or 0.0,  # Aer cannot do with None
            duration=qubits[index].get("readout_duration"),
        )
        for index in working
    }
    target.add_instruction(library["measure"], readout)
    for name in ("delay", "reset"):
        if name not in target:
            target.add_instruction(library[name], dict.fromkeys(readout))
    control_flow = described.get("control_flow") or ()
    for name in _CONTROL_FLOW if control_flow is True else control_flow:
        target.add_instruction(_CONTROL_FLOW[name], name=name)
    return target


def _properties(described: Mapping[str, Any]) -> AerBackendProperties:
    """Return the description in the form of IBM's properties, which older programs read."""
    date = described.get("date")

    def values(found: Mapping[str, tuple[str, Any]]) -> list[dict[str, Any]]:
        return [
            {"date": date, "name": name, "unit": unit, "value": value}
            for name, (unit, value) in found.items()
            if value is not None
        ]

    qubits = []
    for each in described["qubits"]:
        readout = each.get("readout_error")
        one_for_zero, zero_for_one = readout if isinstance(readout, list) else [readout] * 2
        found = {
            "T1": ("s", each.get("t1")),
            "T2": ("s", each.get("t2")),
            "frequency": ("", each.get("frequency")),
            "readout_error": ("", _mean(readout)),
            "prob_meas1_prep0": ("", one_for_zero),
            "prob_meas0_prep1": ("", zero_for_one),
            "readout_length": ("s", each.get("readout_duration")),
            "operational": ("", int(each.get("operational", True))),
        }
        qubits.append(values(found))
    gates = [
        {
            "gate": name,
            "qubits": each["qubits"],
            "name": name + "_".join(map(str, each["qubits"])),
            "parameters": values(
                {"gate_error": ("", each.get("error")), "gate_length": ("s", each.get("duration"))}
            ),
        }
        for name, places in described["gates"].items()
        for each in places
    ]
    content = {"backend_name": described["name"], "backend_version": "", "general": []}
    return AerBackendProperties.from_dict(
        {**content, "last_update_date": date, "qubits": qubits, "gates": gates}
    )


def _noise_model(model: _Device, described: Mapping[str, Any]) -> Any:
    """Return the noise that Aer derives from the target, with readout errors as they were given."""
    from qiskit_aer.noise import NoiseModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what a description leaves out, as it may
        noise = NoiseModel.from_backend(model)
        for index, each in enumerate(described["qubits"]):
            if isinstance(each.get("readout_error"), list):
                error = simulator.readout_error(each["readout_error"])
                noise.add_readout_error(error, [index], warnings=False)
    return None if noise.is_ideal() else noise


def _mean(error: float | list[float] | None) -> float | None:
    return sum(error) / len(error) if isinstance(error, list) else error
