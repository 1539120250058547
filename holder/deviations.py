"""What providers' backends do otherwise than they say: made right here, or not held at all.

Each entry was seen with the version that it names, and `tests/providers` meets it.  What can be
seen in an answer, such as bits in another form, needs no entry (`holder.results`).
"""

from __future__ import annotations

from typing import Any, Final

from qiskit.circuit import QuantumCircuit

from holder.refusals import Refused

_UNFIT: Final = {
    # mqt.ddsim 2.7.0
    "mqt.ddsim.hybrid_qam_simulator_backend.HybridQasmSimulatorBackend": (
        "it answers with all qubits in their order, whatever is measured into which bit"
    ),
    "mqt.ddsim.path_qasm_simulator_backend.PathQasmSimulatorBackend": (
        "it answers with all qubits in their order, whatever is measured into which bit"
    ),
}
"""Classes of backends whose wrong answers cannot be told from right ones, and why."""

_LEFT_OUT: Final = {
    # mqt-core 4.1.1 computes cu wrongly, and refuses the others when they arrive
    "mqt.core.plugins.qiskit.backend.QDMIBackend": frozenset(
        {"ccz", "cs", "csdg", "cu", "global_phase"}
    ),
    # amazon-braket-default-simulator 1.41.2 computes them wrongly between distant qubits
    "qiskit_braket_provider.providers.braket_backend.BraketLocalBackend": frozenset(
        {"c3sx", "ch", "crx", "cry", "crz", "cs", "csdg", "csx"}
    ),
}
"""Gates of the targets of classes of backends that programs do without; they are transpiled."""

_ON_AER: Final = (
    "qiskit_aer.",
    "qiskit.providers.fake_provider.",
    "qiskit_ibm_runtime.fake_provider.",
    "iqm.qiskit_iqm.fake_backends.",
    "qiskit_alice_bob_provider.local.",
    "qiskit_aqt_provider._offline_sim.",
)
"""Where the classes of backends are that give their circuits to Aer in their own process."""


def check(backend: Any) -> None:
    """Raise Refused for a backend of which wrong answers are known."""
    for name in _names(backend):
        if name in _UNFIT:
            msg = f"{name.rpartition('.')[2]} is not held: {_UNFIT[name]}"
            raise Refused(msg)


def left_out(backend: Any) -> frozenset[str]:
    """Return the gates of a backend's target that programs do without."""
    return frozenset().union(*(_LEFT_OUT.get(each, ()) for each in _names(backend)))


def max_shots(backend: Any) -> int | None:
    """Return the most shots that a backend's own options allow, None if they do not say."""
    bounds = backend.options.validator.get("shots")
    return bounds[1] if isinstance(bounds, tuple) else None


def is_on_aer(backend: Any) -> bool:
    """Return whether a backend gives its circuits to Aer in its own process."""
    return any(each.startswith(_ON_AER) for each in _names(backend))


def for_aer(circuits: list[QuantumCircuit], *, memory: bool) -> list[QuantumCircuit]:
    """Return circuits as Aer computes them rightly.  Raises Refused for those that it cannot.

    As in a sandbox: some circuits that Aer would end its process at are among the latter.
    """
    from qiskit_aer import AerError

    from sandbox.stack.corrections import corrected

    try:
        return list(corrected(circuits, memory=memory))
    except AerError as error:
        raise Refused(error.message) from error


def _names(backend: Any) -> list[str]:
    return [f"{each.__module__}.{each.__qualname__}" for each in type(backend).__mro__]
