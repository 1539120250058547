"""Interim results, the final result, and their limits."""

import json
import os

import pytest

from sandbox import codec
from sandbox.wire import protocol
from tests.contract.guest import Guest, run

PUBLISHES = """
    def main(backend, user_messenger, iterations=3, **kwargs):
        for index in range(iterations):
            user_messenger.publish({"index": index})
        return "All done!"
"""


def test_messages_come_in_order_and_before_the_result(carrier):
    report = run(PUBLISHES, carrier=carrier, inputs={"iterations": 4})

    ready = report.ready
    assert (ready.protocol, ready.build) == (protocol.PROTOCOL_VERSION, "unbuilt")
    assert f"kernel {os.uname().release}" in ready.seen.splitlines()
    assert [each.body for each in report.messages] == [f'{{"index":{n}}}' for n in range(4)]
    assert report.last == [protocol.Result(job=7, messages=4, done=True, value='"All done!"')]
    assert report.exited.job == 7
    assert report.exited.status == 0


def test_the_carrier_is_stdio_where_there_is_no_socket():
    missing = ("--socket", "/nowhere/channel")
    with Guest(PUBLISHES, carrier=None, arguments=missing) as guest:
        guest.send()
        assert len(guest.report().messages) == 3


def test_the_socket_is_needed_where_it_is_asked_for():
    with Guest(PUBLISHES, carrier="stdio", arguments=("--carrier", "socket")) as guest:
        assert guest.wait_for_frame(protocol.Exited).status == 70
        guest.wait_for_log("FileNotFoundError")


def test_the_carrier_is_the_socket_where_there_is_one():
    with Guest(PUBLISHES, carrier=None) as guest:
        assert isinstance(protocol.decode(guest.connect().recv(4000)[:-1]), protocol.Ready)


def test_values_arrive_as_they_are(carrier):
    source = """
        import datetime
        def main(backend, user_messenger, given):
            user_messenger.publish({"text": "ü\\n\\u2028", 1: None})
            assert given == (1, {2.5, 3j}), given
            return [given, float("inf"), b"bytes", datetime.date(2021, 5, 1)]
    """
    inputs = codec.to_data({"given": (1, {2.5, 3j})})
    report = run(source, carrier=carrier, inputs=inputs)

    import datetime

    assert codec.decode(report.messages[0].body) == {"text": "ü\n\u2028", 1: None}
    assert codec.decode(report.value) == [
        (1, {2.5, 3j}),
        float("inf"),
        b"bytes",
        datetime.date(2021, 5, 1),
    ]


def test_an_own_encoder_is_used_and_made_strict(carrier):
    source = """
        import json
        class Encoder(json.JSONEncoder):
            def default(self, value):
                return {"__type__": "settings", "name": type(value).__name__}
        class Circuit: pass
        def main(backend, user_messenger):
            user_messenger.publish({"c": Circuit(), "nan": float("nan")}, encoder=Encoder)
            user_messenger.publish((1, 2), json.JSONEncoder)
            try:
                user_messenger.publish(Circuit(), encoder=json.JSONEncoder)
            except TypeError as error:
                return str(error)
    """
    report = run(source, carrier=carrier)

    assert json.loads(report.messages[0].body) == {
        "c": {"__type__": "settings", "name": "Circuit"},
        "nan": {"__type__": "float", "__value__": "nan"},
    }
    assert report.messages[1].body == "[1,2]"
    assert "Circuit" in report.value


def test_a_published_final_result_goes_out_at_once(carrier):
    source = """
        import sys
        def main(backend, user_messenger):
            user_messenger.publish("interim")
            user_messenger.publish({"energy": -1.5}, final=True)
            user_messenger.publish("afterwards")
            print("went on")
    """
    report = run(source, carrier=carrier)

    assert report.last == [
        protocol.Result(job=7, messages=1, done=False, value='{"energy":-1.5}'),
        protocol.Done(job=7, messages=2),
    ]
    assert "went on" in report.log


@pytest.mark.parametrize("second", ["user_messenger.publish(2, final=True)", "return 2"])
def test_a_second_final_result_is_named_and_dropped(carrier, second):
    source = f"""
        def main(backend, user_messenger):
            user_messenger.publish(1, final=True)
            {second}
    """
    report = run(source, carrier=carrier)

    result, done = report.last
    assert result.value == "1"
    assert isinstance(done, protocol.Done)
    assert "the first result stands" in done.note
    assert done.note in report.log


def test_raising_after_the_final_result_is_a_fault(carrier):
    source = """
        def main(backend, user_messenger):
            user_messenger.publish(1, final=True)
            raise RuntimeError("too late")
    """
    result, fault = run(source, carrier=carrier).last

    assert result.value == "1"
    assert (fault.kind, fault.error) == ("program_error", "RuntimeError: too late")


@pytest.mark.parametrize(
    ("limits", "publish", "limit", "observed", "sent"),
    [
        ({"message_bytes": 10}, '"x" * 9', "message_bytes", 11, 0),
        ({"messages_bytes": 10}, '"xx"', "messages_bytes", 12, 2),
        ({"messages": 3}, "1", "messages", 4, 3),
    ],
)
def test_a_message_over_a_limit_raises_inside(carrier, limits, publish, limit, observed, sent):
    source = f"""
        def main(backend, user_messenger):
            while True:
                user_messenger.publish({publish})
    """
    report = run(source, carrier=carrier, limits=limits)

    fault = report.fault
    assert fault.kind == "message_limit"
    assert (fault.limit, fault.value, fault.observed) == (limit, limits[limit], observed)
    assert fault.messages == len(report.messages) == sent
    assert "MessageLimitError" in fault.error
    assert str(observed) in fault.error
    assert "user_messenger.publish" in fault.traceback


def test_a_limit_can_be_caught(carrier):
    source = """
        def main(backend, user_messenger):
            try:
                user_messenger.publish("x" * 100)
            except ValueError as error:
                return [error.limit, error.value, error.observed]
    """
    report = run(source, carrier=carrier, limits={"message_bytes": 100})
    assert json.loads(report.value) == ["message_bytes", 100, 102]


@pytest.mark.parametrize("end", ["return 'x' * 99", "user_messenger.publish('x' * 99, final=True)"])
def test_a_result_over_its_limit(carrier, end):
    source = f"""
        def main(backend, user_messenger):
            {end}
    """
    fault = run(source, carrier=carrier, limits={"result_bytes": 100}).fault
    assert fault.kind == "result_limit"
    assert (fault.limit, fault.value, fault.observed) == ("result_bytes", 100, 101)


@pytest.mark.parametrize("end", ["return value", "user_messenger.publish(value, final=True)"])
def test_a_result_that_cannot_be_carried_names_the_path(carrier, end):
    source = f"""
        def main(backend, user_messenger):
            value = {{"a": [0, 1, 2, (x for x in ())]}}
            {end}
    """
    fault = run(source, carrier=carrier).fault
    assert fault.kind == "result_error"
    assert "result['a'][3]: cannot carry a generator" in fault.error


def test_an_interim_result_that_cannot_be_carried_is_the_programs_error(carrier):
    source = """
        def main(backend, user_messenger):
            user_messenger.publish([object()])
    """
    fault = run(source, carrier=carrier).fault
    assert fault.kind == "program_error"
    assert fault.error == "EncodingError: message[0]: cannot carry an object"
    assert "user_messenger.publish([object()])" in fault.traceback


def test_threads_and_forked_children_publish_whole_frames(carrier):
    source = """
        import os, threading
        def main(backend, user_messenger):
            def publish(name):
                for size in (1, 70_000, 3, 200_000):
                    user_messenger.publish(name * size)
            children = []
            for name in "ab":
                pid = os.fork()
                if pid == 0:
                    publish(name)
                    os._exit(0)
                children.append(pid)
            threads = [threading.Thread(target=publish, args=[name]) for name in "cd"]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            for child in children: os.waitpid(child, 0)
    """
    report = run(source, carrier=carrier)

    sizes = sorted((each.body[1], len(each.body) - 2) for each in report.messages)
    assert sizes == [(name, size) for name in "abcd" for size in (1, 3, 70_000, 200_000)]
    assert report.last == [protocol.Result(job=7, messages=16, done=True, value="null")]


def test_a_signal_handler_that_raises_does_not_tear_a_frame(carrier):
    source = """
        import signal
        class Alarm(BaseException): pass
        def ring(*_): raise Alarm
        signal.signal(signal.SIGALRM, ring)
        def main(backend, user_messenger):
            alarms = 0
            text = "x" * 900_000
            for index in range(50):
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0.0001 + 0.0002 * index)
                    user_messenger.publish(text)
                    signal.setitimer(signal.ITIMER_REAL, 0)
                except Alarm:
                    alarms += 1
            user_messenger.publish(text)
            return alarms
    """
    report = run(source, carrier=carrier)

    assert {len(each.body) for each in report.messages} == {900_002}
    assert len(report.messages) == report.last[0].messages
    assert int(report.value) > 0


def test_publish_waits_for_a_host_that_does_not_read(carrier):
    source = """
        import time
        def main(backend, user_messenger):
            for index in range(50):
                user_messenger.publish("x" * 100_000)
                print("published", index)
    """
    if carrier == "stdio":
        pytest.skip("the driver always reads stdout")
    with Guest(source) as guest:
        connection = guest.connect()
        guest.send()
        guest.wait_for_log("published 0")
        assert not guest.wait_for_log("published 0").count("published 49")
        guest.pump("socket", connection.fileno())
        assert len(guest.report().messages) == 50


def test_a_closed_socket_raises_inside():
    source = """
        def main(backend, user_messenger):
            try:
                while True:
                    user_messenger.publish("x")
            except OSError as error:
                return type(error).__name__
    """
    with Guest(source) as guest:
        connection = guest.connect()
        connection.recv(1000)
        connection.close()
        guest.send()
        assert guest.wait_for_frame(protocol.Result).value == '"BrokenPipeError"'


def test_a_final_result_from_a_thread_in_the_last_moment(carrier):
    source = """
        import threading
        def main(backend, user_messenger):
            def publish():
                user_messenger.publish("thread", final=True)
                while True:
                    user_messenger.publish("more")
            threading.Thread(target=publish, daemon=True).start()
            return "main"
    """
    report = run(source, carrier=carrier)
    values = [each.value for each in report.last if isinstance(each, protocol.Result)]
    assert values in (['"thread"'], ['"main"'])
    assert report.last[-1].messages == len(report.messages)
    assert sum(isinstance(each, protocol.Done) or each.done for each in report.last) == 1


def test_an_object_that_holds_the_messenger_is_copied_and_sent_to_pools():
    source = """
        import copy
        import multiprocessing
        import pickle

        class Solver:
            def __init__(self, messenger):
                self.messenger = messenger
            def step(self, number):
                self.messenger.publish(number)
                return number * 2

        def main(backend, user_messenger):
            solver = Solver(user_messenger)
            copies = [copy.copy(solver), copy.deepcopy(solver), pickle.loads(pickle.dumps(solver))]
            with multiprocessing.get_context("fork").Pool(2) as pool:
                doubled = pool.map(solver.step, range(4))
            return [all(each.messenger is user_messenger for each in copies), doubled]
    """
    report = run(source)
    assert json.loads(report.value) == [True, [0, 2, 4, 6]]
    assert sorted(int(each.body) for each in report.messages) == [0, 1, 2, 3]
