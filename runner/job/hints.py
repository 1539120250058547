"""Hints: what to do about an error, in tables from the error's text to a line of advice.

The text may be a program's.  It only selects a row; what a row takes from it is a short name.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from runner.job.record import JobRecord, Outcome

_MIGRATION: Final = "docs/from-qiskit-runtime.md#what-needs-an-edit"

REMOVED: Final[Mapping[str, str]] = {
    "execute": "`backend.run(transpile(circuit, backend))`",
    "Aer": "the backend that `main` gets, or `from qiskit_aer import AerSimulator`",
    "BasicAer": "the backend that `main` gets, or `qiskit.providers.basic_provider.BasicSimulator`",
    "IBMQ": "the backend that `main` gets: there are no accounts here",
    "assemble": "`backend.run(circuits)`",
    "qiskit.providers.aer": "`qiskit_aer`",
    "qiskit.tools": "`job.result()`, which waits",
    "qiskit.opflow": "`qiskit.quantum_info.SparsePauliOp`",
    "qiskit.algorithms": "SciPy's optimisers and a primitive, as in the examples `vqe` and `qaoa`",
    "qiskit.aqua": "SciPy's optimisers and a primitive, as in the examples `vqe` and `qaoa`",
    "qiskit.ignis": "`mthree` or `qiskit_experiments` in a requirements file",
    "qiskit.pulse": "circuits only: pulses are gone from Qiskit",
    "qiskit.scheduler": "circuits only: pulses are gone from Qiskit",
    "schedule": "circuits only: pulses are gone from Qiskit",
    "qiskit.extensions": "`qiskit.circuit.library`",
    "QuantumInstance": "`BackendSamplerV2(backend=backend)` from `qiskit.primitives`",
    "Sampler": "`StatevectorSampler`, or `BackendSamplerV2(backend=backend)`",
    "Estimator": "`StatevectorEstimator`, or `BackendEstimatorV2(backend=backend)`",
    "BackendSampler": "`BackendSamplerV2(backend=backend)`",
    "BackendEstimator": "`BackendEstimatorV2(backend=backend)`",
    "bind_parameters": "`assign_parameters`",
    "c_if": "`with circuit.if_test((bits, value)):`",
    "qasm": "`qiskit.qasm2.dumps(circuit)`, `qiskit.qasm3.dumps(circuit)`",
    "cnot": "`cx`",
    "toffoli": "`ccx`",
    "fredkin": "`cswap`",
    "mct": "`mcx`",
    "u1": "`p`",
    "u2": "`u`",
    "u3": "`u`",
    "cu1": "`cp`",
    "cu3": "`cu`",
    "snapshot": "`save_statevector()`",
    "name()": "`backend.name`, without parentheses",
    "configuration": "`backend.num_qubits`, `backend.target`; of simulators and devices only",
}
"""What Qiskit had, by the name that an error shows, and what to write today."""

_DEVICES: Final = (
    "write the device as data and give it as --backend @FILE, or "
    '--backend \'{"name": "generic_backend_v2", "options": {"num_qubits": 5}}\' (docs/backends.md)'
)
_NETWORK: Final = "a sandbox has no network: give data as inputs, or as files of the program"
_WRITABLE: Final = (
    "a program writes to /tmp, which is lost with the job, and to /out, whose files are kept: "
    "`qrunner files JOB`"
)
_PACKAGED: Final = (
    "a program's files are in /program: open(Path(__file__).with_name(…)), in a directory "
    "with program.py (docs/programs.md)"
)

_BY_OUTCOME: Final = {
    Outcome.TIME_LIMIT: "more time: --timeout S; the manifest's max_execution_time may be lower",
    Outcome.MEMORY_LIMIT: "more memory: --memory SIZE, such as 4g; the manifest may say less",
    Outcome.PROCESS_LIMIT: "fewer processes and threads, or more of them in qrunner.toml",
    Outcome.OUTPUT_LIMIT: "print less, or allow more in qrunner.toml",
    Outcome.MESSAGE_LIMIT: "publish less, or allow more in qrunner.toml",
    Outcome.RESULT_LIMIT: "return less, or allow more in qrunner.toml",
    Outcome.NO_RESULT: "the process ended before main returned: os._exit, a crash, a signal",
    Outcome.SANDBOX_ERROR: "`qrunner doctor` checks if this machine can run programs",
}

_Advise = Callable[["re.Match[str]", Path], "str | None"]


def _write(match: re.Match[str], _: Path) -> str | None:
    """Return what replaces a name that Qiskit no longer has, or a module that encloses it."""
    named = match["name"]
    full = f"{match.groupdict().get('module') or ''}.{named}".lstrip(".")
    outer = list(itertools.accumulate(full.split("."), "{}.{}".format))[::-1]
    for name in (named, *outer):
        if name in REMOVED:
            return f"{named} is gone from Qiskit; write {REMOVED[name]} ({_MIGRATION})"
    return None


def _beside(match: re.Match[str], program: Path) -> str | None:
    """Return advice for a bare program whose module or file is beside it."""
    if program.suffix != ".py":
        return None
    name = Path(match["name"]).name
    for each in (name, f"{name.partition('.')[0]}.py", name.partition(".")[0]):
        if (program.parent / each).exists():
            return (
                f"only {program.name} itself is packaged: put it as program.py into a directory, "
                f"{each} beside it, and run the directory (docs/dependencies.md)"
            )
    return None


def _package(match: re.Match[str], program: Path) -> str:
    where = "DIRECTORY" if program.suffix == ".py" else program
    name = match["name"].partition(".")[0]
    return (
        f"name the package of {name} in requirements.txt and program.yaml, then "
        f"`qrunner lock {where}` (docs/dependencies.md)"
    )


_NAME: Final = r"['\"]?(?P<name>[\w.()/-]{1,80})['\"]?"
_QISKITS: Final = r"QuantumCircuit|Instruction(?:Set)?|\w{,40}Backend\w{,40}|\w{,40}Simulator"
_PROGRAMS: Final[tuple[tuple[str, str | _Advise], ...]] = (
    (r"\bfake_provider\b(?s:.{0,60})\bFake[A-Z]|(?:name|attribute) 'Fake[A-Z]", _DEVICES),
    (rf"cannot import name {_NAME} from '(?P<module>qiskit[\w.]{{,80}})'", _write),
    (r"No module named '(?P<name>qiskit\.[\w.]{1,80})'", _write),
    (rf"No module named {_NAME}", _beside),
    (r"No module named '(?P<name>[A-Za-z_][\w.]{0,80})'", _package),
    (r"MissingOptionalLibraryError: .*\"The '(?P<name>[\w-]{1,80})' library is required", _package),
    (rf"module '(?P<module>qiskit[\w.]{{,80}})' has no attribute {_NAME}", _write),
    (rf"'(?:{_QISKITS})' object has no attribute {_NAME}", _write),
    (r"'str' object is not callable(?s:.)*\.(?P<name>name\(\))", _write),
    (rf"No such file or directory: {_NAME}", _beside),
    (r"No such file or directory: '(?!/)", _PACKAGED),
    (r"Read-only file system|Permission denied: '/(?!tmp|out)", _WRITABLE),
    (r"Temporary failure in name resolution|Network is unreachable|Max retries exceeded", _NETWORK),
    (r"urlopen error|getaddrinfo|gaierror|NameResolutionError", _NETWORK),
)
"""Patterns of errors of programs in the order in which they are tried, and what to do.

An advice that says None leaves the error to the rows below.
"""

_REQUESTS: Final[tuple[tuple[str, str | _Advise], ...]] = (
    (r"\bFake[A-Z]\w+", _DEVICES),
    (
        r"inputs\.(?P<name>\w{1,80}): (?P<value>[\w.+-]{1,80}) is not of type 'string'",
        lambda match, _: f"a text that looks like JSON: -i {match['name']}='\"{match['value']}\"'",
    ),
    (
        r"^an option of a program: --(?P<name>[\w-]{1,80})(?:[= ](?P<value>[\w.]\S{,80}))?",
        lambda match, _: (
            "inputs of the program are given with -i: "
            f"-i {match['name'].replace('-', '_')}={match['value'] or 'VALUE'}"
        ),
    ),
)
"""The same for what is refused before a program runs."""


def hint(text: str) -> str:
    """Return what to do about a refused request, "" if the table does not know."""
    return next(_hints(_REQUESTS, text, Path()), "")


def hint_of_program(text: str, program: str) -> str:
    """Return what to do about a program's error, "" if the table does not know.

    `text` is its line and traceback, `program` is the program as its user named it.
    """
    return next(_hints(_PROGRAMS, text, Path(program)), "")


def hint_for(record: JobRecord, program: str = "") -> str:
    """Return what to do about the end of a job, "" if there is nothing to say."""
    if record.outcome in _BY_OUTCOME:
        return _BY_OUTCOME[record.outcome]
    if record.outcome is Outcome.COMPLETED:
        return ""
    # The end of the traceback, where the line that raised is: what is before says less.
    shown = (record.traceback or "")[-_MAX_TRACEBACK:]
    return hint_of_program(f"{(record.error or '')[:_MAX_ERROR]}\n{shown}", program)


_MAX_ERROR: Final = 2000
_MAX_TRACEBACK: Final = 4000


def _hints(table: tuple[tuple[str, str | _Advise], ...], text: str, program: Path) -> Iterator[str]:
    for pattern, advice in table:
        match = re.search(pattern, text)
        said = advice(match, program) if match and callable(advice) else match and advice
        if said:
            yield str(said)
