"""What users of runtime programs and of qiskit-serverless complained about, and is not so here.

Each test is named after a complaint that concerns inputs, results or messages.
"""

from __future__ import annotations

import textwrap

import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.quantum_info import SparsePauliOp

from runner import InputsError

pytestmark = pytest.mark.engine

COUNT = 50
TALKATIVE = f"""
def main(backend, user_messenger):
    print("hello")
    for number in range({COUNT}):
        user_messenger.publish({{"iteration": number}})
    return "All done!"
"""
EXPECTED = [{"iteration": number} for number in range(COUNT)]


@pytest.fixture(scope="module")
def talkative(supervisor, tmp_path_factory):
    """A finished job, what its callback saw, and what was read while it ran."""
    path = tmp_path_factory.mktemp("talkative") / "talkative.py"
    path.write_text(textwrap.dedent(TALKATIVE))
    seen: list = []

    def callback(job_id, message):
        seen.append((job_id, message))
        if message == EXPECTED[3]:
            raise RuntimeError("a mistake of the user's")

    job = supervisor.run(path, callback=callback, on_final=lambda *final: seen.append(final))
    live = list(job.messages())
    result = job.result(60)
    *interim, final = seen
    return job, interim, live, (result, final)


def test_complaint_interim_results_do_not_arrive_or_some_are_missing(talkative):
    job, seen, live, _ = talkative
    assert live == EXPECTED
    assert [message for _, message in seen] == EXPECTED
    assert {job_id for job_id, _ in seen} == {job.id}


def test_complaint_every_interim_result_arrives_twice_newest_first_and_hello_too(talkative):
    _, seen, live, _ = talkative
    assert len(live) == len(seen) == COUNT
    numbers = [message["iteration"] for message in live]
    assert numbers == sorted(numbers)


def test_complaint_the_callback_cannot_tell_interim_from_final(talkative):
    job, seen, _, (result, final) = talkative
    assert result == "All done!"
    assert final == (job.id, result)
    assert result not in [message for _, message in seen]


def test_complaint_an_exception_in_the_callback_ends_the_stream(talkative):
    job, seen, _, _ = talkative
    assert job.outcome == "completed"
    assert seen[-1] == (job.id, EXPECTED[-1])


def test_complaint_interim_results_are_not_kept(talkative):
    job, *_ = talkative
    assert list(job.messages()) == EXPECTED
    assert list(job.messages(start=COUNT - 2)) == EXPECTED[-2:]


def test_complaint_results_come_back_as_text_or_text_as_something_else(supervisor, program):
    path = program("def main(backend, user_messenger, given):\n    return given\n")
    given = {
        "number": "5",
        "json": '{"a": 1}',
        "null": "null",
        "dict": {"a": 1, 2: (3,)},
        "none": None,
        "tagged": {"__type__": "set", "__value__": [1]},
    }
    result = supervisor.run(path, {"given": given}).result(60)
    assert result == given
    assert type(result["dict"][2]) is tuple


def test_complaint_results_are_not_serialisable_and_nobody_says_where(supervisor, program):
    source = "def main(b, m):\n    return {'steps': [1, {'grad': lambda x: x}]}\n"
    record = supervisor.run(program(source)).wait(60)
    assert record.outcome == "result_error"
    assert "result['steps'][1]['grad']: cannot carry a function" in record.error


def test_complaint_size_limits_are_obscure(supervisor, program):
    path = program("def main(b, m, size):\n    return 'x' * size\n")
    record = supervisor.run(path, {"size": 5000}, limits={"result_bytes": 1000}).wait(60)
    assert (record.outcome, record.evidence.limit) == ("result_limit", "result_bytes")
    assert (record.evidence.value, record.evidence.observed) == (1000, 5002)
    with pytest.raises(InputsError, match=r"bytes, the limit is 1000"):
        supervisor.run(path, {"size": "x" * 2000}, limits={"inputs_bytes": 1000})


def test_complaint_bad_inputs_are_found_only_after_queue_and_start(supervisor, program):
    with pytest.raises(InputsError, match="unknown input 'shotz'.*missing input 'shots'"):
        supervisor.run(program("def main(b, m, shots): ...\n"), {"shotz": 1})
    with pytest.raises(InputsError, match="iterations"):
        supervisor.run("random_circuits", {"iterations": "many"})
    with pytest.raises(InputsError, match=r"inputs\['model'\]: cannot carry a function"):
        supervisor.run(program("def main(b, m, model): ...\n"), {"model": lambda: 1})


def test_complaint_it_ran_too_long_and_nothing_was_saved(supervisor, program):
    path = program(
        """
        import time
        def main(backend, user_messenger):
            user_messenger.publish({"parameters": [0.5]})
            time.sleep(60)
        """
    )
    job = supervisor.run(path, limits={"timeout_s": 2})
    assert job.wait(60).outcome == "time_limit"
    assert list(job.messages()) == [{"parameters": [0.5]}]


def test_a_circuit_an_operator_and_an_array_go_in_and_come_back_equal(supervisor, program):
    path = program(
        """
        def main(backend, user_messenger, circuit, operator, array):
            assert circuit.num_qubits == operator.num_qubits == 2
            user_messenger.publish(operator)
            result = {"circuit": circuit, "operator": operator, "array": array}
            return {**result, "trace": array.trace()}
        """
    )
    circuit = QuantumCircuit(2, metadata={"shape": (1, 2)})
    circuit.h(0)
    circuit.cx(0, 1)
    operator = SparsePauliOp(["XX", "ZI"], [0.5, 2j])
    array = np.asfortranarray(np.arange(6, dtype=">i2").reshape(2, 3))
    inputs = {"circuit": circuit, "operator": operator, "array": array}
    job = supervisor.run(path, inputs)
    result = job.result(60)
    assert result["circuit"].decode() == circuit
    assert result["circuit"].decode().metadata == circuit.metadata
    assert result["operator"].decode() == operator
    assert [message.decode() for message in job.messages()] == [operator]
    found = result["array"]
    assert (found.dtype, found.shape, found.flags.f_contiguous) == (array.dtype, (2, 3), True)
    assert np.array_equal(found, array)
    assert result["trace"] == array.trace()
