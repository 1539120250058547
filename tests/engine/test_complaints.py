"""What users of runtime programs and of qiskit-serverless complained about, and is not so here.

Each test is named after a complaint: of inputs, results, messages, jobs, logs, metrics, backends.
"""

from __future__ import annotations

import textwrap
import threading

import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.quantum_info import SparsePauliOp

from runner import InputsError, JobFailedError, Supervisor

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
def keeping(tmp_path_factory):
    """A supervisor that keeps its jobs, for what does not depend on how messages are carried."""
    with Supervisor(store=tmp_path_factory.mktemp("store")) as running:
        yield running


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


def test_complaint_interim_results_and_logs_are_gone_when_the_client_is(program, tmp_path):
    path = program("def main(b, m):\n    print('said')\n    m.publish([1])\n    return {2: 'x'}\n")
    with Supervisor(store=tmp_path) as supervisor:
        job = supervisor.run(path, backend="none")
        job.wait(60)
    with Supervisor(store=tmp_path) as another:
        found = another.job(job.id)
        assert (found.interim_results(), found.result()) == ([[1]], {2: "x"})
        assert (found.logs(), found.metrics()) == ("said\n", job.metrics())
        seen, ended = [], threading.Event()
        found.stream_results(lambda *each: seen.append(each), lambda *_: ended.set())
        assert ended.wait(10)
        assert seen == [(job.id, [1])]


def test_complaint_result_hangs(keeping, program):
    path = program("import time\ndef main(b, m):\n    m.publish(1)\n    time.sleep(60)\n")
    job = keeping.run(path, backend="none")
    with pytest.raises(TimeoutError, match="it goes on"):
        job.result(timeout=0.01)
    ended = []
    waiting = threading.Thread(target=lambda: ended.append(job.wait(60).outcome))
    waiting.start()
    assert next(job.messages()) == 1
    job.cancel()
    waiting.join(20)
    assert ended == ["cancelled"]
    with pytest.raises(JobFailedError):
        job.result()


def test_complaint_the_error_message_is_the_whole_log(keeping, program):
    path = program(
        """
        import logging
        def main(backend, user_messenger):
            print("noise\\n" * 1000)
            try:
                raise KeyError("caught")
            except KeyError:
                logging.exception("an earlier one")
            values = []
            return values[3]
        """
    )
    job = keeping.run(path, backend="none")
    job.wait_for_final_state(60)
    message = job.error_message()
    assert message.startswith("Traceback (most recent call last)")
    assert message.rstrip().endswith("IndexError: list index out of range")
    assert (message.count("Traceback"), message.count("noise")) == (1, 0)
    assert f'File "{path}", line ' in message
    assert job.logs().count("noise") == 1000
    assert "KeyError: 'caught'" in job.logs()


def test_complaint_logs_only_at_the_end(keeping, program):
    path = program(
        """
        import time
        def main(backend, user_messenger):
            print("so far so good")
            time.sleep(60)
        """
    )
    job = keeping.run(path, backend="none")
    assert next(job.live_logs()) == "so far so good\n"
    assert job.running()
    assert job.logs() == "so far so good\n"
    job.cancel()
    assert job.wait(20).outcome == "cancelled"
    assert job.logs() == "so far so good\n"


def test_complaint_the_log_level_cannot_be_chosen(keeping, program):
    path = program(
        """
        import logging
        def main(backend, user_messenger):
            logging.getLogger("mine").info("details")
            logging.getLogger("mine").warning("news")
        """
    )
    quiet = keeping.run(path, backend="none")
    wordy = keeping.run(path, backend="none", options={"log_level": "INFO"})
    quiet.wait(60), wordy.wait(60)
    assert ("details" in quiet.logs(), "news" in quiet.logs()) == (False, True)
    assert "details" in wordy.logs()


def test_complaint_the_reason_is_not_machine_readable_and_has_no_numbers(keeping, program):
    slow = program("import time\ndef main(b, m):\n    time.sleep(60)\n", "slow.py")
    large = program("def main(b, m):\n    x = b'x' * (1 << 30)\n    return len(x)\n", "large.py")
    jobs = [
        keeping.run(slow, backend="none", limits={"timeout_s": 0.5}),
        keeping.run(large, backend="none", limits={"memory_bytes": 200 << 20}),
    ]
    ends = [(each.wait(60).outcome, each.evidence) for each in jobs]
    assert [(outcome, evidence.limit, evidence.value) for outcome, evidence in ends] == [
        ("time_limit", "timeout_s", 0.5),
        ("memory_limit", "memory_bytes", 200 << 20),
    ]
    assert all(evidence.observed and evidence.source for _, evidence in ends)
    assert jobs[0].error_message().startswith("timeout_s 0.5, ")
    assert jobs[1].metrics()["usage"]["memory_peak_bytes"] > 100 << 20


def test_complaint_out_of_memory_comes_without_numbers(keeping, program):
    path = program(
        """
        from qiskit import QuantumCircuit
        from qiskit_aer import AerSimulator
        def main(backend, user_messenger):
            for method, qubits in (("statevector", 26), ("density_matrix", 13), ("superop", 7)):
                circuit = QuantumCircuit(qubits)
                circuit.ry(0.1, range(qubits))
                circuit.cx(0, qubits - 1)
                circuit.save_state()
                # Superoperators Aer forgets to measure, so only those of the backend are.
                for simulator in (backend, AerSimulator())[: 1 if method == "superop" else 2]:
                    try:
                        simulator.run(circuit, method=method).result().data()
                    except Exception as error:
                        user_messenger.publish([method, str(error)])
            return backend.run(circuit, method="superop").result().data()
        """
    )
    job = keeping.run(path, limits={"memory_bytes": 512 << 20})
    assert (job.wait(60).outcome, job.usage.oom_kills or 0) == ("program_error", 0)
    assert "Required memory: 4096M, max memory: 460M" in job.error_message()
    methods, texts = zip(*job.messages(), strict=True)
    assert methods == ("statevector", "statevector", "density_matrix", "density_matrix", "superop")
    assert all("max memory: 460M" in text for text in texts)


def test_complaint_another_version_of_qiskit_runs_it_and_nobody_says_which(keeping, program):
    path = program("import qiskit\ndef main(b, m):\n    return qiskit.__version__\n")
    job = keeping.run(path, backend="none")
    assert job.result(60) == job.metrics()["qiskit_version"]
    assert job.image.startswith("sha256:")
    assert set(job.metrics()["timestamps"]) == {"created", "running", "finished"}
    assert None not in job.metrics()["timestamps"].values()


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
