"""Threads that exist only while there is work."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections import Counter

import pytest

from runner.errors import RequestError, RunnerError
from runner.host.workers import Workers
from tests.waiting import within


def test_tasks_run_in_order_and_never_more_at_once_than_allowed():
    workers, seen, most = Workers(2), [], []
    running = set()

    def work(task):
        running.add(task)
        most.append(len(running))
        time.sleep(0.01)
        running.discard(task)
        seen.append(task)

    for number in range(10):
        workers.submit(number, work)
    assert workers.join(5)
    assert sorted(seen) == list(range(10))
    assert max(most) == 2
    assert seen[0] in {0, 1}


def test_what_one_user_may_not_run_yet_delays_nobody_and_comes_in_order():
    workers, seen, most, go = Workers(8, most_of_user=2), [], Counter(), threading.Event()
    running = Counter()

    def work(task):
        user = task[0]
        running[user] += 1
        most[user] = max(most[user], running[user])
        seen.append(task)
        go.wait(10)
        running[user] -= 1

    for number in range(6):
        workers.submit(("a", number), work, user="a")
    workers.submit(("b", 0), work, user="b")
    assert within(5, lambda: len(seen) == 3)
    workers.withdraw(("a", 3))
    time.sleep(0.05)
    assert sorted(seen) == [("a", 0), ("a", 1), ("b", 0)]
    go.set()
    assert workers.join(5)
    assert most == {"a": 2, "b": 1}
    assert sorted(seen) == [("a", n) for n in (0, 1, 2, 4, 5)] + [("b", 0)]
    assert not workers.is_busy


def test_no_thread_is_left_when_there_is_no_work():
    before = threading.active_count()
    workers = Workers(3)
    for number in range(6):
        workers.submit(number, lambda _: None)
    assert workers.join(5)
    assert threading.active_count() == before


def test_whoever_submitted_is_collected_when_the_last_task_has_ended():
    class Owner:
        def __init__(self):
            self.workers = Workers(1)
            self.ended = []

        def work(self, task):
            self.ended.append(task)

    owner = Owner()
    workers, ended, reference = owner.workers, owner.ended, weakref.ref(owner)
    for number in range(3):
        workers.submit(number, owner.work)
    del owner
    assert workers.join(5)
    gc.collect()
    assert ended == [0, 1, 2]
    assert reference() is None


def test_a_task_that_fails_harms_no_other(caplog):
    workers, seen = Workers(1), []

    def work(task):
        seen.append(task)
        raise SystemExit(task)

    for number in range(3):
        workers.submit(number, work)
    assert workers.join(5)
    assert seen == [0, 1, 2]
    assert "a job's thread failed" in caplog.text


def test_a_waiting_task_can_be_withdrawn_and_a_running_one_cannot():
    workers, seen, go_on, begun = Workers(1), [], threading.Event(), threading.Event()

    def work(task):
        begun.set()
        go_on.wait(5)
        seen.append(task)

    for name in ("running", "waiting", "last"):
        workers.submit(name, work)
    assert begun.wait(5)
    workers.withdraw("running")
    workers.withdraw("waiting")
    workers.withdraw("waiting")
    go_on.set()
    assert workers.join(5)
    assert seen == ["running", "last"]


def test_joining_gives_up_only_when_nothing_moves():
    workers, go_on = Workers(1), threading.Event()
    for number in range(4):
        workers.submit(number, lambda _: time.sleep(0.1))
    workers.submit("stuck", lambda _: go_on.wait(5))
    began = time.monotonic()
    assert not workers.join(0.3)
    assert time.monotonic() - began >= 0.6
    go_on.set()
    assert workers.join(5)


def test_after_closing_nothing_is_accepted():
    workers, go_on = Workers(1), threading.Event()
    workers.submit("live", lambda _: go_on.wait(5))
    assert workers.close() == ["live"]
    with pytest.raises(RequestError, match="closed"):
        workers.submit("late", lambda _: None)
    go_on.set()
    assert workers.join(5)


def test_a_task_for_which_no_thread_starts_is_refused_unless_another_takes_it(monkeypatch):
    workers, go_on, seen = Workers(2), threading.Event(), []
    workers.submit("first", lambda _: go_on.wait(5))

    def fail(_):
        msg = "can't start new thread"
        raise RuntimeError(msg)

    monkeypatch.setattr(threading.Thread, "start", fail)
    workers.submit("second", seen.append)
    go_on.set()
    assert workers.join(5)
    assert seen == ["second"]
    with pytest.raises(RunnerError, match="cannot start a thread"):
        workers.submit("third", seen.append)
    assert workers.join(1)


def held(workers, go_on):
    """Keep all places taken until `go_on`."""
    begun = threading.Event()

    def hold(_):
        begun.set()
        go_on.wait(10)

    workers.submit("held", hold)
    assert begun.wait(5)


def test_users_take_turns_and_the_tasks_of_one_stay_in_order():
    workers, go_on, seen = Workers(1), threading.Event(), []
    held(workers, go_on)
    for number in range(4):
        workers.submit(f"a{number}", seen.append, user="a")
    workers.submit("b0", seen.append, user="b")
    workers.submit("c0", seen.append, user="c")
    workers.submit("b1", seen.append, user="b")
    go_on.set()
    assert workers.join(5)
    assert seen == ["a0", "b0", "c0", "a1", "b1", "a2", "a3"]


def test_together_they_are_never_heavier_than_the_budget_and_nobody_overtakes():
    workers, now, most, order = Workers(8, budget=10), Counter(), [], []
    lock = threading.Lock()

    def work(task):
        with lock:
            order.append(task)
            now["weight"] += task[1]
            most.append(now["weight"])
        time.sleep(0.01)
        with lock:
            now["weight"] -= task[1]

    weights = [4, 9, 1, 1, 6, 5, 10, 3, 3, 3, 99, 2]
    for task in enumerate(weights):
        workers.submit(task, work, weight=task[1])
    assert workers.join(10)
    assert max(each for each in most if each != 99) <= 10
    assert 99 in most  # one alone always runs
    assert [each[0] for each in order if each[1] > 5] == [1, 4, 6, 10]


def test_a_smaller_budget_counts_from_the_next_task_on():
    workers, seen, go_on = Workers(4), [], threading.Event()
    for number in range(2):
        workers.submit(number, lambda _: go_on.wait(5), weight=5)
    workers.set_budget(10)
    workers.submit("waits", seen.append, weight=1)
    time.sleep(0.05)
    assert not seen
    workers.set_budget(11)
    assert within(5, lambda: seen)
    go_on.set()
    assert workers.join(5)


def test_withdrawing_one_that_has_no_room_lets_the_next_go():
    workers, go_on, seen = Workers(4, budget=10), threading.Event(), []
    workers.submit("held", lambda _: go_on.wait(5), weight=5)
    workers.submit("heavy", seen.append, weight=9)
    workers.submit("light", seen.append, weight=1)
    workers.withdraw("heavy")
    assert within(5, lambda: seen)
    assert seen == ["light"]
    go_on.set()
    assert workers.join(5)


def test_a_long_queue_and_a_storm_of_withdrawals_leave_nothing():
    workers, go_on, seen = Workers(1), threading.Event(), []
    held(workers, go_on)
    names = [f"task {number}" for number in range(20_000)]
    for number, name in enumerate(names):
        workers.submit(name, seen.append, user=f"user {number % 7}", weight=1)
    for name in reversed(names[100:]):
        workers.withdraw(name)
    go_on.set()
    assert workers.join(5)
    assert sorted(seen) == sorted(names[:100])
    assert not workers._waiting
    assert not workers._users
    assert not workers._live
    assert not workers._weight


def test_what_rests_keeps_its_weight_serves_its_group_and_is_evicted_for_others():
    workers, evicted, seen = Workers(4, budget=10), [], []

    def work(task):
        thing = workers.resumed(task) or f"new by {task}"
        seen.append((task, thing))
        workers.rest(task, "group", thing, lambda: evicted.append(thing))

    def do(task, work, **options):
        workers.submit(task, work, **options)
        assert workers.join(5)

    do("a", work, weight=6, group="group")
    do("b", work, weight=6, group="group")
    assert seen == [("a", "new by a"), ("b", "new by a")]
    do("light", seen.append, weight=4)
    assert not evicted
    do("heavy", seen.append, weight=5)
    assert evicted == ["new by a"]
    do("c", work, weight=6, group="group")
    assert seen[-1] == ("c", "new by c")
    assert (workers.forget("group"), workers.forget("group")) == (["new by c"], [])
    do("heaviest", seen.append, weight=10)
    assert evicted == ["new by a"]


def test_nothing_is_evicted_for_what_does_not_fit_all_the_same():
    workers, evicted, go_on, seen = Workers(4, budget=10), [], threading.Event(), []
    workers.submit("a", lambda task: workers.rest(task, "g", "thing", evicted.append), weight=3)
    assert workers.join(5)
    workers.submit("busy", lambda _: go_on.wait(5), weight=5)
    workers.submit("heavy", seen.append, weight=8)
    time.sleep(0.05)
    assert (seen, evicted) == ([], [])
    assert workers.forget("g") == ["thing"]
    go_on.set()
    assert workers.join(5)
    assert seen == ["heavy"]


def test_what_work_returns_is_called_when_its_task_has_ended_by_the_thread_of_the_next():
    workers, threads = Workers(4), []

    def work(number):
        threads.append(threading.get_ident())
        return (lambda: workers.submit(number + 1, work)) if number < 5 else None

    workers.submit(0, work)
    assert within(5, lambda: len(threads) == 6)
    assert (len(threads), len(set(threads))) == (6, 1)


def test_a_task_that_comes_as_an_idle_thread_leaves_is_done(monkeypatch):
    monkeypatch.setattr("runner.host.workers.IDLE_S", 0.001)
    workers, done = Workers(2), []
    for number in range(300):
        workers.submit(number, done.append)
        time.sleep(0.001)
    assert workers.join(5)
    assert done == list(range(300))
