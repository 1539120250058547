"""No two jobs of a session draw the same random numbers, whatever in the stack draws them."""

import importlib.util
import json
from pathlib import Path

import pytest

from tests.contract import guest
from tests.contract.guest import ANYTHING, Session, run

STACK = ("dateutil", "dill", "numpy", "psutil", "qiskit", "qiskit_aer", "rustworkx", "scipy")
"""The packages of the base image."""

NOT_OF_PROGRAMS = {"tests", "testing", "__main__", "conftest", "f2py", "distutils"}

ENVIRONMENT = {
    "QISKIT_IN_PARALLEL": "TRUE",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
}


def modules_of(package):
    """Yield the names of all modules that a program could import of a package."""
    (root,) = map(Path, importlib.util.find_spec(package).submodule_search_locations)
    for path in root.rglob("*"):
        if path.suffix in {".py", ".so"}:
            stem = path.name.partition(".")[0]
            parts = path.relative_to(root.parent).parent.parts
            parts = parts if stem == "__init__" else (*parts, stem)
            if not NOT_OF_PROGRAMS & {*parts}:
                yield ".".join(parts)


GENERATORS = """
import enum, gc, hashlib, pickle, re, sys, types
gc.unfreeze()
seen, level = {}, [*sys.modules.values()]
while level:
    new = {id(each): each for each in gc.get_referents(*level)}
    level = [each for key, each in new.items() if key not in seen]
    seen.update(new)
word = re.compile("rand|rng|seed|pcg|twister|mt19937|philox|sfc64|sobol|halton|entropy", re.I)
no = (type, enum.Enum, types.ModuleType, types.FunctionType, types.BuiltinFunctionType)
value = {}
for each in seen.values():
    kind = type(each)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if word.search(name) and not issubclass(kind, no):
        try: state = pickle.dumps(getattr(each, "state", each))  # a bit generator: without its seed
        except Exception: continue
        value.setdefault(name, []).append(hashlib.sha256(state).hexdigest())
"""
"""The states of all that a name says to be a generator, found by a walk from the modules on: other
than the product finds them."""


@pytest.mark.slow
def test_no_generator_in_the_whole_stack_has_the_same_state_in_two_jobs(tmp_path, monkeypatch):
    monkeypatch.setattr(guest, "PATIENCE_S", 240)
    names = ",".join(name for package in STACK for name in modules_of(package))
    with Session("stdio", tmp_path, ENVIRONMENT, arguments=("--import", names)) as session:
        one, other = session.do(GENERATORS), session.do(GENERATORS)
    assert {kind: len(states) for kind, states in one.items()} == {
        kind: len(states) for kind, states in other.items()
    }
    assert not {kind for kind in one if {*one[kind]} & {*other[kind]}}
    known = {
        "random.Random",
        "numpy.random.mtrand.RandomState",
        "numpy.random._generator.Generator",
    }
    assert known <= one.keys()


DRAWS = """
import os, random, secrets, tempfile, uuid
import numpy, rustworkx, scipy.optimize, scipy.sparse, scipy.stats, scipy.stats.qmc
from qiskit import QuantumCircuit, quantum_info, transpile
from qiskit.circuit import Parameter, pauli_twirl_2q_gates
from qiskit.circuit.library import quantum_volume, random_iqp
from qiskit.circuit.random import random_circuit
from qiskit.primitives import StatevectorSampler
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit_aer import AerSimulator

def told(circuit):
    return [[each.operation.name, *map(str, each.operation.params)] for each in circuit.data]

def sample(): return StatevectorSampler().run([uniform], shots=9).result()[0]
def anneal():
    found = scipy.optimize.dual_annealing(numpy.dot, [(-1, 1)], [1], 1, no_local_search=True)
    return found.x.tolist()

uniform = QuantumCircuit(8); uniform.h(range(8)); uniform.measure_all()
pairs = QuantumCircuit(20)
for each in range(20):
    for step in (3, 7, 9): pairs.cx(each, (each + step) % 20)
line = [[each, each + 1] for each in range(19)]
value = {
    "a parameter": lambda: str(Parameter("x").uuid),
    "a unitary": lambda: quantum_info.random_unitary(2).data.real.tolist(),
    "a Hermitian": lambda: quantum_info.random_hermitian(2).data.real.tolist(),
    "a state": lambda: quantum_info.random_statevector(4).data.real.tolist(),
    "a Clifford": lambda: quantum_info.random_clifford(6).tableau.tolist(),
    "a Pauli": lambda: str(quantum_info.random_pauli(30)),
    "a circuit": lambda: told(random_circuit(4, 8)),
    "a volume": lambda: told(quantum_volume(2)),
    "an IQP": lambda: told(random_iqp(6)),
    "twirling": lambda: told(pauli_twirl_2q_gates(pairs)),
    "a layout": lambda: told(transpile(pairs, coupling_map=line, basis_gates=["u", "cx"])),
    "a device": lambda: str(GenericBackendV2(2).target["cx"]),
    "a sampler": lambda: sample().data.meas.get_bitstrings(),
    "a simulator": lambda: AerSimulator().run(uniform, shots=9, memory=True).result().get_memory(),
    "a distribution": lambda: scipy.stats.norm.rvs(),
    "a quasi-random sequence": lambda: scipy.stats.qmc.Sobol(2).random().tolist(),
    "a sparse array": lambda: scipy.sparse.random_array((9, 9), density=0.5).sum(),
    "a search": lambda: anneal(),
    "a graph": lambda: [*map(list, rustworkx.undirected_gnp_random_graph(20, 0.4).edge_list())],
    "NumPy, globally": lambda: [numpy.random.random(), numpy.random.normal()],
    "NumPy": lambda: numpy.random.default_rng().random(),
    "a seed sequence": lambda: str(numpy.random.SeedSequence().entropy),
    "Python": lambda: [random.random(), random.gauss(), random.SystemRandom().random()],
    "a UUID": lambda: str(uuid.uuid4()),
    "a secret": lambda: secrets.token_hex(),
    "a name": lambda: tempfile.mkdtemp(),
    "the kernel": lambda: os.urandom(8).hex(),
}
value = {name: draw() for name, draw in value.items()}
"""

IMPORTS = "numpy,qiskit.circuit.random,qiskit.primitives,qiskit_aer,scipy.stats.qmc,rustworkx"


@pytest.fixture(scope="module")
def quantum_session(tmp_path_factory):
    wiped = tmp_path_factory.mktemp("wiped")
    with Session("stdio", wiped, ENVIRONMENT, arguments=("--import", IMPORTS)) as running:
        yield running


def test_nothing_that_draws_without_a_seed_draws_the_same_in_two_jobs(quantum_session):
    one, other = quantum_session.do(DRAWS), quantum_session.do(DRAWS)
    assert not {name for name in one if one[name] == other[name]}


SEEDED = """
import random, numpy
from qiskit import QuantumCircuit, quantum_info, transpile
from qiskit.circuit.random import random_circuit
from qiskit_aer import AerSimulator
random.seed(1); numpy.random.seed(2)
uniform = QuantumCircuit(8); uniform.h(range(8)); uniform.measure_all()
value = [random.random(), random.gauss(), numpy.random.normal(), numpy.random.random()]
value += [numpy.random.default_rng(3).random(), numpy.random.RandomState(4).random()]
value += quantum_info.random_unitary(2, seed=5).data.real.ravel().tolist()
circuit = transpile(random_circuit(4, 8, seed=6), seed_transpiler=7)
value += [each.operation.name for each in circuit]
value += AerSimulator().run(uniform, shots=9, memory=True, seed_simulator=8).result().get_memory()
"""


def test_with_a_seed_a_job_draws_what_a_cold_one_draws(quantum_session):
    cold = json.loads(run(ANYTHING, carrier="stdio", inputs={"code": SEEDED}).value)
    assert quantum_session.do(SEEDED) == quantum_session.do(SEEDED) == cold
