"""Factories for the providers that were tried: `factory = "holder.recipes:NAME"`.

Each runs in the environment of its provider, and reads its credentials from the variables that the
operator names in `env`.  A factory of your own returns a `BackendV2`, or a `Held`.
"""

from __future__ import annotations

import os
from typing import Any, Final

from holder.desk import Held


def aer(**options: Any) -> Any:
    """Return Aer's simulator with these options."""
    from qiskit_aer import AerSimulator

    return AerSimulator(**options)


def generic(num_qubits: int, **options: Any) -> Any:
    """Return Qiskit's generic backend."""
    from qiskit.providers.fake_provider import GenericBackendV2

    return GenericBackendV2(num_qubits, **options)


def fake(name: str) -> Any:
    """Return a fake device of `qiskit-ibm-runtime` by its name, such as torino: its own noise."""
    from qiskit_ibm_runtime.fake_provider import FakeProviderForBackendV2

    known = {
        each.name.removeprefix("fake_"): each for each in FakeProviderForBackendV2().backends()
    }
    wanted = name.removeprefix("fake_")
    if wanted not in known:
        msg = f"no fake device {name!r:.80}; there are {', '.join(sorted(known))}"
        raise LookupError(msg)
    return known[wanted]


def ibm(backend: str, *, options: dict[str, Any] | None = None, **service: Any) -> Held:
    """Return a device of IBM's: its sampler stands behind `run`, and its primitives are there.

    `service` are arguments of `QiskitRuntimeService`, such as channel and instance; the token comes
    from the variable QISKIT_IBM_TOKEN.  `options` has those of the primitives, by `sampler` and
    `estimator`.
    """
    from qiskit_ibm_runtime import QiskitRuntimeService

    token = os.environ.get("QISKIT_IBM_TOKEN")
    connected = QiskitRuntimeService(token=token, **service)
    held = _with_runtime_primitives(connected.backend(backend), options or {})
    held.find = connected.job
    return held


def ibm_local(name: str, *, options: dict[str, Any] | None = None) -> Held:
    """Return a fake device behind the primitives that IBM's devices have, without an account."""
    return _with_runtime_primitives(fake(name), options or {})


def _with_runtime_primitives(device: Any, options: dict[str, Any]) -> Held:
    from qiskit_ibm_runtime.executor_estimator import Estimator
    from qiskit_ibm_runtime.executor_sampler import Sampler

    return Held(
        backend=device,
        sampler=Sampler(mode=device, options=options.get("sampler")),
        estimator=Estimator(mode=device, options=options.get("estimator")),
        runs_with_sampler=True,
    )


def braket_local(name: str = "braket_sv") -> Any:
    """Return a local simulator of Amazon Braket."""
    from qiskit_braket_provider import BraketLocalBackend

    return BraketLocalBackend(name)


def braket(name: str) -> Any:
    """Return a device of Amazon Braket by its name; credentials are those of boto3's variables."""
    from qiskit_braket_provider import BraketProvider

    return BraketProvider().get_backend(name)


def qdmi(name: str) -> Any:
    """Return a device behind QDMI, by its name in `mqt-core`."""
    from mqt.core.plugins.qiskit import QDMIProvider

    return QDMIProvider().get_backend(name)


def ddsim(name: str = "qasm_simulator") -> Any:
    """Return a simulator of `mqt.ddsim`."""
    from mqt.ddsim import DDSIMProvider

    return DDSIMProvider().get_backend(name)


def iqm(url: str) -> Any:
    """Return a device of IQM; the token comes from the variable IQM_TOKEN."""
    from iqm.qiskit_iqm import IQMProvider

    return IQMProvider(url).get_backend()


def iqm_fake(name: str) -> Any:
    """Return a fake device of IQM by its name, such as adonis: its own noise, no account."""
    from iqm import qiskit_iqm

    return getattr(qiskit_iqm, f"IQMFake{name.capitalize()}")()


_AQT_SHOTS: Final = 2000
"""The most that AQT takes of a circuit; its options do not say so."""


def aqt(name: str, workspace: str = "default") -> Held:
    """Return a resource of AQT; the token comes from the variable AQT_TOKEN."""
    from qiskit_aqt_provider import AQTProvider

    provider = AQTProvider(os.environ["AQT_TOKEN"])
    return Held(backend=provider.get_backend(name, workspace=workspace), max_shots=_AQT_SHOTS)


def aqt_offline(*, noise: bool = True) -> Held:
    """Return AQT's simulator on this machine, with the noise of a device or without."""
    from qiskit_aqt_provider import AQTProvider

    offline = AQTProvider().offline
    return Held(backend=offline.noisy() if noise else offline.ideal(), max_shots=_AQT_SHOTS)


def alice_bob(name: str) -> Any:
    """Return a device of Alice & Bob; the key comes from the variable ALICE_BOB_API_KEY."""
    from qiskit_alice_bob_provider import AliceBobRemoteProvider

    return AliceBobRemoteProvider(os.environ["ALICE_BOB_API_KEY"]).get_backend(name)


def alice_bob_local(name: str, **options: Any) -> Any:
    """Return a local emulation of Alice & Bob."""
    from qiskit_alice_bob_provider import AliceBobLocalProvider

    return AliceBobLocalProvider().get_backend(name, **options)


def ionq(name: str) -> Any:
    """Return a device of IonQ; the token comes from the variable IONQ_API_TOKEN."""
    from qiskit_ionq import IonQProvider

    return IonQProvider(os.environ["IONQ_API_TOKEN"]).get_backend(name)
