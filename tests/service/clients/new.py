"""What a user of qiskit-ibm-runtime 0.51 does, run by that client's own Python.

Arguments: the address, the token, the id of a program.  Writes one JSON object: what each step
gave, under its name.
"""

import json
import os
import sys
import time
import warnings

warnings.simplefilter("ignore")
URL, TOKEN, PROGRAM = sys.argv[1:4]
os.environ.update(IAM_URL=URL, GLOBAL_SEARCH_URL=URL, GLOBAL_CATALOG_URL=URL)

import numpy as np
from qiskit import QuantumCircuit
from qiskit.quantum_info import SparsePauliOp
from qiskit_ibm_runtime import QiskitRuntimeService

found = {}


def tried(call, *arguments, **named):
    try:
        return ["", repr(call(*arguments, **named))]
    except Exception as error:
        return [type(error).__name__, str(error)]


def login(token):
    return QiskitRuntimeService(
        channel="ibm_quantum_platform",
        token=token,
        instance="crn:v1:bluemix:public:quantum-computing:us-east:a/local:local::",
        url_resolver=lambda *_: URL + "/api/v1",
    )


started = time.monotonic()
service = login(TOKEN)
found["login quickly"] = time.monotonic() - started < 20
found["backends"] = [each.name for each in service.backends()]
found["usage"] = service.usage()
backend = service.backend("aer_simulator")
found["operational"] = backend.status().operational


def run(options=None, **inputs):
    given = {"backend": backend, **(options or {})}
    return service._run(program_id=PROGRAM, inputs=inputs, options=given)


job = run({"job_tags": ["first"], "log_level": "INFO"}, result="the end", lines=["one"])
found["result"] = job.result()
found["status"] = job.status()
found["log"] = job.logs()
found["tags"] = job.tags
found["metrics"] = sorted(job.metrics()["timestamps"])
found["usage of a job"] = job.usage() == job.metrics()["usage"]["qpu_charge_time_seconds"] > 0
circuit = QuantumCircuit(2)
circuit.h(0)
circuit.cx(0, 1)
VALUES = {
    "number": 5,
    "text like a number": "5",
    "object": {"url": [1, None]},
    "complex": 1j,
    "circuit": circuit,
    "operator": SparsePauliOp(["XZ"], [2]),
}
jobs = {name: run(result=value) for name, value in VALUES.items()}
found["wrong values"] = {
    name: repr(job.result()) for name, job in jobs.items() if job.result() != VALUES[name]
}
array = np.arange(4.0)
found["array"] = bool(np.array_equal(run(result=array).result(), array))
failed = run(fail="as it was asked to")
found["failed"] = tried(failed.result)
found["failed message"] = failed.error_message()
late = run({"max_execution_time": 1}, seconds=120)
found["too long"] = tried(late.result)[0]
slow = run(seconds=120)
while slow.status() == "QUEUED":
    time.sleep(0.1)
slow.cancel()
found["cancelled"] = slow.status()
found["cancelled result"] = tried(slow.result)[0]
found["cancel after the end"] = tried(job.cancel)[0]
found["new tags"] = sorted(job.update_tags(["a", "b"]))
found["found by tags"] = [each.job_id() for each in service.jobs(job_tags=["a", "b"])] == [
    job.job_id()
]
found["all"] = len(service.jobs(limit=None, program_id=PROGRAM)) >= 10
found["beyond"] = len(service.jobs(skip=1000))
found["again"] = service.job(job.job_id()).result()
service.delete_job(job.job_id())
found["deleted job"] = tried(service.job, job.job_id())[0]
found["private"] = tried(run, {"private": True}, result=1)
print(json.dumps(found, default=bool))
