"""What a user of one of the older clients does, run by that client's own Python.

Arguments: "ibmq" or "runtime", the address, the token, the directory of programs.  Writes one JSON
object: what each step gave, under its name.
"""

import json
import sys
import threading
import time
import warnings

warnings.simplefilter("ignore")

import numpy as np

KIND, URL, TOKEN, PROGRAMS = sys.argv[1:5]
STREAMS = URL.startswith("https")
found = {}


def service_and_backend():
    if KIND == "ibmq":
        from qiskit import IBMQ

        provider = IBMQ.enable_account(TOKEN, url=URL)
        found["backends"] = [each.name() for each in provider.backends()]
        return provider.runtime, {"backend_name": "aer_simulator"}
    from qiskit_ibm_runtime import QiskitRuntimeService

    service = QiskitRuntimeService(channel="ibm_quantum", token=TOKEN, url=URL)
    found["backends"] = [each.name for each in service.backends()]
    return service, {"backend": "aer_simulator"}


def id_of(job):
    return job.job_id() if callable(job.job_id) else job.job_id


def tried(call, *arguments, **named):
    """Return the name of the exception that a call raises, and its words."""
    try:
        return ["", repr(call(*arguments, **named))]
    except Exception as error:
        return [type(error).__name__, str(error)]


service, OPTIONS = service_and_backend()
SPEC = {
    "parameters": {
        "type": "object",
        "properties": {"seconds": {"type": "number", "description": "how long it takes"}},
    }
}
METADATA = {
    "name": "Echo of %s" % sys.argv[5],
    "description": "does what its inputs say",
    "max_execution_time": 300,
    "spec": SPEC,
}
source = open(PROGRAMS + "/echo.py").read()
program = service.upload_program(data=source, metadata=METADATA)
shown = service.program(program, refresh=True)
found["program"] = [shown.name, shown.description, shown.max_execution_time, shown.is_public]
found["parameters"] = shown.parameters().metadata
found["source"] = shown.data == source
found["duplicate"] = tried(service.upload_program, data=source, metadata=METADATA)[0]
found["listed"] = program in [each.program_id for each in service.programs(refresh=True)]
found["beyond"] = len(service.programs(refresh=True, limit=5, skip=1000))


def run(options=None, **inputs):
    return service.run(program_id=program, inputs=inputs, options={**OPTIONS, **(options or {})})


# --- streaming, results, log --------------------------------------------------------------------
heard, has_ended = [], threading.Event()


def hear(job_id, message):
    heard.append(message)
    if message == "the end":
        has_ended.set()


MESSAGES = [{"step": 0}, {"step": 1, "at": [1.5, None]}, "a text", "url", 7, True, ["url"]]
job = service.run(
    program_id=program,
    inputs={"messages": MESSAGES, "result": "the end", "lines": ["one", "two"]},
    options=OPTIONS,
    callback=hear,
)
found["result"] = job.result()
if STREAMS:
    found["has heard the end"] = has_ended.wait(30)
    time.sleep(1)
found["heard"] = heard == [*MESSAGES, "the end"] or repr(heard)
found["log"] = job.logs()
found["status"] = job.status().name
again = service.job(id_of(job))
found["again"] = again.result()
if hasattr(job, "interim_results"):
    found["interim"] = again.interim_results() == MESSAGES or repr(again.interim_results())
else:
    found["interim"] = True
found["cancel after the end"] = tried(job.cancel)[0]

# --- values ---------------------------------------------------------------------------------------
VALUES = {
    "number": 5,
    "float": 2.5,
    "truth": True,
    "text like a number": "5",
    "text like json": '{"a": 1}',
    "object": {"url": "http://127.0.0.1:9/", "n": [1, {"x": None}]},
    "list": [1, "url"],
    "complex": 1 + 2j,
    "set": {1, 2},
}
wrong = {}
jobs = {name: run(result=value) for name, value in VALUES.items()}
arrays = {
    "array": np.arange(6.0).reshape(2, 3),
    "complex array": np.array([1 + 1j, 2]),
    "nan": np.array([np.nan, np.inf]),
}
jobs.update({name: run(result=value) for name, value in arrays.items()})
for name, value in VALUES.items():
    got = jobs[name].result()
    if got != value or type(got) is not type(value):
        wrong[name] = repr(got)
for name, value in arrays.items():
    got = jobs[name].result()
    if not (isinstance(got, np.ndarray) and np.array_equal(got, value, equal_nan=True)):
        wrong[name] = repr(got)
found["wrong values"] = wrong
found["inputs"] = jobs["object"].inputs == {"result": VALUES["object"]}

from qiskit import QuantumCircuit
from qiskit.quantum_info import Pauli, SparsePauliOp

found["circuit as input"] = run(messages=[], lines=[], result=1, fail="").result() == 1
circuit = QuantumCircuit(1)
circuit.h(0)
refused = run(result=circuit)
found["circuit as result"] = tried(refused.result)
found["operator"] = run(result=SparsePauliOp(["XZ", "II"], [1, 2])).result() == SparsePauliOp(
    ["XZ", "II"], [1, 2]
)
found["pauli"] = run(result=Pauli("XZ")).result() == Pauli("XZ")

# --- ends -----------------------------------------------------------------------------------------
failed = run(fail="as it was asked to")
found["failed"] = tried(failed.result)
found["failed status"] = failed.status().name
found["failed message"] = failed.error_message()
slow = run(seconds=120)
while slow.status().name == "QUEUED" or slow.status().name == "INITIALIZING":
    time.sleep(0.1)
found["running"] = slow.status().name
found["log while it runs"] = slow.logs() if KIND != "ibmq" else ""
slow.cancel()
found["cancelled"] = slow.status().name
found["cancelled result"] = tried(slow.result)[0]
if KIND != "ibmq":
    late = service.run(
        program_id=program,
        inputs={"seconds": 120},
        options={**OPTIONS, **({"max_execution_time": 1} if sys.argv[6] == "1" else {})},
    )
    if sys.argv[6] == "1":
        found["too long"] = tried(late.result)[0]
    else:
        late.cancel()
found["refused"] = tried(run, nonsense=1)

# --- searching ------------------------------------------------------------------------------------
mine = service.jobs(limit=None, program_id=program)
found["jobs"] = len(mine)
found["first pages"] = [id_of(each) for each in service.jobs(limit=3, program_id=program)] == [
    id_of(each) for each in mine[:3]
]
found["skipped"] = [id_of(each) for each in service.jobs(limit=2, skip=2, program_id=program)] == [
    id_of(each) for each in mine[2:4]
]
found["jobs beyond"] = len(service.jobs(skip=1000))
found["pending"] = len(service.jobs(pending=True, program_id=program))

# --- the program's life ---------------------------------------------------------------------------
service.set_program_visibility(program, public=True)
found["public"] = service.program(program, refresh=True).is_public
service.set_program_visibility(program, public=False)
service.update_program(program, description="another")
service.update_program(program, data=source.replace("return result", "return [result, 2]"))
shown = service.program(program, refresh=True)
found["updated"] = [shown.description, shown.max_execution_time, "[result, 2]" in shown.data]
found["new version"] = run(result=1).result()
service.delete_job(id_of(job))
found["deleted job"] = tried(service.job, id_of(job))[0]
service.delete_program(program)
found["deleted program"] = tried(service.delete_program, program)[0]
found["run without a program"] = tried(run)[0]
print(json.dumps(found, default=bool))
sys.stdout.flush()
