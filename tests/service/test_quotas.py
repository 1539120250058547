"""What one user may use of a service, and what others notice of it."""

from __future__ import annotations

import pytest

from tests.service.conftest import started
from tests.waiting import within


def test_one_user_runs_so_many_jobs_at_once_and_another_is_not_delayed(tmp_path):
    with started(tmp_path, config="[service]\nrunning = 1\n") as service:
        program = service.upload()
        first, second = (service.run(program, seconds=100) for _ in range(2))
        other = service.upload("bob", "echo")
        assert service.wait(service.run(other, "bob", result=1), "bob")["result"] == 1
        client = service.client("alice")

        def status(job):
            return client.get(f"{service.url}/v1/jobs/{job}").json()["status"]

        assert within(30, lambda: status(first) == "RUNNING")
        assert status(second) == "QUEUED"
        client.post(f"{service.url}/v1/jobs/{first}/cancel")
        assert within(30, lambda: status(second) == "RUNNING")


def test_cpu_seconds_of_a_day_are_counted_for_each_user(tmp_path):
    with started(tmp_path, config="[service]\ncpu_s_per_day = 0.001\n") as service:
        program = service.upload(public=True)
        job = service.run(program, result=1)
        assert service.wait(job)["result"] == 1
        assert service.client("alice").delete(f"{service.url}/v1/jobs/{job}").status_code == 204
        content = {"program": program, "backend": "none"}
        refused = service.client("alice").post(f"{service.url}/v1/jobs", json=content)
        assert (refused.status_code, "the quota is 0.001" in refused.text) == (429, True)
        assert service.wait(service.run(program, "bob", result=1), "bob")["result"] == 1


HELD = """
[backends.lab]
factory = "qiskit_aer:AerSimulator"
users = ["alice", "carol"]
per_day = { circuits = 1 }
"""


def test_a_device_is_for_its_users_and_each_has_a_budget(tmp_path):
    pytest.importorskip("qiskit_aer")
    with started(tmp_path, config=HELD) as service:
        program = service.upload("alice", "asks", public=True)

        def asked(who, backend="lab"):
            content = {"program": program, "backend": backend}
            return service.client(who).post(f"{service.url}/v1/jobs", json=content)

        for who, names in (("alice", ["lab"]), ("bob", [])):
            found = service.client(who).get(f"{service.url}/v1/backends").json()
            assert found["held"] == names
        for who in ("alice", "carol"):
            job = asked(who).json()["job"]
            assert service.wait(job, who, within_s=120)["result"] == {"0": 10}
            late = service.wait(asked(who).json()["job"], who)
            assert (late["outcome"], "budget" in late["traceback"]) == ("program_error", True)
        refused = asked("bob")
        assert (refused.status_code, "not for user 'bob'" in refused.text) == (400, True)
        # The operator has named no family, each member of which would have a process of its own.
        for name in ("fake:oslo", {"name": "held", "options": {"backend": "fake:oslo"}}):
            refused = asked("alice", name)
            assert (refused.status_code, "none of that name" in refused.text) == (400, True)
