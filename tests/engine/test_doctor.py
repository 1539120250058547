"""The doctor on a real engine, and its probe where nothing holds it back."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from runner import Supervisor
from runner.doctor import PROBE, probe

pytestmark = pytest.mark.engine

QRUNNER = [sys.executable, "-m", "runner"]


def doctor(*arguments):
    command = [*QRUNNER, "doctor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=200)


@pytest.fixture(scope="module")
def report():
    done = doctor("--format", "json")
    assert done.returncode in {0, 4}, done.stderr
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def test_this_machine_works_and_each_line_that_is_not_ok_says_what_to_change(report):
    code, findings = report
    failed = [each for each in findings if each["status"] == "FAIL"]
    assert not failed
    assert code == 0
    assert all(set(each) == {"what", "status", "found", "advice"} for each in findings)
    assert all(each["advice"] for each in findings if each["status"] != "ok")


def test_what_must_be_impossible_is_tried_on_every_isolation(report, engine):
    found = {each["what"]: each for each in report[1]}
    for isolation in {"runc", "runsc"} & set(engine.info().runtimes):
        assert "frames carried by" in found[f"sandbox {isolation}"]["found"]
        assert "attempts refused" in found[f"probe {isolation}"]["found"]


def test_the_components_of_the_engine_are_compared_with_known_flaws(report):
    found = {each["what"]: each for each in report[1]}
    assert {"engine version", "containerd version", "runc version"} <= set(found)


def test_without_an_engine_it_fails_and_says_what_to_do(monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere.sock")
    done = doctor()
    assert done.returncode == 4
    assert done.stdout.startswith("FAIL  engine")
    assert "→ DOCKER_HOST names it" in done.stdout
    assert "Traceback" not in done.stderr


def test_outside_a_sandbox_the_probe_succeeds_so_that_a_refusal_means_something():
    with Supervisor() as supervisor:
        image = supervisor.run("hello_world").wait(60).image
    code = PROBE.read_text() + "\nimport json; print(json.dumps(main(None, None)))\n"
    options = ["--rm", "-i", "--user=0:0", "--network=none", "--security-opt=seccomp=unconfined"]
    command = ["docker", "run", *options, image, "python3", "-"]
    done = subprocess.run(command, input=code, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    worked = {name for name, success, _ in json.loads(done.stdout) if success}
    assert worked >= {
        *(
            "becoming root",
            "holding a capability",
            "gaining privileges",
            "executing a file in /tmp",
        ),
        *("running without a filter", "overfilling /tmp", "overcrowding /tmp", "making a device"),
        *("dumping core", "listening on a socket", "writing /etc/passwd", "writing /probe"),
        *("a socket of AF_INET", "a socket of AF_NETLINK", "a socket of AF_PACKET"),
        *("a socket with a filter", "a socket with a name", "overcrowding /dev/shm"),
        *("reading /proc/irq/default_smp_affinity", "reading /proc/sys/fs/file-nr"),
    }
    calls = {name for name, _ in probe.calls()}
    assert len(calls & worked) > len(calls) / 3  # many want a capability, some kernels lack a few
