"""No value of a holder's environment is anywhere that a program or a reader of its job can look."""

import json
from pathlib import Path

import pytest

pytest.importorskip("qiskit_aer")

from runner.job.form import record_data, request_data
from runner.policy.held import HeldBackend
from tests.engine.bare import Supervisor

pytestmark = [pytest.mark.engine, pytest.mark.security, pytest.mark.qiskit]

SECRET = "planted-value-93b1f07c"
DEVICES = Path(__file__).parents[1] / "unit" / "held"

CURIOUS = """
import os, traceback
from qiskit import QuantumCircuit

def main(backend, user_messenger):
    circuit = QuantumCircuit(1, 1)
    circuit.measure(0, 0)
    seen = [repr(vars(backend)), repr(dict(os.environ)), backend.description, backend.name]
    for shots in (10, 10):
        job = backend.run(circuit, shots=shots)
        try:
            seen.append(repr(job.result().to_dict()))
        except Exception:
            seen.append(traceback.format_exc())
        seen.append(repr([job.status(), job.job_id(), vars(job)]))
    for process in filter(str.isdigit, os.listdir("/proc")):
        for name in ("environ", "cmdline"):
            try:
                seen.append(open(f"/proc/{process}/{name}", "rb").read().decode("latin-1"))
            except OSError:
                pass
    print(*seen)
    user_messenger.publish(seen)
    raise RuntimeError(str(seen))
"""


@pytest.mark.parametrize("how", ["raises", "prints", "tells", "lies", "dies"])
def test_a_planted_secret_is_found_nowhere(engine, tmp_path, monkeypatch, how):
    monkeypatch.setenv("PLANTED", SECRET)
    monkeypatch.setenv("PYTHONPATH", str(DEVICES))
    definition = HeldBackend(
        name="lab",
        factory="devices:odd",
        args={"how": how},
        env=("PLANTED", "PYTHONPATH"),
        log=tmp_path / "log",
    )
    path = tmp_path / "curious.py"
    path.write_text(CURIOUS)
    kept = tmp_path / "kept"
    kept.mkdir(mode=0o700)
    with Supervisor(engine=engine, store=kept / "jobs", backends=[definition]) as supervisor:
        job = supervisor.run(path, backend="lab")
        record = job.wait(120)
        said = [*job.events(), job.logs(), *job.messages()]
        shown = [
            json.dumps(record_data(record)),
            json.dumps(request_data(supervisor._archive.request_of(job.id)[0].request)),
            str(record),
            job._repr_html_(),
        ]
    assert len(list(job.messages())) == 1, record.error
    if how in {"raises", "prints"}:
        assert SECRET in (tmp_path / "log").read_text(), "the operator's log is for the operator"
    found = [each for each in (*map(str, said), *shown) if SECRET in each]
    assert not found
    for each in kept.rglob("*"):
        assert SECRET.encode() not in each.read_bytes(), each
