"""Jobs in asyncio code: `await job`, `async for` over its messages, and what cancelling means."""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import threading
import time

import pytest

from runner.errors import JobFailedError
from runner.job import Job
from runner.job.history import History
from runner.job.record import MessageEvent
from runner.job.waiting import Sleeper
from sandbox.wire.protocol import JsonText
from tests.unit.test_job import completed, failed, make_life

DEADLINE_S = 20


def later(action, seconds=0.05):
    thread = threading.Timer(seconds, action)
    thread.start()
    return thread


async def value_of(job):
    return await job


def sleepers():
    """Count what coroutines wait with, anywhere in this process."""
    gc.collect()
    return sum(type(each) is Sleeper for each in gc.get_objects())


def test_a_job_is_awaited_by_several_while_others_get_on():
    async def main():
        job, turns = Job(life := make_life()), 0
        tasks = [asyncio.ensure_future(job) for _ in range(3)]
        threads = threading.active_count()
        await asyncio.sleep(0)
        assert sleepers() == 3
        assert threading.active_count() <= threads  # one of an earlier test may end meanwhile
        timer = later(lambda: life.finish(completed("[1]")))
        while not all(each.done() for each in tasks):
            turns += 1
            await asyncio.sleep(0.001)
        timer.join()
        assert turns > 5
        assert [each.result() for each in tasks] == [[1]] * 3
        assert await job == [1], "one that has ended long ago"
        assert sleepers() == 0

    asyncio.run(asyncio.wait_for(main(), DEADLINE_S))


def test_jobs_are_gathered_as_any_awaitable():
    async def main():
        first, second = make_life(), make_life()
        timers = [later(lambda: first.finish(completed("1")), 0.05)]
        timers.append(later(lambda: second.finish(completed("2")), 0.02))
        assert await asyncio.gather(Job(first), Job(second)) == [1, 2]
        for each in timers:
            each.join()

    asyncio.run(asyncio.wait_for(main(), DEADLINE_S))


def test_a_failed_job_raises_what_result_raises():
    job = Job(life := make_life())
    life.finish(failed(traceback="Traceback: x"))

    async def main():
        with pytest.raises(JobFailedError, match="Traceback: x") as caught:
            await job
        assert caught.value.outcome == "program_error"

    asyncio.run(main())


def test_cancelling_who_awaits_leaves_the_job_alive():
    calls = []
    job = Job(life := make_life(on_cancel=lambda: calls.append(1)))

    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await job
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(job, 0.02)
        task = asyncio.ensure_future(job)
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert sleepers() == 0
    assert not calls
    assert not life.is_cancelled
    life.finish(completed("3"))
    assert job.result(0) == 3


def test_a_job_outlives_the_loop_in_which_it_was_awaited():
    job = Job(life := make_life())
    loop = asyncio.new_event_loop()
    task = loop.create_task(value_of(job))
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()  # as a notebook's may be, whoever waits in it
    life.add_message(JsonText("0"))
    life.finish(completed("4"))
    assert asyncio.run(value_of(job)) == 4
    assert not task.done()
    task._log_destroy_pending = False
    task.get_coro().close()
    del task
    gc.collect()


def test_a_callback_that_is_behind_is_waited_for_but_blocks_nobody():
    async def main():
        job, turns, seen = Job(life := make_life()), 0, []
        life.delivery.expect()
        life.add_message(JsonText("0"))
        life.finish(completed("1"))
        slow = threading.Event()

        def callback(_, message):
            slow.wait(DEADLINE_S)
            seen.append(message)

        thread = threading.Thread(
            target=life.delivery.deliver, args=(callback, callback, lambda: None)
        )
        thread.start()
        task = asyncio.ensure_future(job)
        while turns < 20:
            turns += 1
            await asyncio.sleep(0.001)
        assert not task.done()
        slow.set()
        assert await task == 1
        thread.join(DEADLINE_S)
        assert seen == [0, 1]

    asyncio.run(asyncio.wait_for(main(), DEADLINE_S))


def test_messages_are_read_by_coroutines_live_and_late():
    job = Job(life := make_life())

    def talk():
        for number in range(1000):
            life.add_message(JsonText(str(number)))
            if number % 100 == 0:
                time.sleep(0.002)
        life.finish(completed())

    async def read(start):
        return [message async for message in job.messages(start)]

    async def main():
        timer = later(talk, 0.01)
        live = await asyncio.gather(read(0), read(990), read(0))
        timer.join()
        assert live == [list(range(1000)), list(range(990, 1000)), list(range(1000))]
        assert await read(998) == [998, 999]
        async for message in job.messages():
            if message == 2:
                break

    asyncio.run(asyncio.wait_for(main(), DEADLINE_S))
    assert sleepers() == 0


def test_reading_does_not_keep_others_waiting():
    job, turns = Job(life := make_life()), 0
    for number in range(20_000):
        life.add_message(JsonText(str(number)))
    life.finish(completed())

    async def count():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def main():
        counting = asyncio.ensure_future(count())
        async for _ in job.messages():
            pass
        counting.cancel()

    asyncio.run(asyncio.wait_for(main(), DEADLINE_S))
    assert turns > 20


def test_reading_large_messages_does_not_keep_others_waiting_either():
    job, turns, seen = Job(life := make_life()), 0, []
    for _ in range(9):
        life.add_message(JsonText(json.dumps("x" * (1 << 17))))
    life.finish(completed())

    async def count():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def main():
        counting = asyncio.ensure_future(count())
        seen.extend([turns async for _ in job.messages()])
        counting.cancel()

    asyncio.run(asyncio.wait_for(main(), DEADLINE_S))
    assert len(set(seen)) == len(seen) == 9, "others get their turn between any two of them"


def test_messages_are_an_iterator_as_well():
    job = Job(life := make_life())
    life.add_message(JsonText("0"))
    life.add_message(JsonText("1"))
    life.finish(completed())
    messages = job.messages()
    assert next(messages) == 0
    assert list(messages) == [1]
    with pytest.raises(StopIteration):
        next(messages)


def test_events_that_are_kept_are_loaded_for_coroutines_too():
    event = MessageEvent(seq=0, time=0.0, body=JsonText("7"))
    history = History(load=lambda: [event])

    async def main():
        return [each async for each in history.events_async(last_attempt=True)]

    assert asyncio.run(main()) == [event]


def test_who_awaits_nothing_does_not_import_asyncio():
    code = "import sys, runner.job; sys.exit('asyncio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_however_many_wait_their_loop_is_told_once(monkeypatch):
    async def main():
        history, told, loop = History(), [], asyncio.get_running_loop()
        call = loop.call_soon_threadsafe
        monkeypatch.setattr(
            loop, "call_soon_threadsafe", lambda *given: told.append(given) or call(*given)
        )

        async def first():
            return await anext(history.events_async())

        waiting = [asyncio.ensure_future(first()) for _ in range(100)]
        await asyncio.sleep(0)
        history.add_message(JsonText("1"))
        history.add_message(JsonText("2"))
        assert len(told) == 1
        found = await asyncio.gather(*waiting)
        assert {each.body for each in found} == {"1"}

    asyncio.run(asyncio.wait_for(main(), DEADLINE_S))
