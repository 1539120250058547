"""The honest half: everything that a Qiskit program does at most, and the filter must let pass."""

import asyncio
import concurrent.futures
import multiprocessing
import os
import select
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import threading


def main(backend, user_messenger, part):
    return PARTS[part](backend)


def circuit(qubits=5):
    from qiskit import QuantumCircuit
    from qiskit.circuit.library import QFT

    made = QuantumCircuit(qubits)
    made.h(range(qubits))
    made.append(QFT(qubits).to_gate(), range(qubits))
    made.measure_all()
    return made


def count(simulator, level=1):
    from qiskit import transpile

    compiled = transpile(circuit(), simulator, optimization_level=level, seed_transpiler=1)
    return sum(simulator.run(compiled, shots=200).result().get_counts().values())


def simulate(backend):
    from qiskit_aer import AerSimulator
    from qiskit_aer.noise import NoiseModel, depolarizing_error

    noise = NoiseModel()
    noise.add_all_qubit_quantum_error(depolarizing_error(0.01, 1), ["h", "rz", "sx"])
    methods = ("statevector", "matrix_product_state", "density_matrix")
    answers = [count(AerSimulator(method=each), 3) for each in methods]
    parallel = AerSimulator(max_parallel_threads=2, max_parallel_shots=2)
    return [*answers, count(AerSimulator(noise_model=noise)), count(parallel), count(backend)]


def calculate(backend):
    import numpy as np
    import scipy.linalg
    import scipy.optimize

    matrix = np.random.default_rng(1).random((200, 200))
    scipy.linalg.svd(matrix @ matrix)
    found = scipy.optimize.minimize(lambda x: ((x - 3) ** 2).sum(), np.zeros(4), method="COBYLA")
    return bool(found.success)


def square(number):
    return number * number


def transpile_in_a_child(_):
    from qiskit_aer import AerSimulator

    return count(AerSimulator())


def fork_pool(backend):
    count(backend)  # a warm-up: threads that it left behind would hang the children
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.map(transpile_in_a_child, range(2))


def spawn_pool(backend):
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return list(pool.map(square, range(3)))


def threads(backend):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(square, range(20)))
    event = threading.Event()
    threading.Timer(0.01, event.set).start()
    return [sum(numbers), event.wait(5)]


def processes(backend):
    piped = subprocess.run("echo a | cat", shell=True, capture_output=True, text=True)
    child = subprocess.run([sys.executable, "-c", "print(6 * 7)"], capture_output=True, text=True)
    return [piped.stdout, child.stdout]


def listing(backend):
    listed = subprocess.run(["/bin/ls", "-l", "/program"], capture_output=True, text=True)
    return [listed.returncode, listed.stderr]


def loop(backend):
    async def work():
        process = await asyncio.create_subprocess_exec("/bin/echo", "hi", stdout=subprocess.PIPE)
        output, _ = await process.communicate()
        await asyncio.sleep(0.01)
        return [output.decode(), await asyncio.to_thread(square, 4)]

    return asyncio.run(work())


def files(backend):
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "a")
        with open(path, "w") as file:
            file.write("x" * 1000)
        shutil.copy2(path, path + "2")
        shutil.copytree("/program", os.path.join(directory, "tree"))
        os.chmod(path, 0o600)
        os.utime(path, (1, 1))
        os.truncate(path, 10)
        os.rename(path, path + "3")
        shutil.make_archive(os.path.join(directory, "archive"), "gztar", "/program")
        return sorted(os.listdir(directory))


def alarms(backend):
    rung = []
    signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    signal.alarm(1)
    signal.pause()
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    signal.pause()
    return len(rung)


def waits(backend):
    reader, writer = os.pipe()
    idle = select.select([reader], [], [], 0.01)
    os.write(writer, b"!")
    polls = (selectors.SelectSelector, selectors.PollSelector, selectors.EpollSelector)
    ready = []
    for kind in polls:
        with kind() as selector:
            selector.register(reader, selectors.EVENT_READ)
            ready.append(len(selector.select(5)))
    return [*map(len, idle), *ready]


PARTS = {
    each.__name__: each
    for each in (
        simulate,
        calculate,
        fork_pool,
        spawn_pool,
        threads,
        processes,
        listing,
        loop,
        files,
        alarms,
        waits,
    )
}
