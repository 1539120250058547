"""The commands for kept jobs: what they write where, and with which exit code."""

from __future__ import annotations

import contextlib
import json
import os
import time

import pytest
from click.testing import CliRunner

from runner.cli import cli
from runner.errors import RequestError, UnknownJobError
from runner.job.life import Life
from runner.job.record import Evidence, JobRecord, JobStatus, Outcome, Usage
from runner.job.request import Request
from runner.store import Store
from runner.store.recorder import Recorder
from sandbox.wire.protocol import JsonText

HOSTILE = "::error::forged \x1b[31m\u202e\ud800\n##[error]x"


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setenv("QRUNNER_STORE", str(tmp_path / "jobs.db"))
    return tmp_path / "jobs.db"


@pytest.fixture
def keeper(path):
    with contextlib.closing(Store(path)) as store:
        yield Recorder(store, keep_open=True)


def start(keeper, number, tags=(), user=""):
    job = Life(
        f"job-{number:016x}",
        "sampler",
        decode=json.loads,
        on_cancel=lambda: None,
        log_kept_bytes=10_000,
        request=Request(
            program="sampler",
            path="sampler.py",
            inputs=JsonText('{"shots": 10}'),
            tags=tags,
            user=user,
        ),
        keeper=keeper,
    )
    job.status = JobStatus.QUEUED
    keeper.add(job, None)
    job.start()
    job.add_message(JsonText(json.dumps({"said": HOSTILE})))
    job.add_log(HOSTILE.encode(errors="replace") + b"\n")
    return job


@pytest.fixture
def jobs(keeper):
    """A job that completed, one that failed, and one that runs."""
    good, bad, running = start(keeper, 1, ("a",)), start(keeper, 2), start(keeper, 3)
    good.finish(
        JobRecord(job=good.id, program="sampler", outcome=Outcome.COMPLETED, result=JsonText("[1]"))
    )
    bad.finish(
        JobRecord(
            job=bad.id,
            program="sampler",
            outcome=Outcome.TIME_LIMIT,
            error=HOSTILE,
            traceback=f"Traceback\n{HOSTILE}",
            evidence=Evidence(limit="timeout_s", value=1, observed=1.5, source="host"),
            usage=Usage(wall_s=1.5),
        )
    )
    deadline = time.monotonic() + 10
    while keeper.store.load(running.id).summary.started is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    yield good.id, bad.id, running.id
    running.finish(JobRecord(job=running.id, program="sampler", outcome=Outcome.CANCELLED))


def call(*arguments):
    """Return exit code, stdout and stderr of a command; its RunnerError is raised."""
    done = CliRunner().invoke(cli, arguments, standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    for text in (done.stdout, done.stderr):
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert "##[" not in text
        assert not [line for line in text.splitlines() if line.lstrip().startswith("::")]
    return done.return_value, done.stdout, done.stderr


def test_lists_are_a_table_or_one_object_per_line(jobs):
    good, bad, running = jobs
    code, out, _ = call("jobs")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["JOB", running, bad, good]
    assert "time_limit" in out
    assert "RUNNING" in out
    found = [json.loads(line) for line in call("jobs", "--format", "json")[1].splitlines()]
    assert [each["job"] for each in found] == [running, bad, good]
    assert found[2]["tags"] == ["a"]


def test_users_are_listed_only_where_there_are_any(jobs, keeper):
    assert "USER" not in call("jobs")[1].splitlines()[0]
    job = start(keeper, 4, user="alice")
    job.finish(JobRecord(job=job.id, program="sampler", outcome=Outcome.COMPLETED, user="alice"))
    heading, first, *rest = call("jobs")[1].splitlines()
    assert heading.split()[:3] == ["JOB", "USER", "PROGRAM"]
    assert first.split()[:3] == [job.id, "alice", "sampler"]
    assert all(line.split()[1] == "sampler" for line in rest)
    found = [json.loads(line) for line in call("jobs", "--format", "json")[1].splitlines()]
    assert [each["user"] for each in found] == ["alice", None, None, None]
    assert len({each["process"] for each in found}) == 1
    assert "user       alice" in call("show", job.id)[1]
    assert json.loads(call("show", job.id, "--format", "json")[1])["user"] == "alice"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--tag", "a"], [0]),
        (["--outcome", "TIME_LIMIT"], [1]),
        (["--outcome", "running"], [2]),
        (["--program", "nothing"], []),
        (["--limit", "2"], [2, 1]),
    ],
)
def test_lists_are_filtered(jobs, options, expected):
    out = call("jobs", "--format", "json", *options)[1]
    assert [json.loads(line)["job"] for line in out.splitlines()] == [jobs[i] for i in expected]


@pytest.mark.parametrize(
    "arguments",
    [
        ["jobs", "--tag"],
        ["jobs", "--program"],
        *([name] for name in ("result", "logs", "messages", "cancel", "delete")),
    ],
)
def test_arguments_that_are_not_utf8_are_refused_by_value(jobs, arguments):
    with pytest.raises(RequestError, match=r"udcff' is not"):
        call(*arguments, os.fsdecode(b"\xff"))


def test_an_outcome_that_does_not_exist_is_refused_with_those_that_do(jobs):
    with pytest.raises(RequestError, match="one of completed, program_error"):
        call("jobs", "--outcome", "succeeded")


def test_a_result_is_data_on_stdout_and_exits_as_the_run_did(jobs):
    good, bad, _ = jobs
    assert call("result", good) == (0, "[1]\n", "sampler: completed\n")
    code, out, err = call("result", bad[:20])
    assert (code, out) == (3, "")
    assert "| Traceback" in err
    assert "(timeout_s 1, 1.5 seen, by host)" in err


def test_logs_and_messages_are_escaped_for_people_and_exact_as_events(jobs):
    good, *_ = jobs
    code, out, err = call("logs", good)
    assert (code, err) == (0, "")
    assert all(line.startswith("| ") for line in out.splitlines())
    (event,) = [json.loads(line) for line in call("logs", good, "--format", "json")[1].splitlines()]
    assert event["text"].startswith("::error::forged \x1b[31m")
    assert json.loads(call("messages", good)[1]) == {"said": HOSTILE}
    event = json.loads(call("messages", good, "--format", "json", "--follow")[1])
    assert (event["seq"], event["body"]) == (0, {"said": HOSTILE})


def test_a_job_is_shown_to_people_and_whole_as_json(jobs):
    good, bad, running = jobs
    assert call("show", good)[1].startswith(f"{good}\n")
    assert "time_limit (timeout_s 1, 1.5 seen, by host)" in call("show", bad)[1]
    shown = json.loads(call("show", bad, "--format", "json")[1])
    assert shown["traceback"] == f"Traceback\n{HOSTILE}"
    assert shown["evidence"]["observed"] == 1.5
    assert shown["usage"]["wall_s"] == 1.5
    assert shown["messages"][0]["body"] == {"said": HOSTILE}
    assert shown["inputs"] == {"shots": 10}
    assert shown["result"] is None
    assert json.loads(call("show", good, "--format", "json")[1])["result"] == [1]
    shown = json.loads(call("show", "last", "--format", "json")[1])
    assert (shown["job"], shown["outcome"], shown["status"]) == (running, None, "RUNNING")


def test_a_program_is_still_shown_and_as_json_too():
    assert "random_circuits" in call("show", "random_circuits")[1]
    assert json.loads(call("show", "random_circuits", "--format", "json")[1])["parameters"]


def test_cancelling_is_in_the_store_before_anything_else_and_only_once_ended_refused(
    jobs, path, monkeypatch
):
    good, _, running = jobs
    monkeypatch.setattr("runner.cli.jobs._CANCEL_S", 0.3)
    with pytest.raises(RequestError, match=f"{good} has ended already, as completed"):
        call("cancel", good)
    code, _, err = call("cancel", running)
    assert code == 4
    assert "has not reacted within 0.3 s" in err
    with contextlib.closing(Store(path)) as store:
        (process,) = {each.process for each in store.summaries()}
        assert store.unwanted(process) == [running]


def test_what_runs_is_deleted_by_force_only(jobs):
    good, _, running = jobs
    assert call("delete", good, good)[2] == f"qrunner: deleted {good}\n"
    with pytest.raises(UnknownJobError):
        call("delete", good)
    with pytest.raises(RequestError, match=f"still runs: `qrunner cancel {running}` first"):
        call("delete", running)
    assert call("delete", running, "--force")[0] == 0


def test_a_replay_without_the_program_is_refused(jobs):
    code, out, err = call("replay", jobs[0])
    assert (code, out) == (2, "")
    assert "its program is no longer kept" in err
    (finished,) = call("replay", jobs[0], "--format", "json")[1].splitlines()
    assert json.loads(finished)["outcome"] == "invalid_inputs"
