"""What a held backend would compute wrongly is made right, or refused, as in a sandbox."""

from __future__ import annotations

import pytest

pytest.importorskip("qiskit_aer")

from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister
from qiskit.circuit.classical import expr, types
from qiskit.circuit.library import XGate
from qiskit.primitives.containers.sampler_pub import SamplerPub
from qiskit.providers import BackendV2, Options
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit_aer import AerSimulator
from qiskit_aer.primitives import SamplerV2

from holder import deviations
from holder.desk import Desk, Held
from holder.refusals import Refused
from sandbox import codec

pytestmark = pytest.mark.qiskit


def run(desk, circuit, **options):
    body = codec.encode({"circuits": [circuit], "options": {"shots": 10, **options}}).encode()
    answer = desk.answer(1, "run", body, {"circuits": 1, "shots": 1000})
    return codec.decode(answer.body.decode(), trusted=True)


def cast(value):
    """Flip a qubit if a register is not 0: Aer alone inverts it."""
    register = ClassicalRegister(2, "r")
    circuit = QuantumCircuit(QuantumRegister(3), register, ClassicalRegister(1, "flag"))
    if value:
        circuit.x(1)
    circuit.measure([0, 1], register)
    with circuit.if_test(expr.cast(register, types.Bool())):
        circuit.x(2)
    circuit.measure(2, 2)
    return circuit


def on_variable():
    """Aer 0.18.2 cannot evaluate it; some such circuits end the process."""
    circuit = QuantumCircuit(1, 1)
    variable = expr.Var.new("v", types.Uint(8))
    circuit.add_uninitialized_var(variable)  # nothing stores in it: that would be refused before
    with circuit.if_test(expr.equal(variable, 1)):
        circuit.x(0)
    circuit.measure(0, 0)
    return circuit


@pytest.mark.parametrize("sampler", [False, True])
@pytest.mark.parametrize(("value", "counts"), [(0, {"0 00": 10}), (1, {"1 10": 10})])
def test_a_condition_that_aer_inverts_is_made_right(value, counts, sampler):
    held = Held(backend=AerSimulator(), sampler=SamplerV2(), runs_with_sampler=sampler)
    assert run(Desk(held), cast(value)).get_counts() == counts


@pytest.mark.parametrize("backend", [AerSimulator(), GenericBackendV2(2, control_flow=True)])
def test_a_condition_that_aer_cannot_have_never_reaches_it(backend):
    with pytest.raises(Refused, match="its condition reads the variable v"):
        run(Desk(backend), on_variable())


def test_a_seed_is_a_whole_number():
    with pytest.raises(Refused, match="seed_simulator is True: it must be a whole number"):
        run(Desk(AerSimulator()), cast(0), seed_simulator=True)


def test_neither_does_one_in_a_pub():
    desk = Desk(Held(backend=AerSimulator(), sampler=SamplerV2()))
    for circuit, reason in [(on_variable(), "the variable v"), (cast(1), "computes its condition")]:
        pubs = [SamplerPub.coerce((circuit, None, 10))]
        body = codec.encode({"pubs": pubs, "options": {}}).encode()
        with pytest.raises(Refused, match=reason):
            desk.answer(1, "sampler", body, {"circuits": 1, "shots": 10})


class Metered:
    """The job of a sampler that says what it took, as IBM's do."""

    def __init__(self, job, seconds):
        self.result = job.result
        self.status = job.status
        self.usage = lambda: seconds


class MeteredSampler(SamplerV2):
    seconds = 0

    def run(self, pubs):
        return Metered(super().run(pubs), self.seconds)


@pytest.mark.parametrize(("said", "used"), [(2, 2.0), (0, None), (float("nan"), None)])
def test_the_seconds_of_a_device_are_what_it_says_once_it_knows(said, used, monkeypatch):
    monkeypatch.setattr(MeteredSampler, "seconds", said)
    held = Held(backend=AerSimulator(), sampler=MeteredSampler(), runs_with_sampler=True)
    body = codec.encode({"circuits": [cast(0)], "options": {"shots": 10}}).encode()
    answer = Desk(held).answer(1, "run", body, {"circuits": 1, "shots": 10})
    assert answer.used == {"circuits": 1, "shots": 10, "device_s": used}


class Bounded(BackendV2):
    """A device whose options say how many shots it takes, and with a gate that it runs wrongly."""

    target = GenericBackendV2(2, basis_gates=["rz", "sx", "cx", "cs"], seed=1).target
    max_circuits = None

    @classmethod
    def _default_options(cls):
        options = Options(shots=100)
        options.set_validator("shots", (1, 500))
        return options

    def run(self, circuits, **options):
        raise NotImplementedError


@pytest.mark.parametrize(("operator", "recipe", "most"), [(None, None, 500), (9, 600, 9)])
def test_the_most_shots_are_the_lowest_that_anybody_says(operator, recipe, most):
    desk = Desk(Held(backend=Bounded(), max_shots=recipe), max_shots=operator)
    assert desk.describe()["max_shots"] == most
    circuit = QuantumCircuit(1, 1)
    circuit.measure(0, 0)
    with pytest.raises(Refused, match=f"{most + 1} shots, and the backend takes {most}"):
        run(desk, circuit, shots=most + 1)


def test_a_gate_that_is_run_wrongly_is_not_offered(monkeypatch):
    name = f"{Bounded.__module__}.Bounded"
    monkeypatch.setitem(deviations._LEFT_OUT, name, frozenset({"cs"}))
    desk = Desk(Bounded())
    names = {each["name"] for each in desk.describe()["target"]["instructions"]}
    assert {"cx", "sx"} <= names
    assert "cs" not in names
    circuit = QuantumCircuit(2, 1)
    circuit.cs(0, 1)
    circuit.measure(0, 0)
    with pytest.raises(Refused, match="'cs'.*no such gate"):
        run(desk, circuit)


def test_a_backend_whose_answers_are_wrong_is_not_held(monkeypatch):
    monkeypatch.setitem(deviations._UNFIT, f"{Bounded.__module__}.Bounded", "it errs")
    with pytest.raises(Refused, match="Bounded is not held: it errs"):
        Desk(Bounded())


def test_no_gate_with_three_controls_or_more_is_offered():
    """Qiskit 2.0 to 2.2, which some providers need, read such gates with all controls closed."""
    circuit = QuantumCircuit(4, 1)
    circuit.append(XGate().control(3, ctrl_state=0), range(4))
    circuit.measure(0, 0)
    with pytest.raises(Refused, match="no such gate"):
        run(Desk(AerSimulator()), circuit)
    for each in Desk(AerSimulator()).describe()["target"]["instructions"]:
        assert each.get("width", 0) <= 3, each["name"]
