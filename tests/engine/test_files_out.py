"""Files that a program leaves in `/out` are kept with its job, wherever and however it runs."""

from __future__ import annotations

import pytest

from tests.engine.test_cli import qrunner

pytestmark = pytest.mark.engine

LEAVES = """
import os
import threading

def main(backend, user_messenger, n=1, fails=False, final=False, fork=False):
    assert os.listdir("/out") == []
    os.makedirs("/out/deep")
    with open("/out/a.csv", "w") as file:
        file.write(f"{n}\\n")
    with open("/out/deep/b.bin", "wb") as file:
        file.write(bytes(range(256)))
    os.symlink("/proc/self/environ", "/out/link")
    if fork and os.fork() == 0:
        return None
    if final:
        user_messenger.publish("early", final=True)
        with open("/out/late", "w") as file:
            file.write("late")
        return None
    if fails:
        raise ValueError(n)
    return n
"""
KEPT = {"a.csv": b"1\n", "deep/b.bin": bytes(range(256))}


@pytest.mark.under_runsc
def test_files_are_there_when_the_job_has_ended(supervisor, program):
    job = supervisor.run(program(LEAVES), backend="none")
    assert job.result(120) == 1
    assert job.files == KEPT
    assert "link is not kept" in job.logs()


@pytest.mark.parametrize(
    ("inputs", "kept"),
    [
        ({"fails": True}, KEPT),
        ({"final": True}, {**KEPT, "late": b"late"}),
        ({"fork": True}, KEPT),
    ],
)
def test_files_come_with_every_end_of_main(supervisor, program, inputs, kept):
    job = supervisor.run(program(LEAVES), inputs, backend="none")
    job.wait(120)
    assert job.files == kept


def test_each_job_of_a_session_has_its_own(supervisor, program):
    with supervisor.map(program(LEAVES), [{"n": n} for n in range(3)], backend="none") as jobs:
        found = [job.files["a.csv"] for job in jobs]
    assert found == [b"0\n", b"1\n", b"2\n"]


@pytest.mark.parametrize(
    "body",
    [
        "os.rmdir('/tmp/out'); os.symlink('/', '/tmp/out')",
        "os.rmdir('/tmp/out')",
        "[open(f'/out/{n}', 'w').close() for n in range(150)]",
        "open('/out/large', 'wb').write(bytes((8 << 20) + 1))",
        "open('/out/a\\nb', 'w').close()",
        "os.listdir = os.scandir = None",
        "os.chmod('/out', 0)",
    ],
)
def test_whatever_is_there_the_job_ends_as_it_would(supervisor, program, body):
    source = f"import os\ndef main(b, m):\n    {body}\n    return 1\n"
    job = supervisor.run(program(source), backend="none")
    assert job.result(120) == 1
    assert len(job.files) <= 100
    assert "large" not in job.files


def test_the_command_lists_and_writes_them(program, tmp_path, monkeypatch):
    monkeypatch.setenv("QRUNNER_STORE", str(tmp_path / "jobs.sqlite3"))
    done = qrunner("run", program(LEAVES), "--backend", "none")
    assert "/out/a.csv (2 bytes)" in done.stderr
    shown = qrunner("files", "last").stdout.split("\n")
    assert shown[1].split() == ["a.csv", "2", "bytes"]
    done = qrunner("files", "last", "-o", tmp_path / "got")
    assert (tmp_path / "got/deep/b.bin").read_bytes() == bytes(range(256))
    assert len(done.stdout.splitlines()) == 2
    again = qrunner("files", "last", "-o", tmp_path / "got")
    assert (again.returncode, "exists" in again.stderr) == (2, True)
