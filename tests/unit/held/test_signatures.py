"""A recording finds what is asked again, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("qiskit")

from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister
from qiskit.circuit import Clbit, Parameter
from qiskit.circuit.classical import expr, types
from qiskit.circuit.library import XGate
from qiskit.primitives.containers.sampler_pub import SamplerPub

from sandbox.stack import signatures

pytestmark = pytest.mark.qiskit


def circuit(
    *,
    angle=0.5,
    place=(0, 1),
    register="c",
    late=False,
    flips=1,
    wanted=1,
    phase=0.0,
    unit="us",
    state=0,
    loops=2,
):
    made = QuantumCircuit(QuantumRegister(3, "q"), ClassicalRegister(3, register))
    made.global_phase = phase
    if late:
        made.measure(2, 2)
    made.h(0)
    made.rx(angle, 1)
    made.cx(*place)
    made.delay(10, 2, unit=unit)
    made.append(XGate().control(2, ctrl_state=state), [0, 1, 2])
    with made.if_test((made.clbits[2], wanted)):
        for _ in range(flips):
            made.x(0)
    with made.for_loop(range(loops)):
        made.y(1)
    if not late:
        made.measure(2, 2)
    return made


def in_flow(*, labels=(0,), loose=False, limit=3):
    """Control flow whose conditions name bits, registers and a variable."""
    made = QuantumCircuit(QuantumRegister(2, "q"))
    made.add_bits([Clbit(), Clbit()])
    made.add_register(ClassicalRegister(2, "c"))
    variable = made.add_var("v", expr.lift(3, types.Uint(8)))
    with made.while_loop(expr.less(variable, limit)):
        made.x(0)
    asked = made.clbits[1] if loose else made.clbits[0]
    with made.if_test(expr.bit_and(expr.lift(asked), made.clbits[2])):
        made.x(1)
    with made.switch(made.cregs[0]) as case, case(*labels):
        made.y(1)
    return made


def of(*circuits, verb="run", **options):
    return signatures.of(verb, list(circuits), options)


def test_the_same_is_the_same_whatever_it_is_called():
    first, second = circuit(), circuit()
    assert first.name != second.name
    second.metadata = {"run": 2}
    assert of(first, first, shots=10) == of(second, first, shots=10)


@pytest.mark.parametrize(
    "change",
    [
        {"angle": 0.25},
        {"angle": np.float64(0.25)},
        {"place": (1, 0)},
        {"register": "d"},
        {"late": True},
        {"flips": 2},
        {"wanted": 0},
        {"phase": 0.1},
        {"unit": "ns"},
        {"state": 1},
        {"loops": 3},
    ],
    ids=str,
)
def test_what_a_device_would_do_otherwise_is_something_else(change):
    assert of(circuit(**change)) != of(circuit())
    assert of(circuit(**change)) == of(circuit(**change))


@pytest.mark.parametrize("change", [{"labels": (0, 1)}, {"loose": True}, {"limit": 4}], ids=str)
def test_conditions_are_what_they_ask_for(change):
    assert of(in_flow()) == of(in_flow())
    assert of(in_flow(**change)) != of(in_flow())
    assert of(in_flow(**change)) == of(in_flow(**change))


def test_options_and_verbs_and_numbers_count():
    found = {
        of(circuit(), shots=10),
        of(circuit(), shots=11),
        of(circuit(), shots=10, memory=True),
        of(circuit(), circuit(), shots=10),
        of(circuit(), verb="sampler", shots=10),
    }
    assert len(found) == 5


def sweep(values, *, name="a", shots=10):
    angle = Parameter(name)
    made = QuantumCircuit(1, 1)
    made.rx(angle + 1, 0)
    made.measure(0, 0)
    return SamplerPub.coerce((made, values, shots))


def test_parameters_have_names_and_values_and_no_identity():
    assert of(sweep([0.5])) == of(sweep([0.5]))
    changed = [sweep([0.6]), sweep([0.5], name="b"), sweep([[0.5]]), sweep([0.5], shots=11)]
    assert len({of(each) for each in [sweep([0.5]), *changed]}) == 5
