"""What providers answer differently is made right, or refused."""

from types import SimpleNamespace

import pytest

pytest.importorskip("qiskit")

from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister
from qiskit.circuit import Clbit
from qiskit.primitives import PrimitiveResult, StatevectorSampler
from qiskit.result import Result

from holder.refusals import Refused
from holder.results import normal, of_sampler, with_plain_metadata
from sandbox import codec

pytestmark = pytest.mark.qiskit


def answered(counts, memory=None, *, success=True):
    data = {"counts": counts, **({} if memory is None else {"memory": memory})}
    return SimpleNamespace(results=[SimpleNamespace(data=data, success=success)])


def measured(clbits, pairs, *registers):
    circuit = QuantumCircuit(QuantumRegister(3), *(registers or (ClassicalRegister(clbits, "c"),)))
    for qubit, clbit in pairs:
        circuit.measure(qubit, clbit)
    return circuit


PARTIAL = measured(4, [(0, 3), (1, 1)])
WHOLE = measured(2, [(0, 0), (1, 1)])
TWO = measured(3, [(0, 0), (1, 1), (2, 2)], ClassicalRegister(2, "a"), ClassicalRegister(1, "b"))


@pytest.mark.parametrize(
    ("circuit", "said", "counts"),
    [
        (WHOLE, {"0x2": 10}, {"10": 10}),
        (WHOLE, {"10": 7, "00": 3}, {"10": 7, "00": 3}),
        (WHOLE, {"10": 10, "01": 0}, {"10": 10}),
        (PARTIAL, {"1010": 10}, {"1010": 10}),
        (PARTIAL, {"10": 10}, {"1000": 10}),  # the bits that nothing measures are dropped
        (PARTIAL, {"01": 10}, {"0010": 10}),
        (TWO, {"1 01": 10}, {"1 01": 10}),
        (TWO, {"101": 10}, {"1 01": 10}),
        (TWO, {"0x5": 10}, {"1 01": 10}),
    ],
)
def test_every_form_of_keys_becomes_qiskits(circuit, said, counts):
    data = normal(answered(said), [circuit], shots=10, memory=False)
    assert Result.from_dict(data).get_counts() == counts


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (answered({"0x2": 9}), "answered 9 shots instead of 10"),
        (answered({}), "answered 0 shots instead of 10"),
        (answered({"0x4": 10}), "has no 2 bits: '0x4'"),
        (answered({"111": 10}), "has no 2 bits: '111'"),
        (answered({"a token": 10}), "has no 2 bits: 'a token'"),
        (answered({"10": 12, "01": -2}), "answered a negative count"),
        (answered({"10": 10}, success=False), "did not run it"),
        (answered({"10": 10}, ["10"] * 9 + ["01"]), "contradict"),
        (answered({"10": 10}), "does not give the memory"),
        (SimpleNamespace(results=[]), "answered 0 of 1 circuits"),
    ],
)
def test_an_answer_that_cannot_be_right_is_refused(said, reason):
    memory = "memory" in reason or "contradict" in reason
    with pytest.raises(Refused, match=reason):
        normal(said, [WHOLE], shots=10, memory=memory)


def test_memory_keeps_the_order_of_the_shots():
    said = answered({"10": 1, "01": 2}, ["01", "10", "0x1"])
    result = Result.from_dict(normal(said, [WHOLE], shots=3, memory=True))
    assert result.get_memory() == ["01", "10", "01"]
    assert result.get_counts() == {"01": 2, "10": 1}


def test_registers_that_reorder_bits_are_cut_in_their_order():
    """With memory, bits stand as in the circuit: samplers look them up there."""
    bits = [Clbit() for _ in range(3)]
    late, early = (
        ClassicalRegister(bits=bits[1:], name="a"),
        ClassicalRegister(bits=bits[:1], name="b"),
    )
    circuit = QuantumCircuit(QuantumRegister(3), bits)
    circuit.add_register(late, early)
    circuit.measure([0, 1, 2], [0, 1, 2])
    data = normal(answered({"0x1": 10}), [circuit], shots=10, memory=False)
    assert Result.from_dict(data).get_counts() == {"1 00": 10}
    data = normal(answered({"0x1": 1}, ["0x1"]), [circuit], shots=1, memory=True)
    assert Result.from_dict(data).get_memory() == ["001"]


def test_registers_that_share_bits_are_not_cut():
    shared = ClassicalRegister(2, "a")
    circuit = measured(3, [(0, 0), (1, 1)], shared, ClassicalRegister(bits=list(shared), name="b"))
    data = normal(answered({"01": 10}), [circuit], shots=10, memory=False)
    assert Result.from_dict(data).get_counts() == {"01": 10}


def test_a_sampler_stands_behind_run():
    circuit = QuantumCircuit(
        QuantumRegister(3), ClassicalRegister(2, "a"), ClassicalRegister(1, "b")
    )
    circuit.x([0, 2])
    circuit.measure([0, 1, 2], [0, 1, 2])
    found = StatevectorSampler().run([(circuit, None, 5)]).result()
    result = Result.from_dict(of_sampler(found, [circuit], shots=5, memory=True))
    assert result.get_counts() == {"1 01": 5}
    assert result.get_memory() == ["1 01"] * 5


def test_a_sampler_that_loses_shots_is_refused():
    circuit = QuantumCircuit(1, 1)
    circuit.measure(0, 0)
    found = StatevectorSampler().run([(circuit, None, 5)]).result()
    with pytest.raises(Refused, match="answered 5 shots instead of 6"):
        of_sampler(found, [circuit], shots=6, memory=False)


def test_metadata_of_a_providers_own_kinds_becomes_plain():
    circuit = QuantumCircuit(1, 1)
    circuit.measure(0, 0)
    found = StatevectorSampler().run([(circuit, None, 5)]).result()
    chunks = SimpleNamespace(model_dump=lambda: {"chunks": [1, object()]})
    told = PrimitiveResult(list(found), metadata={"executor": chunks, 3: (0.5, None)})
    result = codec.from_data(codec.to_data(with_plain_metadata(told)), trusted=True)
    assert result.metadata == {"executor": {"chunks": [1, "<object>"]}, "3": [0.5, None]}
    assert result[0].data.c.get_counts() == {"0": 5}
