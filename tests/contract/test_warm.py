"""A warmed-up guest: nothing that a program can see tells it from a cold one."""

import json

import pytest

from tests.contract.guest import Guest

WARM = (
    "--warm",
    "--import",
    "numpy,scipy.optimize,qiskit.circuit.library,no_such_module,json.tool",
)
ONE_THREAD = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"), "1"),
    "QISKIT_IN_PARALLEL": "TRUE",
}
"""As the host sets them in a sandbox."""

LOOK = """
import gc, hashlib, locale, logging, os, random, signal, sys, tempfile, threading, warnings
import numpy, qiskit.circuit.library, scipy.optimize
from qiskit_aer.jobs.utils import DEFAULT_EXECUTOR

def digest(value):
    return hashlib.sha256(repr(value).encode()).hexdigest()

def links(directory):
    found = []
    for name in sorted(os.listdir(directory), key=int):
        try:
            target = os.readlink(f"{directory}/{name}")
        except OSError:
            continue
        found.append([int(name), target.partition(":")[0].replace(os.path.dirname(__file__), "")])
    return found

def look(backend, messenger):
    return {
        "threads": [threading.active_count(), [each.name for each in threading.enumerate()]],
        "tasks": len(os.listdir("/proc/self/task")),
        "next thread": threading.Thread().name,
        "descriptors": links("/proc/self/fd"),
        "environment": dict(os.environ),
        "path": [each.replace(os.path.dirname(__file__), "") for each in sys.path],
        "directory": os.getcwd(),
        "handlers": [[int(each), repr(signal.getsignal(each))] for each in signal.valid_signals()],
        "mask": sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, []))),
        "alarm": signal.getitimer(signal.ITIMER_REAL),
        "root": [repr(logging.root.handlers), logging.root.level, logging.root.manager.disable],
        "levels": sorted(
            [name, each.level, len(each.handlers), each.propagate]
            for name, each in logging.root.manager.loggerDict.items()
            if isinstance(each, logging.Logger) and name.startswith(("qiskit", "numpy", "scipy"))
            and (each.level or each.handlers)
        ),
        "warnings": [str(each) for each in warnings.filters],
        "once": [len(warnings.onceregistry), warnings.showwarning.__module__],
        "recursion": sys.getrecursionlimit(),
        "switch": sys.getswitchinterval(),
        "collector": [gc.isenabled(), gc.get_threshold(), gc.get_freeze_count()],
        "hooks": [sys.excepthook is sys.__excepthook__, len(sys.meta_path), len(sys.path_hooks)],
        "streams": [sys.stdout.encoding, sys.stdout.line_buffering, sys.stderr.errors],
        "temporary": [tempfile.tempdir, tempfile.template],
        "locale": locale.setlocale(locale.LC_ALL),
        "print options": str(numpy.get_printoptions()),
        "errors": str(numpy.geterr()),
        "limits": [__import__("resource").getrlimit(each) for each in range(10)],
        "umask": [os.umask(0o22), os.getpriority(os.PRIO_PROCESS, 0)],
        "argv": [os.path.basename(each) for each in sys.argv],
        "random": [digest(random.getstate()), digest(numpy.random.get_state()), hash("text")],
        "executor": [type(DEFAULT_EXECUTOR).__name__, len(DEFAULT_EXECUTOR._threads)],
        "backend": [type(backend).__name__, str(sorted(backend.options.__dict__.items()))],
    }

def main(backend, user_messenger):
    return look(backend, user_messenger)
"""


def run(source, *, arguments, files=None, backend="aer_simulator", **request):
    """Run a program in the environment of a sandbox."""
    with Guest(source, arguments=arguments, files=files, environment=ONE_THREAD) as guest:
        guest.listen()
        guest.send(backend={"name": backend}, **request)
        return guest.report()


@pytest.fixture(scope="module")
def looks():
    """What programs see: a cold one, and two warm ones."""
    return [json.loads(run(LOOK, arguments=each).value) for each in ((), WARM, WARM)]


def test_a_program_sees_no_difference(looks):
    cold, warm, _ = looks
    different = {key: (cold[key], value) for key, value in warm.items() if value != cold[key]}
    # One native thread more: Qiskit's linear algebra has it as soon as anything is transpiled.
    assert different.pop("tasks", (1, 2)) == (1, 2)
    assert set(different) <= {"random"}, different


def test_no_two_share_random_state_or_hash_seed(looks):
    kinds = zip(*(each["random"] for each in looks), strict=True)
    assert all(len(set(each)) == len(each) for each in kinds)


def test_a_module_of_the_programs_own_wins_over_one_that_was_imported_early():
    files = {"optimize.py": "name = 'own'", "scipy.py": "name = 'own scipy'"}
    source = """
        import optimize, sys
        def main(backend, user_messenger):
            import scipy
            return [optimize.name, getattr(scipy, "name", "the stack's")]
    """
    names = ("--warm", "--import", "scipy.optimize,optimize")
    cold, warm = (
        json.loads(run(source, arguments=each, files=files).value) for each in ((), names)
    )
    assert cold == warm


def test_nothing_of_the_program_or_beyond_the_stack_is_imported_early():
    source = """
        def main(backend, user_messenger):
            import helper
            return True
    """
    files = {"helper.py": "print('imported')"}
    report = run(source, arguments=("--warm", "--import", "helper,this"), files=files)
    assert report.value == "true"
    assert report.log == "imported\n"


def test_a_transpile_looks_nothing_up_that_a_warm_one_has_looked_up():
    source = """
        import importlib.metadata, inspect, qiskit
        asked = []

        def counted(kind, name):
            function = getattr(kind, name)
            def count(*arguments, **options):
                asked.append(name)
                return function(*arguments, **options)
            setattr(kind, name, count)

        def main(backend, user_messenger):
            circuit = qiskit.QuantumCircuit(2)
            circuit.h(0)
            circuit.cx(0, 1)
            before = qiskit.transpile(circuit, backend, seed_transpiler=1)
            counted(importlib.metadata.EntryPoint, "load")
            counted(inspect, "_signature_from_function")
            after = qiskit.transpile(circuit, backend, seed_transpiler=1)
            assert after == before
            return [asked.count("load"), asked.count("_signature_from_function")]
    """
    cold, warm = (json.loads(run(source, arguments=each).value) for each in ((), WARM))
    assert min(cold) > 30, "Qiskit looks elsewhere now: is sandbox/stack/lookups.py of use?"
    assert warm == [0, 0], "Qiskit looks elsewhere now: stack/lookups.py leaves answers in vain"


@pytest.mark.parametrize("arguments", [(), WARM])
def test_plugins_of_the_programs_own_are_found(arguments):
    entry = "[qiskit.transpiler.routing]\nown = own_plugin:Own\n"
    plugin = """
from qiskit.transpiler.preset_passmanagers.plugin import PassManagerStagePlugin

class Own(PassManagerStagePlugin):
    def pass_manager(self, pass_manager_config, optimization_level=None):
        raise KeyError("called")
"""
    source = """
        import qiskit
        def main(backend, user_messenger):
            try:
                qiskit.transpile(qiskit.QuantumCircuit(2), backend, routing_method="own")
            except KeyError as error:
                return str(error)
    """
    files = {"own-1.0.dist-info/entry_points.txt": entry, "own_plugin.py": plugin}
    assert run(source, arguments=arguments, files=files).value == "\"'called'\""


def test_a_fork_after_the_warm_up_can_transpile():
    source = """
        import os, qiskit, time
        def main(backend, user_messenger):
            circuit = qiskit.QuantumCircuit(2)
            circuit.h(0)
            child = os.fork()
            if child == 0:
                qiskit.transpile([circuit] * 3, backend)
                os._exit(7)
            for _ in range(300):
                done, status = os.waitpid(child, os.WNOHANG)
                if done:
                    return os.waitstatus_to_exitcode(status)
                time.sleep(0.05)
            os.kill(child, 9)
            return "it hangs"
    """
    report = run(source, arguments=WARM)
    assert report.value == "7"


@pytest.mark.parametrize("arguments", [(), WARM])
def test_the_mark_stands_behind_all_that_was_printed(arguments):
    source = """
        import os, sys
        def main(backend, user_messenger):
            print("one")
            os.write(2, b"two")
            sys.stdout.write("three")
            os.close(2)
    """
    report = run(source, arguments=arguments, log_end="<end>\n")
    assert report.log == "one\ntwothree<end>\n" or report.log == "one\ntwo<end>\n"
