"""The unmodified clients of Qiskit Runtime against a real service, over http and https.

Each has an environment of its own, made once below build/clients from the files in clients/.  A
client is skipped only where there is no Python that it runs on.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.service.conftest import HERE, PROGRAMS

ROOT = Path(__file__).parents[2]
CLIENTS = HERE / "clients"
PYTHONS = {
    "ibmq-0.19.2": ["3.9"],
    "runtime-0.8.0": ["3.9"],
    "runtime-0.15.1": ["3.10"],
    "runtime-0.51": ["3.12", "3.11"],
}
OLD = [name for name in PYTHONS if name != "runtime-0.51"]


def usable(command):
    done = subprocess.run([command, "-c", "import venv, ensurepip"], capture_output=True)
    return done.returncode == 0


def python_for(name):
    """Return a Python that a client runs on, None if there is none."""
    for version in PYTHONS[name]:
        pyenv = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}"))
        for each in [shutil.which(f"python{version}"), *map(str, pyenv)]:
            if each and usable(each):
                return each
    return None


def environment_of(name):
    """Return the Python of a client's environment, made if it is missing or outdated."""
    directory, wanted = ROOT / "build" / "clients" / name, (CLIENTS / f"{name}.txt").read_text()
    stamp, python = directory / "made-from", directory / "bin" / "python"
    if not (stamp.exists() and stamp.read_text() == wanted):
        found = python_for(name)
        if found is None:
            pytest.skip(f"{name} needs Python {' or '.join(PYTHONS[name])}")
        shutil.rmtree(directory, ignore_errors=True)
        subprocess.run([found, "-m", "venv", str(directory)], check=True, timeout=120)
        install = [str(python), "-m", "pip", "install", "-q", "-r", str(CLIENTS / f"{name}.txt")]
        subprocess.run(install, check=True, timeout=900)
        stamp.write_text(wanted)
    return python


def told(service, name, script, *arguments):
    """Run a client's script against a service, and return what it has found."""
    environment = {
        key: value
        for key, value in os.environ.items()
        if not key.lower().endswith("_proxy") and not key.startswith(("QISKIT", "PYTHON"))
    }
    environment |= {"HOME": str(service.store.parent)}  # no saved account, and none is saved
    if service.ca:
        bundles = ("REQUESTS_CA_BUNDLE", "WEBSOCKET_CLIENT_CA_BUNDLE")
        environment |= dict.fromkeys(bundles, str(service.ca))
    done = subprocess.run(
        [str(environment_of(name)), str(CLIENTS / script), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(params=["http", "https"])
def either(request):
    return request.getfixturevalue("service" if request.param == "http" else "tls_service")


@pytest.mark.timeout(1200)  # the environments are made here
@pytest.mark.parametrize("name", OLD)
def test_an_older_client_does_all_it_could_do_at_ibm(name, either):
    kind, streams = name.partition("-")[0], either.ca is not None
    if name == "runtime-0.8.0" and not streams:
        pytest.skip("waits 16 s for a stream before each result, as docs/service.md says")
    knows_limits = "1" if name == "runtime-0.15.1" else "0"
    arguments = (f"{either.url}/api", either.token("alice"), str(PROGRAMS), name, knows_limits)
    found = told(either, name, "old.py", kind, *arguments)
    failed = found.pop("failed")
    withheld = found.pop("circuit as result")
    refused = found.pop("refused")
    message = found.pop("failed message")
    assert failed[0] == "RuntimeJobFailureError"
    for words in (failed[1], message):
        assert "Traceback" in words
        assert "ValueError: as it was asked to" in words
        assert "one\n" not in words
    assert withheld[0]
    assert "QPY" in withheld[1]
    assert refused[0]
    assert "nonsense" in refused[1]
    assert found.pop("jobs") >= 19
    assert found.pop("parameters")["properties"]["seconds"]["type"] == "number"
    if streams:
        assert found.pop("has heard the end")
        assert found.pop("heard") is True
    else:
        found.pop("heard")
    if knows_limits == "1":
        assert found.pop("too long") == "RuntimeJobMaxTimeoutError"
    assert found == {
        "backends": ["aer_simulator"],
        "program": [f"Echo of {name}", "does what its inputs say", 300, False],
        "source": True,
        "duplicate": "RuntimeDuplicateProgramError",
        "listed": True,
        "beyond": 0,
        "result": "the end",
        "log": "one\ntwo\n",
        "status": "DONE",
        "again": "the end",
        "interim": True,
        "cancel after the end": "RuntimeInvalidStateError",
        "wrong values": {},
        "inputs": True,
        "circuit as input": True,
        "operator": True,
        "pauli": True,
        "failed status": "ERROR",
        "running": "RUNNING",
        "log while it runs": "",
        "cancelled": "CANCELLED",
        "cancelled result": CANCELLED[name],
        "first pages": True,
        "skipped": True,
        "jobs beyond": 0,
        "pending": 0,
        "public": True,
        "updated": ["another", 300, True],
        "new version": [1, 2],
        "deleted job": "RuntimeJobNotFound",
        "deleted program": "RuntimeProgramNotFound",
        "run without a program": NO_PROGRAM[name],
    }


NO_PROGRAM = {
    "ibmq-0.19.2": "RequestsApiError",
    "runtime-0.8.0": "RuntimeProgramNotFound",
    "runtime-0.15.1": "RuntimeProgramNotFound",
}
"""What each client makes of a program that it runs and that does not exist."""

CANCELLED = {
    "ibmq-0.19.2": "RequestsApiError",
    "runtime-0.8.0": "RequestsApiError",
    "runtime-0.15.1": "RuntimeInvalidStateError",
}
"""What each client makes of the result of a cancelled job."""


@pytest.mark.timeout(1200)
def test_the_newer_client_runs_what_others_have_uploaded(either):
    program = either.upload("alice", "echo", name="for-the-newer-client", public=True)
    found = told(either, "runtime-0.51", "new.py", either.url, either.token("bob"), program)
    failed, message = found.pop("failed"), found.pop("failed message")
    assert failed[0] == "RuntimeJobFailureError"
    assert "ValueError: as it was asked to" in failed[1]
    assert "ValueError: as it was asked to" in message
    assert "private" in found.pop("private")[1]
    assert found.pop("log").endswith("\none\n")  # after what Qiskit logs at the level INFO
    assert found == {
        "login quickly": True,
        "backends": ["aer_simulator"],
        "usage": {},
        "operational": True,
        "result": "the end",
        "status": "DONE",
        "tags": ["first"],
        "metrics": ["created", "finished", "running"],
        "usage of a job": True,
        "wrong values": {},
        "array": True,
        "too long": "RuntimeJobMaxTimeoutError",
        "cancelled": "CANCELLED",
        "cancelled result": "RuntimeInvalidStateError",
        "cancel after the end": "RuntimeInvalidStateError",
        "new tags": ["a", "b"],
        "found by tags": True,
        "all": True,
        "beyond": 0,
        "again": "the end",
        "deleted job": "RuntimeJobNotFound",
    }
