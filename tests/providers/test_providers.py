"""The recipes with the providers themselves, each in an environment of its own.

`make test-providers`.  Needs the package index, and minutes.  QRUNNER_PROVIDERS names a directory
in which the environments are kept for the next time.
"""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from qiskit import generate_preset_pass_manager, qpy, transpile
from qiskit.circuit.library import efficient_su2

from runner import Supervisor
from runner.errors import BackendUnavailableError
from runner.policy.held import HeldBackend
from sandbox.stack.held import target_of

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(1800)]

PROGRAMS = Path(__file__).parent / "programs"
PACKAGES = {
    "aer": ["qiskit==2.6.2", "qiskit-aer==0.18.2"],
    "ibm": ["qiskit-ibm-runtime==0.51.0", "qiskit-aer==0.18.2"],
    "mqt": ["mqt-core[qiskit]==4.1.1"],
    "ddsim": ["mqt.ddsim==2.7.0", "qiskit==2.6.2"],
    "braket": ["qiskit-braket-provider==0.27.1", "amazon-braket-default-simulator==1.41.2"],
    "iqm": ["iqm-client[qiskit]==36.0.0"],
    "aqt": ["qiskit-aqt-provider==2.0.1"],
    "alice": ["qiskit-alice-bob-provider==3.0.0"],
    "ionq": ["qiskit-ionq==1.1.1"],
}
HELD = {
    "aer": ("aer", "aer", {}),
    "generic": ("aer", "generic", {"num_qubits": 5, "noise_info": False}),
    "fake": ("ibm", "fake", {"name": "manila"}),
    "ibm": ("ibm", "ibm_local", {"name": "manila"}),
    "mqt": ("mqt", "qdmi", {"name": "MQT Core DDSIM QDMI Device"}),
    "ddsim": ("ddsim", "ddsim", {}),
    "braket": ("braket", "braket_local", {}),
    "iqm": ("iqm", "iqm_fake", {"name": "adonis"}),
    "aqt": ("aqt", "aqt_offline", {}),
    "alice": ("alice", "alice_bob_local", {"name": "EMU:40Q:LOGICAL_NOISELESS"}),
}
"""For each backend: its environment, its recipe and the arguments."""

NOISY = {"fake", "ibm", "iqm", "aqt"}
NO_MEMORY = {"ddsim", "iqm"}
HAMILTONIAN = {"ZZ": -1.0, "XI": 0.5, "IX": 0.5}
POINT = [-0.85, -0.85, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
PRECISION = {"aqt": 1 / 44}
"""Standard errors of an energy; AQT takes at most 2000 shots."""

DIRECT_SHOTS, DIRECT_RUNS = 2000, 20


def definition_of(name, environment):
    of, recipe, args = HELD[name]
    return HeldBackend(
        name=name, factory=f"holder.recipes:{recipe}", args=args, python=environment(of)
    )


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
    with Supervisor(backends=[definition_of(request.param, environment)]) as supervisor:
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
    assert mostly(found["some"], "10", name)
    assert mostly(found["several"][0], "001", name)
    assert mostly(found["several"][1], "100", name)
    if name == "ddsim":  # 2.7.0 takes no bit beyond its qubits
        assert "the device or its provider failed (ValueError)" in found["partial"]
    else:
        assert mostly(found["partial"], "1000", name)
    if name in NO_MEMORY:
        assert "does not give the memory of single shots" in found["memory"]
        assert "does not give the memory of single shots" in found["sampler"]
    else:
        assert len(found["memory"]) == 30
        assert mostly({key: found["memory"].count(key) for key in found["memory"]}, "1 01", name)
        assert mostly(found["sampler"], "01", name)


def test_every_gate_of_a_target_is_the_one_that_qiskit_has(held):
    """Between distant qubits, too.  The bound is twice what 8000 shots scatter."""
    supervisor, name = held
    if name in {*NOISY, "alice"}:
        pytest.skip("for simulators without noise that have rotations")
    found = supervisor.run(PROGRAMS / "gates.py", backend=name).result(timeout=900)
    assert len(found) >= (1 if name == "generic" else 12)
    assert {gate: off for gate, off in found.items() if off > 0.06} == {}


def test_the_energy_of_a_vqe_is_that_of_the_simulator_in_the_sandbox(held, environment, tmp_path):
    """Within five standard errors; of a noisy device, of what it gives without the runner."""
    supervisor, name = held
    if name == "alice":
        pytest.skip("its gates are Clifford and T: there are no rotations")
    precision = PRECISION.get(name, 1 / 64)
    inputs = {
        "hamiltonian": HAMILTONIAN,
        "initial_point": POINT,
        "optimizer_options": {"maxiter": 1},
        "seed": 1,
    }
    job = supervisor.run("vqe", {**inputs, "precision": precision}, backend=name)
    first = next(job.messages())
    assert first["evaluation"] == 1
    assert job.result(timeout=900)["energy"] <= first["energy"]
    if name in NOISY:
        wanted, error = direct_energy(supervisor, name, environment, tmp_path)
    else:
        wanted, error = next(supervisor.run("vqe", inputs).messages())["energy"], 0.0
    assert abs(first["energy"] - wanted) < 5 * math.hypot(precision, error)


def direct_energy(supervisor, name, environment, tmp_path):
    """Return the energy that a device gives its own environment, and its standard error.

    The circuits are compiled as the program compiles them, so that they meet the same noise.
    """
    target = target_of(supervisor.describe(name, "")["options"]["target"])
    compiler = generate_preset_pass_manager(target=target, optimization_level=1, seed_transpiler=1)
    ansatz = efficient_su2(2, reps=1, entanglement="linear").assign_parameters(POINT)
    compiled = compiler.run(ansatz)
    layout = compiled.layout and compiled.layout.final_index_layout()
    in_z, in_x = ansatz.copy(), ansatz.copy()
    in_x.h([0, 1])
    for each in (in_z, in_x):
        each.measure_all()
    circuits = transpile(
        [in_z, in_x], target=target, optimization_level=1, initial_layout=layout, seed_transpiler=1
    )
    with (tmp_path / "circuits.qpy").open("wb") as file:
        qpy.dump(circuits, file, version=13)
    of, recipe, args = HELD[name]
    script = str(Path(__file__).with_name("direct.py"))
    arguments = [recipe, json.dumps(args), file.name, str(DIRECT_SHOTS), str(DIRECT_RUNS)]
    done = subprocess.run(
        [environment(of), script, *arguments], capture_output=True, check=True, timeout=900
    )
    in_z, in_x = json.loads(done.stdout)
    total = DIRECT_SHOTS * DIRECT_RUNS
    parity = sum(count * (-1) ** key.count("1") for key, count in in_z.items()) / total
    both = sum(count * (1 - key.count("1")) for key, count in in_x.items()) / total
    return -parity + both, math.sqrt(2 / total)


def test_primitives_of_the_device_come_back_with_plain_metadata(environment):
    program = PROGRAMS / "primitives.py"
    with Supervisor(backends=[definition_of("ibm", environment)]) as supervisor:
        found = supervisor.run(program, backend="ibm").result(timeout=600)
    assert found["shape"] == [3]
    assert [sum(each.values()) for each in found["counts"]] == [100] * 3
    assert found["zz"] > 0.8
    assert found["metadata"]["shots"] == 100


@pytest.mark.parametrize("name", ["hybrid_qasm_simulator", "path_qasm_simulator"])
def test_a_simulator_that_ignores_the_map_of_measurements_is_not_held(environment, name):
    held = HeldBackend(
        name="ddsim",
        factory="holder.recipes:ddsim",
        args={"name": name},
        python=environment("ddsim"),
    )
    with (
        Supervisor(backends=[held]) as supervisor,
        pytest.raises(BackendUnavailableError, match="whatever is measured into which bit"),
    ):
        supervisor.describe("ddsim", "")


def test_the_target_of_ionq_is_read_without_an_account(environment):
    """IonQ's simulator is remote, too: what runs there cannot be tried."""
    held = HeldBackend(
        name="ionq",
        factory="holder.recipes:ionq",
        args={"name": "ionq_simulator"},
        env=("IONQ_API_TOKEN",),
        python=environment("ionq"),
    )
    os.environ["IONQ_API_TOKEN"] = "none"
    try:
        with Supervisor(backends=[held]) as supervisor:
            found = supervisor.describe("ionq", "")["options"]
    finally:
        del os.environ["IONQ_API_TOKEN"]
    assert {"rx", "rzz", "measure"} <= {each["name"] for each in found["target"]["instructions"]}
