"""Aer's simulator, fitted to the sandbox, and quicker to transpile for."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Mapping
from typing import Any, Final, Self

import qiskit_aer
from qiskit import QuantumCircuit
from qiskit_aer import AerError
from qiskit_aer.backends import aer_simulator as automatic
from qiskit_aer.backends import qasm_simulator, statevector_simulator, unitary_simulator

from sandbox import codec
from sandbox.stack import corrections

_AMPLITUDE_BYTES: Final = 16
_HOST_QUBITS: Final = automatic.MAX_QUBITS_STATEVECTOR
_SIMULATORS: Final[tuple[tuple[Any, dict[str, Any], int], ...]] = (
    (automatic, automatic.AerSimulator._DEFAULT_CONFIGURATION, 1),
    (qasm_simulator, qasm_simulator.QasmSimulator._DEFAULT_CONFIGURATION, 1),
    (statevector_simulator, statevector_simulator.StatevectorSimulator._DEFAULT_CONFIGURATION, 1),
    (unitary_simulator, unitary_simulator.UnitarySimulator._DEFAULT_CONFIGURATION, 2),
)
"""Where Aer keeps how wide its simulators are: module, configuration, qubits that one costs."""

_aer_defaults: Final = qiskit_aer.AerSimulator._default_options
_aer_run: Final = qiskit_aer.AerSimulator.run


class AerSimulator(qiskit_aer.AerSimulator):  # type: ignore[misc]
    """Aer's own in every respect, but it keeps its target once it has built it.

    Aer builds the target anew on each access, of which one `transpile` makes more than a hundred.
    """

    _kept: tuple[Any, Any] | None = None
    """What the target was built from, and the target."""

    @property
    def target(self) -> Any:
        """What the transpiler compiles for; built anew only when an option has changed it."""
        if self._from_backend:
            return self._target
        source = (
            self.options.method,
            self._options_configuration,
            self._options_properties,
            self._configuration.n_qubits,
            self._properties,
            self._coupling_map,
            self._cached_basis_gates,
        )
        if self._kept is None or self._kept[0] != source:
            # A copy of each, because the two dicts are changed in place.
            self._kept = tuple(map(copy.copy, source)), super().target
        return self._kept[1]

    def run(self, circuits: Any, parameter_binds: Any = None, **run_options: Any) -> Any:
        """Run circuits as Aer does, with a warning of gates that the device does not have.

        Superoperators are refused if they need too much memory, which Aer does not look at.
        """
        method = run_options.get("method") or self.options.method
        room = run_options.get("max_memory_mb") or self.options.max_memory_mb
        for each in [circuits] if isinstance(circuits, QuantumCircuit) else circuits:
            if self._from_backend and self.options.noise_model and isinstance(each, QuantumCircuit):
                corrections.warn_of_missing_gates(each, self.target)
            if room and (method == "superop" or "save_superop" in each.count_ops()):
                _check_superop(each, room)
        return super().run(circuits, parameter_binds, **run_options)

    def __copy__(self) -> Self:
        return self._filled(self.__dict__)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self._filled(copy.deepcopy({**self.__dict__, "_kept": None}, memo))

    def __reduce_ex__(self, _protocol: Any) -> Any:
        """Pickle as Aer's own class: other processes have no module of ours."""
        state = {name: value for name, value in self.__dict__.items() if name != "_kept"}
        return object.__new__, (qiskit_aer.AerSimulator,), state

    def _filled(self, state: Mapping[str, Any]) -> Self:
        new = type(self).__new__(type(self))
        new.__dict__.update(state)
        return new


def fit(limits: Mapping[str, int]) -> None:
    """Make limits the defaults of every AerSimulator, also of those that a program makes.

    And let each see its circuits before it runs them, in `sandbox.stack.corrections`.

    Aer reads the memory and the processors of the host.  With these its own check names what a
    circuit needs before the kernel ends the sandbox.
    """

    def _default_options(_: type) -> Any:
        options = _aer_defaults()
        options.update_options(**limits)
        return options

    qiskit_aer.AerSimulator._default_options = classmethod(_default_options)
    room = limits.get("max_memory_mb", 0) << 20
    _fit_size(max(1, int(math.log2(room / _AMPLITUDE_BYTES))) if room else _HOST_QUBITS)
    qiskit_aer.AerSimulator.run = _run


def _fit_size(qubits: int) -> None:
    """Let simulators be as wide as a state vector may be; Aer would ask for the host's memory."""
    for module, simulator, width in _SIMULATORS:
        module.MAX_QUBITS_STATEVECTOR = qubits
        simulator["n_qubits"] = qubits // width


@functools.wraps(_aer_run)
def _run(self: Any, circuits: Any, parameter_binds: Any = None, **run_options: Any) -> Any:
    """Run circuits as Aer does, but for those that it would compute wrongly."""
    corrections.warn_of_joint_readout(run_options.get("noise_model", self.options.noise_model))
    memory = bool(run_options.get("memory", self.options.memory))
    given = corrections.corrected(circuits, memory=memory)
    return _aer_run(self, given, parameter_binds, **run_options)


def aer_simulator(options: dict[str, Any], limits: Mapping[str, int]) -> AerSimulator:
    """Return a simulator with Aer's options; `noise` and `noise_model` are described by data."""
    fit(limits)
    return AerSimulator(**run_options(options, limits))


def run_options(options: dict[str, Any], limits: Mapping[str, int]) -> dict[str, Any]:
    """Return the options with noise built, and no more memory than there is."""
    options = dict(options)
    if "max_memory_mb" in options and "max_memory_mb" in limits:
        options["max_memory_mb"] = min(options["max_memory_mb"], limits["max_memory_mb"])
    noise = options.pop("noise", None)
    if noise is not None:
        options["noise_model"] = _noise_model(noise)
    elif isinstance(options.get("noise_model"), dict):
        model = codec.from_data(options["noise_model"], "noise_model", trusted=True)
        options["noise_model"] = model
    return options


def _noise_model(noise: Mapping[str, Any]) -> Any:
    """Return the noise that `{"depolarizing": {gate: probability}, "readout": …}` describes."""
    from qiskit.circuit.library import get_standard_gate_name_mapping
    from qiskit_aer.noise import NoiseModel, depolarizing_error

    gates = get_standard_gate_name_mapping()
    model = NoiseModel()
    for name, probability in noise.get("depolarizing", {}).items():
        error = depolarizing_error(probability, gates[name].num_qubits)
        model.add_all_qubit_quantum_error(error, name)
    if "readout" in noise:
        model.add_all_qubit_readout_error(readout_error(noise["readout"]))
    return model


def readout_error(described: float | list[float]) -> Any:
    """Return the error of reading 0 as 1 and 1 as 0, equally likely or not."""
    from qiskit_aer.noise import ReadoutError

    one_for_zero, zero_for_one = described if isinstance(described, list) else [described] * 2
    return ReadoutError([[1 - one_for_zero, one_for_zero], [zero_for_one, 1 - zero_for_one]])


def _check_superop(circuit: QuantumCircuit, room_mb: int) -> None:
    needed_mb = 16 ** (circuit.num_qubits + 1) >> 20
    if needed_mb > room_mb:
        msg = (
            f"Insufficient memory to run circuit {circuit.name} using the superop simulator. "
            f"Required memory: {needed_mb}M, max memory: {room_mb}M"
        )
        raise AerError(msg)
