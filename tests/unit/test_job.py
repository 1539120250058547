"""Jobs as handles: what callers may rely on while a job runs and after it has ended."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import JobFailedError, RequestError
from runner.job import Job
from runner.job.delivery import MAX_BACKLOG
from runner.job.life import Life
from runner.job.log import Log
from runner.job.names import RuntimeJobNames
from runner.job.options import checked_options, checked_user
from runner.job.record import Evidence, JobRecord, JobStatus, Outcome, Usage
from runner.job.request import Request
from sandbox.wire.protocol import JsonText


def make_life(on_cancel: Callable[[], object] = lambda: None) -> Life:
    return Life(
        "job-1",
        "p",
        log_kept_bytes=1000,
        decode=json.loads,
        compare=lambda bodies, result: [*bodies, str(result)],
        on_cancel=on_cancel,
    )


def completed(value: str = "1") -> JobRecord:
    text = JsonText(value)
    return JobRecord(job="job-1", program="p", outcome=Outcome.COMPLETED, result=text)


def failed(**fields: object) -> JobRecord:
    return JobRecord(job="job-1", program="p", outcome=Outcome.PROGRAM_ERROR, **fields)


def test_every_outcome_has_an_exit_code_of_the_documented_ones():
    assert {each.exit_code for each in Outcome} == {0, 1, 2, 3, 4, 130}
    assert [each for each in Outcome if each.exit_code == 0] == [Outcome.COMPLETED]


def test_messages_are_live_and_replayed_for_whoever_comes_late():
    job = Job(life := make_life())
    live: list[int] = []
    reader = threading.Thread(target=lambda: live.extend(job.messages()))
    reader.start()
    for number in range(100):
        life.add_message(JsonText(str(number)))
    life.finish(completed())
    reader.join(10)
    assert live == list(job.messages()) == list(range(100))
    assert list(job.messages(start=97)) == [97, 98, 99]


def test_result_is_decoded_and_a_failure_carries_its_evidence():
    job = Job(life := make_life())
    life.add_log(b"one\ntwo\n")
    evidence = Evidence(limit="messages", value=1, observed=2, source="host")
    life.finish(failed(evidence=evidence, traceback="Traceback: x"))
    with pytest.raises(JobFailedError) as caught:
        job.result()
    assert caught.value.outcome == "program_error"
    assert caught.value.evidence["observed"] == 2
    assert caught.value.log_tail == "one\ntwo"
    assert "Traceback: x" in str(caught.value)


def test_what_a_failure_says_is_escaped_in_its_message_only():
    job = Job(life := make_life())
    life.finish(failed(traceback="Error: \x1b[2J"))
    with pytest.raises(JobFailedError, match=r"Error: \\x1b\[2J") as caught:
        job.result()
    assert caught.value.traceback == "Error: \x1b[2J"


def test_a_timeout_of_the_caller_leaves_the_job_alive():
    job = Job(life := make_life())
    with pytest.raises(TimeoutError, match="goes on"):
        job.result(timeout=0.01)
    life.finish(completed("[1]"))
    assert job.result(timeout=0) == [1]
    assert job.status() is JobStatus.DONE


def test_only_the_first_record_counts():
    job = Job(life := make_life())
    life.finish(completed())
    life.finish(failed())
    assert job.outcome is Outcome.COMPLETED


def test_cancel_wakes_the_executing_thread_once_and_not_after_the_end():
    calls: list[int] = []
    job = Job(life := make_life(on_cancel=lambda: calls.append(1)))
    job.cancel()
    job.cancel()
    life.finish(JobRecord(job="j", program="p", outcome=Outcome.CANCELLED))
    job.cancel()
    assert calls == [1]
    assert job.status() is JobStatus.CANCELLED


@pytest.mark.parametrize("kind", [RuntimeError, SystemExit])
def test_an_exception_in_the_callback_is_logged_and_stops_nothing(caplog, kind):
    life, seen = make_life(), []
    life.delivery.expect()

    def callback(_: str, message: int) -> None:
        seen.append(message)
        if message == 1:
            msg = "a bug of the caller"
            raise kind(msg)

    for number in range(3):
        life.add_message(JsonText(str(number)))
    life.finish(completed())
    life.delivery.deliver(callback, callback, lambda: None)
    assert seen == [0, 1, 2, 1]
    assert "a bug of the caller" in caplog.text


def test_the_final_result_has_a_callback_of_its_own_after_the_last_message():
    for record, expected in ((completed("7"), [("final", 7)]), (failed(), [])):
        life, seen = make_life(), []
        life.add_message(JsonText("1"))
        life.finish(record)
        life.delivery.deliver(
            lambda _, value, seen=seen: seen.append(("interim", value)),
            lambda _, value, seen=seen: seen.append(("final", value)),
            lambda: None,
        )
        assert seen == [("interim", 1), *expected]


def test_a_slow_callback_congests_the_job_and_its_progress_is_told():
    life, progress = make_life(), []
    life.delivery.expect()
    for _ in range(MAX_BACKLOG):
        assert not life.is_congested
        life.add_message(JsonText("0"))
    assert life.is_congested
    life.finish(completed())
    life.delivery.deliver(lambda *_: None, lambda *_: None, lambda: progress.append(1))
    assert not life.is_congested
    assert progress == [1]


def test_congestion_that_begins_while_the_callback_is_at_it_ends_as_well():
    life, progress = make_life(), []
    life.delivery.expect()
    life.add_message(JsonText("0"))

    def callback(_: str, number: int) -> None:
        if number == 0:
            for _ in range(MAX_BACKLOG):
                life.add_message(JsonText("1"))
            assert life.is_congested
            life.finish(completed())

    life.delivery.deliver(callback, lambda *_: None, lambda: progress.append(1))
    assert progress


def test_result_waits_a_moment_for_a_callback_that_is_behind():
    job, seen = Job(life := make_life()), []
    life.delivery.expect()

    def slow(_: str, message: int) -> None:
        time.sleep(0.05)
        seen.append(message)

    threading.Thread(
        target=life.delivery.deliver, args=(slow, lambda *_: None, lambda: None)
    ).start()
    for number in range(3):
        life.add_message(JsonText(str(number)))
    life.finish(completed())
    job.result()
    assert seen == [0, 1, 2]


@given(st.lists(st.text(max_size=40), max_size=30), st.integers(1, 9))
def test_a_log_within_its_limit_is_kept_whole_whatever_the_pieces(lines, size):
    data = "\n".join(lines).encode()
    log = Log(kept_bytes=2 * len(data) + 2)
    text = "".join(log.feed(data[start : start + size]) for start in range(0, len(data), size))
    assert text + log.finish() == data.decode()
    assert log.dropped_bytes == 0


@given(st.lists(st.binary(max_size=200), max_size=50), st.integers(2, 300))
def test_a_log_never_keeps_more_than_its_limit_and_counts_the_rest(pieces, kept):
    log = Log(kept_bytes=kept)
    for piece in pieces:
        log.feed(piece)
    total = sum(len(piece) for piece in pieces)
    assert log.bytes == total
    assert log.dropped_bytes == max(0, total - 2 * (kept // 2))


def test_a_log_keeps_head_and_tail_and_says_what_is_missing_between():
    log = Log(kept_bytes=20)
    text = log.feed(b"0123456789" + b"x" * 100 + b"abcdefghij") + log.finish()
    assert text == "0123456789\n[… 100 bytes of output dropped …]\nabcdefghij"


def test_bytes_that_are_no_text_are_shown_as_escapes():
    log = Log(kept_bytes=100)
    assert log.feed(b"\xff\xc3") + log.finish() == "\\xff\\xc3"


def test_a_log_of_empty_lines_costs_the_host_little_more_than_its_bytes():
    log = Log(kept_bytes=1_000_000)
    pieces = [text for _ in range(600_000) if (text := log.feed(b"\n"))]
    rest = log.finish()
    assert len(pieces) <= 10_000 + 500_000 // 64 + 2
    assert len("".join(pieces)) + rest.count("\n") >= 600_000


# --- what callers may use -------------------------------------------------------------------------

OUR_NAMES = {
    *("id", "program", "request", "inputs", "backend", "tags", "update_tags"),
    *("status", "created", "started", "image", "node", "attempt", "memory_bytes"),
    *("record", "outcome", "usage", "evidence", "error_message", "metrics", "mismatches"),
    *("messages", "message_events", "events", "events_so_far", "events_async"),
    *("logs", "live_logs", "log_tail"),
    "files",
    *("cancel", "wait", "wait_async", "result", "plot", "watch"),
}
QISKIT_NAMES = {
    *("job_id", "program_id", "creation_date"),
    *("done", "running", "cancelled", "errored", "in_final_state", "wait_for_final_state"),
    *("interim_results", "stream_results", "cancel_result_streaming"),
}


@pytest.mark.parametrize("seconds", [float("inf"), 1e300, 10**400])
def test_any_number_of_seconds_may_be_waited_for(seconds):
    job = Job(life := make_life())
    threading.Timer(0.1, life.finish, [completed("7")]).start()
    assert job.result(timeout=seconds) == 7


def test_a_handle_has_these_members_and_each_more_is_a_decision():
    def public(one):
        return {name for name in dir(one) if not name.startswith("_")}

    assert public(Job(make_life())) == OUR_NAMES | QISKIT_NAMES
    assert public(RuntimeJobNames) == QISKIT_NAMES


def test_a_handle_changes_nothing_but_by_its_methods():
    job = Job(make_life())
    for name in ("id", "program", "image", "created", "started", "record", "tags", "outcome"):
        with pytest.raises(AttributeError, match="no setter"):
            setattr(job, name, None)


def asked_job() -> Job:
    request = Request(
        program="p",
        inputs=JsonText('{"shots":10}'),
        backend={"name": "aer_simulator", "options": {"seed_simulator": 1}},
        tags=("a", "b"),
    )
    return Job(Life("job-1", "p", decode=json.loads, on_cancel=lambda: None, request=request))


def test_what_was_asked_is_known_from_the_beginning():
    job = asked_job()
    assert (job.job_id(), job.program_id) == (job.id, job.program)
    assert job.inputs == {"shots": 10}
    assert job.backend() == {"name": "aer_simulator", "options": {"seed_simulator": 1}}
    assert job.tags == ["a", "b"]
    assert job.creation_date == job.created
    assert job.created.utcoffset() == timedelta(0)


def test_tags_can_be_replaced_and_odd_ones_are_refused():
    job = asked_job()
    assert job.update_tags(["x", "y", "x"]) == job.tags == ["x", "y"]
    for odd in ("text", [""], [1], ["a\nb"], ["x" * 129], [str(n) for n in range(33)], None):
        with pytest.raises(RequestError, match="tag"):
            job.update_tags(odd)
    assert job.tags == ["x", "y"]


def test_options_are_known_ones():
    assert checked_options({}) == {"log_level": "WARNING", "tags": ()}
    assert checked_options({"log_level": "INFO", "job_tags": ["a"]})["tags"] == ("a",)
    with pytest.raises(RequestError, match="unknown option 'loglevel': known are"):
        checked_options({"loglevel": "INFO"})
    with pytest.raises(RequestError, match="log_level is 'LOUD': it is one of DEBUG"):
        checked_options({"log_level": "LOUD"})


@pytest.mark.parametrize("odd", [None, 1, "a\nb", "\ud800", "x" * 129])
def test_a_user_is_a_short_text_that_can_be_printed(odd):
    assert checked_user("") == ""
    assert checked_user("Zoë O'Neil <zoe@example.org>") == "Zoë O'Neil <zoe@example.org>"
    with pytest.raises(RequestError, match="user is .*: a user is at most 128 printable"):
        checked_user(odd)


ENDS = [
    (Outcome.COMPLETED, "done"),
    (Outcome.CANCELLED, "cancelled"),
    (Outcome.PROGRAM_ERROR, "errored"),
    (Outcome.TIME_LIMIT, "errored"),
    (Outcome.INTERRUPTED, "errored"),
]


@pytest.mark.parametrize(("outcome", "name"), ENDS)
def test_questions_about_the_state_have_one_answer_at_a_time(outcome, name):
    questions = ("done", "running", "cancelled", "errored", "in_final_state")

    def answers(job):
        return {each for each in questions if getattr(job, each)()}

    job = Job(life := make_life())
    life.status = JobStatus.QUEUED
    assert (answers(job), job.status()) == (set(), JobStatus.QUEUED)
    life.start()
    assert (answers(job), job.status()) == ({"running"}, JobStatus.RUNNING)
    life.finish(JobRecord(job="job-1", program="p", outcome=outcome, result=JsonText("1")))
    assert answers(job) == {name, "in_final_state"}
    job.wait_for_final_state(0)


def test_the_error_message_is_the_traceback_and_none_if_there_was_no_error():
    job = Job(life := make_life())
    assert job.error_message() is None
    life.add_log(b"a lot of text\nTraceback of something that was caught\n")
    life.finish(failed(error="ValueError: x", traceback="Traceback\nValueError: x"))
    assert job.error_message() == "Traceback\nValueError: x"
    job = Job(life := make_life())
    evidence = Evidence(limit="timeout_s", value=2, observed=2.01, source="host")
    life.finish(JobRecord(job="j", program="p", outcome=Outcome.TIME_LIMIT, evidence=evidence))
    assert job.error_message() == "timeout_s 2, 2.01 seen, by host"
    job = Job(life := make_life())
    life.finish(completed())
    assert job.error_message() is None


def test_metrics_have_times_usage_and_the_version_of_qiskit():
    job = Job(life := make_life())
    before = job.metrics()
    assert before["timestamps"] == {
        "created": job.created.isoformat(),
        "running": None,
        "finished": None,
    }
    assert before["usage"] is before["qiskit_version"] is None
    life.start()
    record = failed(
        usage=Usage(wall_s=1.5),
        versions={"qiskit": "2.6.2"},
        timestamps={"finished": "2026-01-01T00:00:00+00:00"},
    )
    life.finish(record)
    metrics = job.metrics()
    assert metrics["timestamps"]["running"] == job.started.isoformat()
    assert metrics["timestamps"]["finished"] == "2026-01-01T00:00:00+00:00"
    assert metrics["usage"]["wall_s"] == 1.5
    assert metrics["qiskit_version"] == metrics["versions"]["qiskit"] == "2.6.2"


def test_interim_results_are_what_there_is_now():
    job = Job(life := make_life())
    assert job.interim_results() == []
    life.add_message(JsonText("1"))
    assert job.interim_results() == [1]


def test_streaming_starts_at_the_first_message_and_ends_with_the_final_result():
    job, seen, ended = Job(life := make_life()), [], threading.Event()
    life.add_message(JsonText("1"))

    def final(job_id: str, value: int) -> None:
        seen.append(("final", value))
        ended.set()

    job.stream_results(lambda job_id, value: seen.append((job_id, value)), final)
    with pytest.raises(RequestError, match="streams its results already"):
        job.stream_results(print)
    life.add_message(JsonText("2"))
    life.finish(completed("3"))
    assert ended.wait(10)
    assert seen == [("job-1", 1), ("job-1", 2), ("final", 3)]


def test_streaming_can_be_ended_and_begun_again_while_the_job_goes_on():
    job, seen, again = Job(life := make_life()), [], threading.Semaphore(0)
    job.cancel_result_streaming()

    def callback(job_id: str, value: int) -> None:
        seen.append(value)
        again.release()

    life.add_message(JsonText("1"))
    job.stream_results(callback)
    assert again.acquire(timeout=10)
    job.cancel_result_streaming()
    life.add_message(JsonText("2"))
    job.stream_results(callback)
    assert again.acquire(timeout=10)
    assert again.acquire(timeout=10)
    job.cancel_result_streaming()
    assert seen == [1, 1, 2]
    assert job.status() is JobStatus.INITIALIZING


def test_logs_are_live_and_kept():
    job, live = Job(life := make_life()), []
    thread = threading.Thread(target=lambda: live.extend(job.live_logs()))
    thread.start()
    life.add_log(b"one\ntw")
    life.add_log(b"o\nthree")
    life.finish(completed())
    thread.join(10)
    assert live == ["one\n", "two\n", "three"]
    assert "".join(live) == job.logs()


def test_another_attempt_hides_what_an_earlier_one_said_but_not_from_the_record():
    job = Job(life := make_life())
    life.start()
    life.add_message(JsonText("1"))
    life.begin_again()
    assert job.interim_results() == []
    life.start()
    life.add_message(JsonText("2"))
    assert job.interim_results() == [2]
    assert len(life.history.since()) == 4
