"""What a session's parent does before it forks a job, once for all, and what it leaves out."""

import json
import signal
import subprocess
import sys
import time

import numpy

from sandbox import codec
from sandbox.wire import protocol
from tests.contract.guest import ANYTHING, ROOT, Session, kill, run

FORKS = """
import os, threading
from sandbox.processes import session
os.register_at_fork(after_in_child=lambda: os.write(1, b"hooks "))
def fork():
    child = session.fork()
    if child == 0:
        os.write(1, b"child ")
        os._exit(0)
    os.waitpid(child, 0)
fork()
ends = threading.Event()
threading.Thread(target=ends.wait).start()
fork()
ends.set()
"""


def test_a_fork_has_the_hooks_of_python_only_where_another_thread_could_hold_a_lock():
    command = [sys.executable, "-c", FORKS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True, cwd=ROOT)
    assert done.stdout == "child hooks child "


def test_what_would_be_done_in_each_fork_is_known_and_needs_another_thread_or_is_done(session):
    code = """
import gc, threading
gc.unfreeze()
known = threading._after_fork
lists = [each for each in gc.get_objects() if type(each) is list]
(hooks,) = [each for each in lists if each is not lists and any(hook is known for hook in each)]
value = [getattr(hook, "__qualname__", None) or type(hook).__name__ for hook in hooks]
"""
    assert set(session.do(code)) <= {
        "_after_fork",  # threading: forgets the other threads
        "_after_at_fork_child_reinit_locks",  # logging
        "lock._at_fork_reinit",  # concurrent.futures
        "_reset_executor_in_child",  # Aer: an executor whose thread is not there any more
        "Random.seed",  # done by the parent
        "on_fork",  # asyncio from Python 3.12 on: forgets the loop that runs
        "MutableMapping.clear",  # concurrent.futures from Python 3.14 on: forgets its threads
    }


NOISY = {"name": "aer_simulator", "options": {"noise": {"depolarizing": {"x": 0.3}}}}
USE_BACKEND = """
from qiskit import QuantumCircuit
circuit = QuantumCircuit(2, 2)
circuit.x(0); circuit.measure([0, 1], [0, 1])
counts = backend.run(circuit, shots=200, seed_simulator=7).result().get_counts()
value = [counts, backend.options.max_memory_mb, backend.options.shots]
backend.set_options(shots=1, noise_model=None)
"""


def test_a_backend_that_was_built_before_is_what_each_job_would_build(tmp_path):
    limits = {"memory_bytes": 1 << 30, "cpus": 1}
    asked = {"backend": NOISY, "limits": limits}
    single = run(ANYTHING, carrier="stdio", inputs={"code": USE_BACKEND}, **asked)
    with Session("stdio", tmp_path, arguments=("--backend", json.dumps(asked))) as session:
        for _ in range(2):  # what one does to it the next does not see
            session.start(USE_BACKEND, request=asked)
            assert session.end()[1].value == single.last[0].value
        session.start("value = repr(backend)", request=asked)
        first = session.end()[1].value
        session.start("value = repr(backend)", request=asked)
        assert session.end()[1].value == first
        session.start(USE_BACKEND, request={**asked, "limits": {"memory_bytes": 1 << 29}})
        assert json.loads(session.end()[1].value)[1] == 460
        session.start("value = backend", request={"backend": {"name": "none"}})
        assert session.end()[1].value == "null"


def test_what_cannot_be_built_before_fails_in_the_job(tmp_path):
    asked = {"backend": {"name": "aer_simulator", "options": {"no": 1}}, "limits": {}}
    with Session("stdio", tmp_path, arguments=("--backend", json.dumps(asked))) as session:
        session.start("value = 1", request=asked)
        assert session.end()[1].kind == "invalid_inputs"


DRAWN = {"name": "generic_backend_v2", "options": {"num_qubits": 3}}


def test_what_the_parent_has_hidden_of_ours_still_builds_a_backend_that_is_drawn(tmp_path):
    asked = {"backend": DRAWN, "limits": {}}
    code = "import sys; value = [backend.num_qubits, *(x for x in sys.modules if 'sandbox' in x)]"
    with Session("stdio", tmp_path, arguments=("--backend", json.dumps(asked))) as session:
        for _ in range(2):
            session.start(code, request=asked)
            assert json.loads(session.end()[1].value) == [3]


def test_a_program_may_have_modules_with_our_names_and_with_those_of_the_parent(tmp_path):
    files = {"sandbox.py": "mine = 1", "protocol.py": "mine = 2", "numpy.py": "mine = 3"}
    code = "import numpy, protocol, sandbox; value = [sandbox.mine, protocol.mine, numpy.mine]"
    none = json.dumps({"backend": {"name": "none"}, "limits": {}})
    arguments = ("--backend", none, "--import", "numpy")
    with Session("stdio", tmp_path, arguments=arguments, files=files) as session:
        array = codec.to_data(numpy.arange(3))  # only the stack's own can decode it
        assert session.do(code, array=array) == session.do(code) == [1, 2, 3]


def test_the_first_process_ends_a_job_at_its_deadline_and_no_session_that_rests(tmp_path):
    soon = -4.5  # with the grace of 5 s: half a second from now
    with Session("stdio", tmp_path) as session:
        session.start("value = 1", wall_s=soon)
        session.end()
        session.stop()  # too late: nothing runs, and nothing else may come of it
        time.sleep(1)
        assert session.do("value = 2") == 2
        code = "import os, time; messenger.publish(os.getpid()); time.sleep(60)"
        session.start(code, wall_s=soon)
        job = json.loads(session.wait_for_frame(protocol.Message).body)
        try:
            assert session.process.wait(5) == 124
        finally:
            kill(job)  # in a container it would have gone with the first process


TRANSPILE = """
import os
from qiskit import QuantumCircuit, transpile
from qiskit_aer import AerSimulator
def work():
    circuit = QuantumCircuit(3); circuit.h(0); circuit.cx(0, 1); circuit.cx(0, 2)
    return transpile(circuit, simulator).size()
simulator = AerSimulator()
messenger.publish("imported")
value = work()
child = os.fork()
if child == 0:
    work(); os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


def test_jobs_transpile_and_fork_as_they_like_with_the_setting_of_the_sandbox(tmp_path):
    with Session("stdio", tmp_path, {"QISKIT_IN_PARALLEL": "TRUE"}) as session:
        assert [session.do(TRANSPILE), session.do(TRANSPILE)] == [3, 3]


def test_without_it_a_transpile_in_a_fork_hangs(tmp_path):
    environment = {"QISKIT_IN_PARALLEL": "FALSE", "RAYON_NUM_THREADS": "2"}
    with Session("stdio", tmp_path, environment) as session:
        session.start(TRANSPILE)
        session.wait_for_frame(protocol.Message)
        time.sleep(2)  # a transpile takes milliseconds
        session.stop()
        cleared, last = session.end()
        assert (cleared.status, last) == (-signal.SIGKILL, None)


def test_without_a_backend_and_without_an_import_of_it_there_is_no_qiskit(tmp_path):
    asked = {"backend": {"name": "none"}, "limits": {}}
    code = "import sys; value = 'qiskit' in sys.modules or 'numpy' in sys.modules"
    arguments = ("--backend", json.dumps(asked))
    with Session("stdio", tmp_path, arguments=arguments) as session:
        session.start(code, request=asked)
        assert session.end()[1].value == "false"
        session.do("import random, numpy; value = [random.random(), numpy.random.random()]")
    with Session("stdio", tmp_path, arguments=(*arguments, "--import", "numpy")) as session:
        code = "import random, numpy; value = [random.random(), numpy.random.random()]"
        first, second = session.do(code), session.do(code)
        assert not set(first) & set(second)
        assert session.do("import sys; value = 'qiskit' in sys.modules") is False
    with Session("stdio", tmp_path, arguments=(*arguments, "--import", "qiskit")) as session:
        assert session.do("import sys; value = 'qiskit_aer' in sys.modules") is True
