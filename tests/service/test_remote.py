"""Our own client, in Python and on the command line, against a real service."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time

import pytest

import runner
from runner.errors import (
    InputsError,
    JobFailedError,
    RequestError,
    RunnerError,
    UnknownJobError,
    UnknownProgramError,
)
from tests.service.conftest import PROGRAMS, started, there
from tests.service.conftest import qrunner as here
from tests.waiting import within

ECHO = PROGRAMS / "echo.py"


def test_a_job_there_is_a_job_as_here(client):
    heard, final = [], []
    job = client.run(
        ECHO,
        {"messages": [1, (2, 3)], "result": {"z": 1j}, "lines": ["one"]},
        backend="none",
        callback=lambda _, message: heard.append(message),
        on_final=lambda _, result: final.append(result),
        options={"tags": ["x"]},
    )
    assert job.result(timeout=60) == {"z": 1j}
    assert list(job.messages()) == [1, (2, 3)]
    assert within(10, lambda: final == [{"z": 1j}])
    assert heard == [1, (2, 3)]
    assert (job.logs(), job.tags, job.outcome) == ("one\n", ["x"], "completed")
    assert job.usage.wall_s > 0
    assert job.request.user == "alice"
    again = client.job(job.id)
    assert again.result() == {"z": 1j}
    assert list(again.messages()) == [1, (2, 3)]
    assert again.update_tags(["y"]) == ["y"]
    assert [each.id for each in client.jobs(job_tags=["y"])] == [job.id]
    assert client.job("last").id == client.jobs(limit=1)[0].id


def test_a_job_there_can_be_awaited(client):
    async def both():
        job = client.run(ECHO, {"messages": [1, 2], "result": 3, "seconds": 0.3}, backend="none")
        seen = [message async for message in job.messages()]
        return seen, await job

    assert asyncio.run(both()) == ([1, 2], 3)


def test_a_job_there_fails_and_is_cancelled_as_here(client):
    failed = client.run(ECHO, {"fail": "as asked"}, backend="none")
    with pytest.raises(JobFailedError, match="ValueError: as asked") as caught:
        failed.result(timeout=60)
    assert (caught.value.outcome, "echo.py" in caught.value.traceback) == ("program_error", True)
    slow = client.run(ECHO, {"seconds": 120}, backend="none", limits={"timeout_s": 100})
    with pytest.raises(TimeoutError):
        slow.result(timeout=0.1)
    slow.cancel()
    assert slow.wait(60).outcome == "cancelled"
    late = client.run(ECHO, {"seconds": 120}, backend="none", limits={"timeout_s": 1})
    assert late.wait(60).outcome == "time_limit"
    assert late.evidence.value == 1


def test_many_jobs_run_there_as_here(client):
    heard = []
    rows = [{"result": 0, "messages": ["x"]}, {"nonsense": 1}, {"fail": "as asked"}, {"result": 3}]
    with client.map(
        ECHO, rows, backend="none", callback=lambda _, message: heard.append(message)
    ) as jobs:
        found = list(jobs)
    assert [job.outcome for job in found] == [
        *("completed", "invalid_inputs", "program_error", "completed")
    ]
    assert (found[0].result(), found[3].result(), heard) == (0, 3, ["x"])
    assert "nonsense" in found[1].wait().error


def test_the_program_of_an_earlier_job_is_for_its_user_only(client, service):
    job = client.run(ECHO, {"result": 1}, backend="none")
    assert job.result(timeout=60) == 1
    uploaded = client.run(client.upload(ECHO), {"result": 1}, backend="none")
    content = {"program_of": job.id, "inputs": {"result": 2}, "backend": "none"}
    url = f"{service.url}/v1/jobs"
    answer = service.client("alice").post(url, json=content)
    assert service.wait(answer.json()["job"])["result"] == 2
    assert service.client("bob").post(url, json=content).status_code == 404
    content["program_of"] = uploaded.id
    answer = service.client("alice").post(url, json=content)
    assert service.wait(answer.json()["job"])["result"] == 2


def test_what_is_refused_says_why(client, service):
    with pytest.raises(InputsError, match="nonsense"):
        client.run(ECHO, {"nonsense": 1})
    with pytest.raises(UnknownProgramError, match="no_such_program"):
        client.run("no_such_program")
    with pytest.raises(UnknownJobError):
        client.job("job-0123456789abcdef")
    with pytest.raises(RequestError, match="no valid token"):
        runner.connect(service.url, "nonsense")
    with pytest.raises(RequestError, match="https://HOST:PORT"):
        runner.connect("nonsense")
    with pytest.raises(RunnerError, match="authority"):
        runner.connect(service.url.replace("http:", "https:"), "x", ca=PROGRAMS / "none.pem")


def test_programs_are_uploaded_shared_and_deleted(client, service, tmp_path):
    directory = tmp_path / "mine"
    directory.mkdir()
    (directory / "program.yaml").write_text("name: shared-one\n")
    (directory / "program.py").write_text("def main(b, m): return 1\n")
    program = client.upload(directory)
    with runner.connect(service.url, service.token("bob")) as other:
        with pytest.raises(UnknownProgramError):
            other.run(program)
        client.share(program, ["bob"])
        assert other.run(program, backend="none").result(timeout=60) == 1
        (directory / "program.py").write_text("def main(b, m): return 2\n")
        assert client.upload(directory) == program
        assert other.run(program, backend="none").result(timeout=60) == 2
        client.delete(program)
        with pytest.raises(UnknownProgramError):
            other.run(program)
        with pytest.raises(RequestError, match="no user 'nobody'"):
            client.share(client.upload(directory), ["nobody"])


def test_a_job_is_followed_through_a_restart(tmp_path):
    with started(tmp_path) as service:
        port = service.url.rpartition(":")[2]
        with runner.connect(service.url, service.token("alice")) as client:
            job = client.run(ECHO, {"messages": [1], "seconds": 60}, backend="none")
            first = next(iter(job.messages()))
            assert service.stop(signal.SIGKILL)
            with started(tmp_path, listen=f"127.0.0.1:{port}"):
                assert job.wait(60).outcome == "interrupted"
    assert first == 1


# --- the command line -----------------------------------------------------------------------------


def test_the_commands_do_there_what_they_do_here(service):
    done = there(
        service, "run", str(ECHO), "--backend", "none", "-i", "result=[1]", "-i", "messages=[7]"
    )
    assert (done.returncode, done.stdout) == (0, "[1]\n"), done.stderr
    assert "#0 7" in done.stderr
    shown = json.loads(there(service, "show", "last", "--format", "json").stdout)
    job = shown["job"]
    assert (shown["outcome"], shown["result"]) == ("completed", [1])
    assert "completed" in there(service, "show", job).stdout
    assert there(service, "result", job[:12]).stdout == "[1]\n"
    assert there(service, "messages", job).stdout == "7\n"
    assert there(service, "logs", job).returncode == 0
    listed = [
        json.loads(line) for line in there(service, "jobs", "--format", "json").stdout.splitlines()
    ]
    assert job in {each["job"] for each in listed}
    assert job in there(service, "jobs").stdout
    assert there(service, "delete", job).returncode == 0
    assert there(service, "show", job).returncode == 2


@pytest.mark.parametrize(
    ("inputs", "code"), [(["fail=x"], 1), (["nonsense=1"], 2), (["seconds=100"], 3)]
)
def test_the_exit_codes_are_those_of_here(service, inputs, code):
    given = [part for each in inputs for part in ("-i", each)]
    done = there(service, "run", str(ECHO), "--backend", "none", "--timeout", "2", *given)
    assert done.returncode == code, done.stderr
    events = there(
        service, "run", str(ECHO), "--backend", "none", "--timeout", "2", "--format", "json", *given
    )
    assert json.loads(events.stdout.splitlines()[-1])["event"] == "finished"


def test_a_detached_job_goes_on_and_can_be_cancelled(service):
    done = there(service, "run", "--detach", str(ECHO), "--backend", "none", "-i", "seconds=100")
    job = done.stdout.strip()
    assert job.startswith("job-"), done.stderr
    assert there(service, "show", job).returncode == 0
    cancelled = there(service, "cancel", job)
    assert (cancelled.returncode, "cancelled" in cancelled.stderr) == (0, True), cancelled.stderr


def test_programs_on_the_command_line(service):
    program = there(service, "programs", "upload", str(ECHO)).stdout.strip()
    assert program in there(service, "programs", "list").stdout
    assert there(service, "run", program, "--backend", "none", user="zoe").returncode == 2
    assert there(service, "programs", "publish", program).returncode == 0
    done = there(service, "run", program, "--backend", "none", "-i", "result=5", user="zoe")
    assert (done.returncode, done.stdout) == (0, "5\n"), done.stderr
    assert there(service, "programs", "publish", "--private", program).returncode == 0
    assert there(service, "run", program, "--backend", "none", user="zoe").returncode == 2
    assert there(service, "programs", "delete", program).returncode == 0


def test_ctrl_c_cancels_there(service):
    environment = {**service.environment, "QRUNNER_SERVER": service.url}
    environment["QRUNNER_TOKEN"] = service.token("alice")
    command = [sys.executable, "-m", "runner", "run", str(ECHO), "--backend", "none"]
    with subprocess.Popen(
        [*command, "-i", "seconds=100", "-i", "messages=[1]"],
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        while "#0 1" not in process.stderr.readline():
            assert process.poll() is None
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130


def test_commands_here_use_the_service_that_runs_on_their_store(tmp_path):
    def run(*options):
        command = ["run", str(ECHO), "--backend", "none", "-i", "result=[1]", *options]
        done = here(service.environment, *command)
        assert done.endswith("[1]\n") or "--detach" in options
        return json.loads(here(service.environment, "show", "last", "--format", "json"))

    with started(tmp_path) as service:
        pid = f".{service.process.pid}."
        assert pid in run()["process"]
        assert run("--detach")["job"].startswith("job-")
        assert pid not in run("--timeout", "10")["process"]  # who says that, decides here
        assert service.stop() == 0
        assert pid not in run()["process"]
        assert not (service.store.parent / "qrunner.sock").exists()


def test_the_socket_serves_without_a_token(tmp_path):
    path = tmp_path / "s"
    with (
        started(tmp_path / "x", "--socket", str(path), listen=None),
        runner.connect(f"unix:{path}") as client,
    ):
        job = client.run(ECHO, {"result": 1}, backend="none")
        assert job.result(timeout=60) == 1
        assert job.request.user == ""
