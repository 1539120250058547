"""The recipes with the providers themselves, each in an environment of its own.

`make test-providers`.  Needs the package index, and minutes.  QRUNNER_PROVIDERS names a directory
in which the environments are kept for the next time.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runner import Supervisor
from runner.policy.held import HeldBackend

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(1800)]

PROGRAMS = Path(__file__).parent / "programs"
PACKAGES = {
    "aer": ["qiskit==2.6.2", "qiskit-aer==0.18.2"],
    "ibm": ["qiskit-ibm-runtime==0.51.0", "qiskit-aer==0.18.2"],
    "mqt": ["mqt-core[qiskit]==4.1.1"],
    "braket": ["qiskit-braket-provider==0.27.1"],
}
HELD = {
    "aer": ("aer", "aer", {}),
    "generic": ("aer", "generic", {"num_qubits": 5, "noise_info": False}),
    "fake": ("ibm", "fake", {"name": "manila"}),
    "ibm": ("ibm", "ibm_local", {"name": "manila"}),
    "mqt": ("mqt", "qdmi", {"name": "MQT Core DDSIM QDMI Device"}),
    "braket": ("braket", "braket_local", {}),
}
"""For each backend: its environment, its recipe and the arguments."""

NOISY = {"fake", "ibm"}
HAMILTONIAN = {"ZZ": -1.0, "XI": 0.5, "IX": 0.5}
POINT = [-0.85, -0.85, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Return what makes the environment of a provider, once, and returns its Python."""
    kept = os.environ.get("QRUNNER_PROVIDERS")
    directory = Path(kept) if kept else tmp_path_factory.mktemp("providers")

    def environment(name):
        python = directory / name / "bin" / "python"
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", directory / name], check=True)
            install = [python, "-m", "pip", "install", "-q", *PACKAGES[name]]
            subprocess.run(install, check=True, timeout=1500)
        return str(python)

    return environment


@pytest.fixture(scope="module", params=HELD)
def held(request, environment):
    """Return a supervisor, and the name of the backend that it holds."""
    name, recipe, args = HELD[request.param]
    definition = HeldBackend(
        name=request.param,
        factory=f"holder.recipes:{recipe}",
        args=args,
        python=environment(name),
    )
    with Supervisor(backends=[definition]) as supervisor:
        yield supervisor, request.param


def mostly(counts, wanted, name):
    """Whether nearly all shots, and without noise all of them, gave what was wanted."""
    return counts.get(wanted, 0) >= sum(counts.values()) * (0.7 if name in NOISY else 1)


def test_bits_are_where_qiskit_has_them(held):
    supervisor, name = held
    found = supervisor.run(PROGRAMS / "bits.py", backend=name).result(timeout=600)
    assert mostly(found["plain"], "001", name)
    assert mostly(found["crossed"], "100", name)
    assert mostly(found["registers"], "1 01", name)
    assert mostly(found["partial"], "1000", name)
    assert mostly(found["several"][0], "001", name)
    assert mostly(found["several"][1], "100", name)
    assert len(found["memory"]) == 30
    assert mostly({key: found["memory"].count(key) for key in found["memory"]}, "1 01", name)
    assert mostly(found["sampler"], "01", name)


def test_the_energy_of_a_vqe_is_that_of_the_simulator_in_the_sandbox(held):
    """Within five standard errors of 1/64; a noisy device may lose a quarter of the energy."""
    supervisor, name = held
    inputs = {
        "hamiltonian": HAMILTONIAN,
        "initial_point": POINT,
        "optimizer_options": {"maxiter": 1},
        "seed": 1,
    }
    inside = supervisor.run("vqe", inputs).result(timeout=600)["energy"]
    outside = supervisor.run("vqe", inputs, backend=name).result(timeout=900)["energy"]
    assert abs(outside - inside) < 5 / 64 + (0.25 * abs(inside) if name in NOISY else 0)
