"""Pages of jobs, of a job's messages and of its log: all of it once, and none of it by a scan."""

from __future__ import annotations

import base64
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.errors import RequestError
from runner.job.options import MAX_TAGS
from runner.job.record import FileEvent, JobStatus, StartedEvent, Usage
from runner.store import rows
from runner.store.rows import Query
from sandbox.wire.protocol import JsonText
from tests.unit.store.keeping import completed, make_job, run


def pages(store, query_of, size):
    """Return the jobs of one page after another."""
    found, last = [], None
    while page := store.summaries(query_of(beyond=last, limit=size)):
        found.append([each.id for each in page])
        last = page[-1].id
    return found


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(times=st.lists(st.integers(0, 3), max_size=12), size=st.integers(1, 5))
def test_pages_have_each_job_once_also_those_of_the_same_moment(tmp_path_factory, times, size):
    from runner.store import Store
    from runner.store.recorder import Recorder

    with Store(tmp_path_factory.mktemp("s")) as store:
        keeper = Recorder(store, keep_open=True)
        for number, time in enumerate(times, 1):
            run(keeper, number, messages=())
            with store.file.writing() as db:
                db.execute("UPDATE jobs SET created = ? WHERE number = ?", (time, number))
        order = sorted(range(len(times)), key=lambda n: (times[n], n))
        for is_descending in (False, True):
            found = pages(store, partial(Query, descending=is_descending), size)
            assert all(len(page) == size for page in found[:-1])
            assert [job for page in found for job in page] == [f"job-{n + 1:016x}" for n in order]
            order.reverse()


def test_nobody_asks_for_more_tags_than_a_job_has(store):
    most = tuple(f"tag {n}" for n in range(MAX_TAGS))
    assert store.summaries(Query(tags=most)) == []
    with pytest.raises(RequestError, match=f"{MAX_TAGS + 1} tags: a job has at most {MAX_TAGS}"):
        Query(tags=(*most, "x"))


def test_pages_go_on_after_a_job_whatever_else_is_asked_for(store, keeper):
    for number in range(1, 9):
        run(keeper, number, user="ab"[number % 2], tags=("even",) if number % 4 == 0 else ())

    def of_a(**more):
        return Query(user="a", **more)

    assert [len(page) for page in pages(store, of_a, 3)] == [3, 1]
    tagged = store.summaries(of_a(tags=("even",), beyond="job-0000000000000008"))
    assert [each.id for each in tagged] == ["job-0000000000000004"]
    assert store.summaries(Query(beyond="job-ffffffffffffffff")) == []


def test_what_jobs_have_used_is_read_for_a_page_at_once(store, keeper):
    job = make_job(keeper, 1)
    job.finish(completed(job, usage=Usage(wall_s=1.5, sources={"cpu_s": "no cgroup"})))
    running = make_job(keeper, 2)
    found = store.usages([job.id, running.id, "job-unknown"])
    assert found == {job.id: Usage(wall_s=1.5, sources={"cpu_s": "no cgroup"})}
    assert store.usages([]) == {}
    running.finish(completed(running))


def test_jobs_that_have_not_ended_are_counted_by_user_and_status(store, keeper):
    jobs = [make_job(keeper, number, user="ab"[number == 3]) for number in (1, 2, 3)]
    run(keeper, 4, user="c")
    assert store.pending() == {"a": {JobStatus.QUEUED: 2}, "b": {JobStatus.QUEUED: 1}}
    for each in jobs:
        each.finish(completed(each))
    assert store.pending() == {}


# --- messages and log -----------------------------------------------------------------------------


def seqs(store, job, start, limit, **more):
    return [each.seq for each in store.messages(job.id, start, limit, **more)]


def test_messages_are_read_a_page_at_a_time(store, keeper):
    job = make_job(keeper)
    job.start()
    for number in range(10):
        job.add_log(b"a line\n" * 3)
        job.add_message(JsonText(str(number)))
    job.finish(completed(job))
    assert seqs(store, job, 0, 4) == [0, 1, 2, 3]
    assert seqs(store, job, 4, 4) == [4, 5, 6, 7]
    assert seqs(store, job, 8, 4) == [8, 9]
    assert seqs(store, job, None, 4) == [6, 7, 8, 9]
    assert seqs(store, job, 10, 4) == []
    assert [each.body for each in store.messages(job.id, 4, 1)] == ["4"]


def test_messages_are_those_of_the_last_attempt(store, keeper):
    job = make_job(keeper)
    job.history.extend([StartedEvent(job=job.id, program="sampler", image=None, node="a")])
    for number in range(5):
        job.add_message(JsonText(f'"old {number}"'))
    job.history.message_count = 0
    again = StartedEvent(job=job.id, program="sampler", image=None, node="b", attempt=2)
    job.history.extend([again])
    for number in range(3):
        job.add_message(JsonText(f'"new {number}"'))
    job.finish(completed(job, attempt=2))
    for start in (0, None):
        found = store.messages(job.id, start, 100, attempt=2)
        assert [each.body for each in found] == ['"new 0"', '"new 1"', '"new 2"']


def test_the_end_of_a_log_is_read_without_its_beginning(store, keeper):
    job = make_job(keeper)
    job.start()
    for number in range(100):
        job.add_log(f"line {number}\n".encode())
        job.add_message(JsonText("0"))
    job.finish(completed(job))
    assert store.log_tail(job.id, 1 << 20) == job.history.logs()
    tail = store.log_tail(job.id, 20)
    assert tail.endswith("line 98\nline 99\n")
    assert len(tail) < 40
    assert store.log_tail("job-unknown", 20) == ""


def test_files_that_a_job_has_left_are_listed_and_read_one_by_one(store, keeper):
    contents = {"a.txt": b"", "d/b.bin": bytes(range(256)), "c": b"1", "e": b"12", "f": b"123"}
    job = make_job(keeper)
    job.start()
    job.add_message(JsonText("1"))
    encoded = {name: base64.b64encode(each).decode() for name, each in contents.items()}
    job.history.extend([FileEvent(name=name, content=text) for name, text in encoded.items()])
    job.add_log(b"the end\n")
    job.finish(completed(job))
    assert store.files(job.id) == [(name, len(each)) for name, each in contents.items()]
    assert {name: store.read_file(job.id, name) for name in contents} == contents
    assert store.read_file(job.id, "d") is store.read_file("job-unknown", "c") is None
    assert store.files(run(keeper, 2).id) == []


# --- how they are found ---------------------------------------------------------------------------

QUERIES = {
    "all": (Query(user="a"), "jobs_by_user"),
    "beyond": (Query(user="a", beyond="job-1"), "jobs_by_user"),
    "oldest first": (Query(user="a", beyond="job-1", descending=False), "jobs_by_user"),
    "outcome": (Query(user="a", outcomes=("time_limit",)), "jobs_by_user"),
    "program": (Query(user="a", program="p"), "jobs_by_user"),
    "uploaded": (Query(user="a", program_id="p"), "jobs_by_user"),
    "pending": (Query(user="a", pending=True), "jobs_pending"),
    "key": (Query(user="a", key="k"), "jobs_by_key"),
}


@pytest.mark.parametrize("name", QUERIES)
def test_a_page_of_many_jobs_is_found_by_an_index(store, name):
    query, index = QUERIES[name]
    conditions, values = rows.conditions(query)
    order = "DESC" if query.descending else "ASC"
    statement = (
        f"EXPLAIN QUERY PLAN SELECT id FROM {rows.table(query)} WHERE {conditions} "
        f"ORDER BY created {order}, number {order} LIMIT 51"
    )
    with store.file.reading() as db:
        plan = " ".join(row[3] for row in db.execute(statement, values))
    assert index in plan
    assert "SCAN" not in plan
    if index == "jobs_by_user":  # the others have few rows to sort
        assert "TEMP B-TREE" not in plan


def test_outcomes_and_statuses_are_told_apart(store, keeper):
    run(keeper, 1)
    queued = make_job(keeper, 2)
    assert [each.id for each in store.summaries(Query(outcomes=("completed",)))] == [
        "job-0000000000000001"
    ]
    assert [each.id for each in store.summaries(Query(outcomes=("QUEUED", "time_limit")))] == [
        "job-0000000000000002"
    ]
    assert store.count(Query(outcomes=("QUEUED", "completed"))) == 2
    queued.finish(completed(queued))
