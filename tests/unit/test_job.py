"""Jobs as handles: what callers may rely on while a job runs and after it has ended."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import JobFailedError
from runner.job import MAX_BACKLOG, Evidence, Job, JobRecord, JobStatus, Outcome
from runner.joblog import Log
from sandbox.protocol import JsonText


def make_job(on_cancel: Callable[[], object] = lambda: None) -> Job:
    return Job(
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
    job = make_job()
    live: list[int] = []
    reader = threading.Thread(target=lambda: live.extend(job.messages()))
    reader.start()
    for number in range(100):
        job.add_message(JsonText(str(number)))
    job.finish(completed())
    reader.join(10)
    assert live == list(job.messages()) == list(range(100))
    assert list(job.messages(start=97)) == [97, 98, 99]


def test_result_is_decoded_and_a_failure_carries_its_evidence():
    job = make_job()
    job.add_log(b"one\ntwo\n")
    evidence = Evidence(limit="messages", value=1, observed=2, source="host")
    job.finish(failed(evidence=evidence, traceback="Traceback: x"))
    with pytest.raises(JobFailedError) as caught:
        job.result()
    assert caught.value.outcome == "program_error"
    assert caught.value.evidence["observed"] == 2
    assert caught.value.log_tail == "one\ntwo"
    assert "Traceback: x" in str(caught.value)


def test_a_timeout_of_the_caller_leaves_the_job_alive():
    job = make_job()
    with pytest.raises(TimeoutError, match="goes on"):
        job.result(timeout=0.01)
    job.finish(completed("[1]"))
    assert job.result(timeout=0) == [1]
    assert job.status() is JobStatus.DONE


def test_only_the_first_record_counts():
    job = make_job()
    job.finish(completed())
    job.finish(failed())
    assert job.outcome is Outcome.COMPLETED


def test_cancel_wakes_the_executing_thread_once_and_not_after_the_end():
    calls: list[int] = []
    job = make_job(on_cancel=lambda: calls.append(1))
    job.cancel()
    job.cancel()
    job.finish(JobRecord(job="j", program="p", outcome=Outcome.CANCELLED))
    job.cancel()
    assert calls == [1]
    assert job.status() is JobStatus.CANCELLED


def test_an_exception_in_the_callback_is_logged_and_stops_nothing(caplog):
    job, seen = make_job(), []
    job.expect_callback()

    def callback(_: str, message: int) -> None:
        seen.append(message)
        if message == 1:
            msg = "a bug of the caller"
            raise RuntimeError(msg)

    for number in range(3):
        job.add_message(JsonText(str(number)))
    job.finish(completed())
    job.deliver(callback, callback, lambda: None)
    assert seen == [0, 1, 2, 1]
    assert "a bug of the caller" in caplog.text


def test_the_final_result_has_a_callback_of_its_own_after_the_last_message():
    for record, expected in ((completed("7"), [("final", 7)]), (failed(), [])):
        job, seen = make_job(), []
        job.add_message(JsonText("1"))
        job.finish(record)
        job.deliver(
            lambda _, value, seen=seen: seen.append(("interim", value)),
            lambda _, value, seen=seen: seen.append(("final", value)),
            lambda: None,
        )
        assert seen == [("interim", 1), *expected]


def test_a_slow_callback_congests_the_job_and_its_progress_is_told():
    job, progress = make_job(), []
    job.expect_callback()
    for _ in range(MAX_BACKLOG):
        assert not job.is_congested
        job.add_message(JsonText("0"))
    assert job.is_congested
    job.finish(completed())
    job.deliver(lambda *_: None, lambda *_: None, lambda: progress.append(1))
    assert not job.is_congested
    assert progress == [1]


def test_result_waits_a_moment_for_a_callback_that_is_behind():
    job, seen = make_job(), []
    job.expect_callback()

    def slow(_: str, message: int) -> None:
        time.sleep(0.05)
        seen.append(message)

    threading.Thread(target=job.deliver, args=(slow, lambda *_: None, lambda: None)).start()
    for number in range(3):
        job.add_message(JsonText(str(number)))
    job.finish(completed())
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
