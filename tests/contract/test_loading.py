"""What a program finds: its own modules, a clean interpreter, and its inputs."""

import json
import subprocess
import sys

import pytest

from sandbox import codec
from sandbox.stack import warmup
from sandbox.wire import options
from tests.contract.guest import ROOT, run


def test_modules_beside_the_program_win_over_ours(carrier):
    # The last is the standard library's, and a guest that is not warm has not imported it.
    names = ("protocol", "sandbox", "codec", "messenger", "job", "resource")
    files = {f"{name}.py": f"name = 'own {name}'" for name in names}
    source = f"""
        import sys
        import {", ".join(names)}
        def main(backend, user_messenger):
            import sandbox as late
            user_messenger.publish(late.name)
            return [each.name for each in ({", ".join(names)})]
    """
    report = run(source, carrier=carrier, files=files)
    assert json.loads(report.value) == [f"own {name}" for name in names]


def test_a_program_s_package_of_our_name_is_its_own_with_all_below_it():
    rooms = sorted(each.name for each in (ROOT / "sandbox").iterdir() if each.is_dir())
    rooms.remove("__pycache__")
    assert sorted(f"sandbox.{each}" for each in rooms) == sorted(warmup.PACKAGES[1:])
    files = {"sandbox/__init__.py": ""}
    files |= {f"sandbox/{each}/__init__.py": "name = __name__" for each in rooms}
    source = f"""
        from sandbox import {", ".join(rooms)}
        def main(backend, user_messenger):
            return [each.name for each in ({", ".join(rooms)})]
    """
    report = run(source, files=files)
    assert json.loads(report.value) == [f"sandbox.{each}" for each in rooms]


def test_the_interpreter_looks_as_if_the_program_came_first(carrier):
    source = """
        import os, sys
        def main(backend, user_messenger):
            return {
                "name": __name__,
                "file": __file__,
                "registered": sys.modules[__name__].main is main,
                "first": sys.path[0] == os.path.dirname(__file__),
                "argv": sys.argv == [__file__],
                "ours": [name for name in sys.modules if name.split(".")[0] == "sandbox"],
                "main": vars(sys.modules["__main__"]).get("__file__"),
                "pythonpath": os.environ.get("PYTHONPATH"),
                "path": sys.path,
            }
    """
    seen = json.loads(run(source, carrier=carrier).value)
    assert seen["name"] == "program"
    assert seen["file"].endswith("/program.py")
    assert seen["registered"]
    assert seen["first"]
    assert seen["argv"]
    assert seen["ours"] == []
    assert seen["main"] is None
    assert seen["pythonpath"] is None
    assert str(ROOT) not in seen["path"]


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_multiprocessing_runs_the_programs_functions_only(carrier, method):
    source = f"""
        import multiprocessing
        def square(x):
            return x * x
        def main(backend, user_messenger):
            with multiprocessing.get_context({method!r}).Pool(1) as pool:
                return pool.map(square, range(4))
    """
    report = run(source, carrier=carrier)
    assert report.value == "[0,1,4,9]"
    assert report.log == ""


def test_a_main_that_is_any_callable(carrier):
    source = """
        import functools
        class Main:
            def __call__(self, backend, user_messenger, x):
                return x
        main = functools.partial(Main(), x=3)
    """
    assert run(source, carrier=carrier).value == "3"


def test_inputs_with_names_that_are_not_identifiers(carrier):
    source = "def main(backend, user_messenger, **kwargs): return kwargs"
    inputs = {"a b": 1, "class": 2, "": 3}
    assert json.loads(run(source, carrier=carrier, inputs=inputs).value) == inputs


def test_large_inputs(carrier):
    source = "def main(backend, user_messenger, text): return len(text)"
    size = 20_000_000
    assert run(source, carrier=carrier, inputs={"text": "x" * size}).value == str(size)


HEAVY = """
    argparse asyncio concurrent decimal email http multiprocessing numpy pathlib qiskit subprocess
    tempfile urllib uuid
"""


def test_the_first_process_imports_little():
    code = (
        "import sys; before = set(sys.modules)\n"
        "from sandbox.processes import init; from sandbox.wire import options\n"
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    command = [sys.executable, "-P", "-s", "-c", code]
    output = subprocess.check_output(command, env={"PYTHONPATH": str(ROOT)}, text=True)
    assert not set(HEAVY.split()) & set(output.split())


@pytest.mark.parametrize(
    "arguments", [["--carrier", "pigeon"], ["--socket"], ["--help"], ["program.py"]]
)
def test_bad_arguments_are_named(arguments):
    with pytest.raises(SystemExit, match="sandbox: "):
        options.parse(arguments)


def test_an_entry_in_a_subdirectory_finds_what_is_beside_it_and_above_it():
    files = {
        "src/solver.py": (
            "import beside, above\n"
            "def main(backend, user_messenger):\n"
            "    return [__name__, beside.x, above.x]\n"
        ),
        "src/beside.py": "x = 1",
        "above.py": "x = 2",
    }
    report = run("", files=files, entry="src/solver.py", backend={"name": "none"})
    assert json.loads(report.value) == ["solver", 1, 2]


def test_what_programs_import_of_ibms_client_is_there_and_no_more():
    source = """
        import json
        import numpy as np
        from qiskit_ibm_runtime import RuntimeDecoder
        from qiskit_ibm_runtime.program import ProgramBackend, ResultDecoder, UserMessenger
        from qiskit.providers.ibmq.runtime import UserMessenger as Older
        from qiskit.providers.ibmq.runtime.utils import RuntimeEncoder
        from qiskit_ibm_runtime.program.user_messenger import UserMessenger as Longer

        class Encoder(RuntimeEncoder):
            def default(self, o):
                return sorted(o) if isinstance(o, set) else super().default(o)

        def main(backend: ProgramBackend, user_messenger: UserMessenger):
            UserMessenger().publish({"tried": 1})
            user_messenger.publish({"z": 1j, "array": np.arange(2)}, encoder=RuntimeEncoder)
            user_messenger.publish({"set": {2, 1}, "z": 1j}, encoder=Encoder)
            text = json.dumps({"array": np.arange(2)}, cls=RuntimeEncoder)
            try:
                from qiskit_ibm_runtime import QiskitRuntimeService
            except ImportError as error:
                said = str(error)
            return {
                "isinstance": isinstance(user_messenger, UserMessenger),
                "one": UserMessenger is Older is Longer,
                "back": json.loads(text, cls=RuntimeDecoder)["array"].tolist(),
                "decoded": [ResultDecoder.decode(each) for each in ("[1]", "All done!")],
                "said": said,
            }
    """
    report = run(source, backend={"name": "aer_simulator"})
    value = json.loads(report.value)
    assert value["isinstance"]
    assert value["one"]
    assert (value["back"], value["decoded"]) == ([0, 1], [[1], "All done!"])
    assert (
        "no 'QiskitRuntimeService' in the sandbox: IBM's client is not installed" in value["said"]
    )
    whole, changed = (codec.decode(each.body, trusted=True) for each in report.messages)
    assert (whole["z"], whole["array"].tolist()) == (1j, [0, 1])
    assert changed == {"set": [1, 2], "z": 1j}
    assert '{"tried":1}' in report.log.replace(" ", "")


def test_a_package_of_ibms_that_is_there_comes_first():
    files = {"qiskit_ibm_runtime/__init__.py": "name = 'own'"}
    source = """
        import qiskit_ibm_runtime
        def main(backend, user_messenger):
            return qiskit_ibm_runtime.name
    """
    assert json.loads(run(source, files=files).value) == "own"
