"""The caller's end of an attempt: one last event, whatever the far end does or does not."""

import os
import threading
import time
import types

import pytest

from runner.errors import RequestError
from runner.job.record import JobRecord, LogEvent, Outcome
from runner.job.request import Request
from runner.nodes import ray_driver
from runner.policy.isolation import Isolation
from runner.programs import find
from runner.sites import ray as ray_engine
from runner.sites import ray_trust, slurm, stream
from runner.sites.cluster import identity
from runner.sites.engines import open_engine
from runner.sites.slurm import SlurmEngine
from runner.sites.stream import Stream
from runner.sites.wire import (
    End,
    Ended,
    Finished,
    Heartbeat,
    Hello,
    JobSpec,
    line_of,
    reply_line,
)
from sandbox.wire.protocol import JsonText
from tests.waiting import within

HELLO = line_of(Hello(node="n1", version="1"))
DONE = line_of(Finished(record=JobRecord(job="j", program="p", outcome=Outcome.COMPLETED)))


class FarEnd:
    """A node that says what a test wants, over two pipes."""

    def __init__(self):
        self.reader, self.says = os.pipe()
        self.hears, self.writer = os.pipe()
        self.hung_up = 0
        self.closed_after = None

    def say(self, data):
        os.write(self.says, data)

    def end(self):
        os.close(self.says)
        self.says = None

    def hang_up(self):
        self.hung_up += 1

    def close(self, patience_s):
        self.closed_after = patience_s
        for each in (self.reader, self.writer):
            os.close(each)

    def last_words(self):
        return "its last words"

    def clear(self):
        for each in (self.says, self.hears):
            if each is not None:
                os.close(each)


@pytest.fixture
def far():
    end = FarEnd()
    yield end
    end.clear()


def test_the_end_of_a_job_is_its_last_event(far):
    far.say(HELLO + line_of(Heartbeat()) + DONE + HELLO)
    kinds = [type(each) for each in Stream(far, b"{}\n").events()]
    assert kinds == [Hello, Heartbeat, Finished]
    assert far.closed_after is not None


def test_an_end_without_a_record_is_a_loss_that_names_the_node(far):
    far.say(HELLO + DONE[:-10])
    far.end()
    *_, last = Stream(far, b"{}\n").events()
    assert last.how is End.LOST
    assert "node n1 is lost: its last sign of life was at 20" in last.reason
    assert "its last words" in last.reason


def test_silence_before_any_node_is_an_end_where_signs_are_to_come(far, monkeypatch):
    monkeypatch.setattr(stream, "_TICK_S", 0.05)
    far.say(line_of(Heartbeat()))
    silent = Stream(far, b"{}\n", untaken=End.LOST, patience_s=0.2)
    sign, last = silent.events()
    assert sign == Heartbeat()
    assert last.how is End.LOST
    assert "no node has taken the job" in last.reason
    assert silent.is_lost


def test_a_job_that_is_still_being_handed_over_is_not_lost(far, monkeypatch):
    monkeypatch.setattr(stream, "_TICK_S", 0.05)
    line = b"x" * (1 << 19) + b"\n"

    def hear():
        heard = 0
        while heard < len(line):
            heard += len(os.read(far.hears, 1 << 16))
            time.sleep(0.05)  # 0.4 s in all, and something is taken all the time
        far.say(HELLO + DONE)

    thread = threading.Thread(target=hear)
    thread.start()
    events = list(Stream(far, line, patience_s=0.3).events())
    thread.join(10)
    assert isinstance(events[-1], Finished)


def test_an_end_before_any_node_has_the_job_is_no_loss(far):
    far.end()
    (last,) = Stream(far, b"{}\n").events()
    assert last == Ended(how=End.REFUSED, reason="no node has taken the job: its last words")


def test_a_loss_before_any_node_has_spoken_is_told_in_the_words_of_the_engine(far):
    far.say(line_of(Ended(how=End.LOST, reason="NodeDiedError: node ID: f61e")))
    running = Stream(far, b"{}\n", untaken=End.LOST)
    (last,) = running.events()
    assert last.how is End.LOST
    assert last.reason == "no node has taken the job: NodeDiedError: node ID: f61e"
    assert not running.is_lost  # its engine is well


def test_silence_is_a_loss(far, monkeypatch):
    monkeypatch.setattr(stream, "LOST_S", 0.3)
    monkeypatch.setattr(stream, "_TICK_S", 0.05)
    far.say(HELLO)
    *_, last = Stream(far, b"{}\n").events()
    assert last.how is End.LOST
    assert far.closed_after < 1


def test_silence_counts_only_while_somebody_listens(far, monkeypatch):
    monkeypatch.setattr(stream, "LOST_S", 0.3)
    monkeypatch.setattr(stream, "_TICK_S", 0.05)
    far.say(HELLO)
    events = Stream(far, b"{}\n").events()
    next(events)
    time.sleep(0.5)
    far.say(DONE)
    assert isinstance(next(events), Finished)


def test_a_node_that_talks_nonsense_is_lost(far):
    far.say(HELLO + b"nonsense\n")
    *_, last = Stream(far, b"{}\n").events()
    assert last.how is End.LOST
    assert "node n1 violates the protocol" in last.reason


def test_a_line_without_an_end_is_bounded(far, monkeypatch):
    monkeypatch.setattr(stream, "MAX_LINE_BYTES", 1000)
    far.say(b"x" * 2000)
    (last,) = Stream(far, b"{}\n").events()
    assert last.how is End.LOST


def test_a_large_specification_is_sent_while_the_node_speaks(far):
    line = b"x" * (1 << 20) + b"\n"
    heard = bytearray()

    def hear():
        while not heard.endswith(b"\n"):
            heard.extend(os.read(far.hears, 1 << 16))
        far.say(HELLO + DONE)

    thread = threading.Thread(target=hear)
    thread.start()
    assert isinstance(list(Stream(far, line).events())[-1], Finished)
    thread.join(10)
    assert heard == line


def test_cancel_is_a_line_for_a_node_and_a_hang_up_before_there_is_one(far):
    far.say(HELLO)
    running = Stream(far, b"{}\n")
    events = running.events()
    next(events)
    far.say(line_of(Heartbeat()))
    next(events)  # by now the specification has been sent
    running.cancel()
    running.cancel()
    os.set_blocking(far.hears, False)
    assert os.read(far.hears, 1000) == b"{}\n" + stream.CANCEL_LINE
    assert not far.hung_up
    waiting = FarEnd()
    try:
        Stream(waiting, b"{}\n").cancel()
        assert waiting.hung_up == 1
    finally:
        waiting.close(0)
        waiting.clear()


def test_an_answer_arrives_whole_however_slowly_a_node_reads(far):
    far.say(HELLO + line_of(Heartbeat()))
    running = Stream(far, b"{}\n")
    events = running.events()
    next(events)
    next(events)  # by now the specification has been sent
    line = reply_line(1, JsonText('"' + "x" * 300_000 + '"'))  # more than a pipe holds
    answering = threading.Thread(target=running.answer, args=(line,))
    answering.start()
    heard = b""
    while len(heard) < len(line) + len(b"{}\n"):
        heard += os.read(far.hears, 10_000)
    answering.join(10)
    assert heard == b"{}\n" + line


def test_a_cancellation_stands_in_no_answer(far, monkeypatch):
    """Where the node does not read one, it is cut off instead."""
    monkeypatch.setattr(stream, "_TICK_S", 0.05)
    far.say(HELLO + line_of(Heartbeat()))
    running = Stream(far, b"{}\n")
    events = running.events()
    next(events)
    next(events)
    line = reply_line(1, JsonText('"' + "x" * 300_000 + '"'))
    answering = threading.Thread(target=running.answer, args=(line,))
    answering.start()
    assert within(10, running._answering.locked)
    running.cancel()
    answering.join(10)
    assert not answering.is_alive()
    assert far.hung_up == 1


def test_a_node_that_reads_no_answer_is_cut_off(far, monkeypatch):
    monkeypatch.setattr(stream, "_TICK_S", 0.05)
    monkeypatch.setattr(stream, "_ANSWER_S", 0.2)
    running = Stream(far, b"{}\n")
    running.answer(b"x" * 300_000)
    assert far.hung_up == 1


def test_a_cancelled_job_that_ends_without_a_record_is_cancelled(far):
    waiting = Stream(far, b"{}\n")
    waiting.cancel()
    far.end()
    (last,) = waiting.events()
    assert last.how is End.CANCELLED


def test_a_node_that_ignores_a_cancellation_is_cut_off(far, monkeypatch):
    monkeypatch.setattr(stream, "_CANCEL_S", 0.1)
    monkeypatch.setattr(stream, "_TICK_S", 0.05)
    far.say(HELLO)
    events = (running := Stream(far, b"{}\n")).events()
    next(events)
    running.cancel()
    (last,) = events
    assert last.how is End.CANCELLED


# --- whom Ray would obey ----------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "127.3.2.1"])
def test_loopback_needs_no_token(host, monkeypatch):
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    ray_trust.check_trust(host)


@pytest.mark.parametrize("host", ["10.0.0.1", "head.example", "0.0.0.0", "::"])
def test_a_cluster_that_others_reach_must_ask_for_a_token(host, monkeypatch):
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with pytest.raises(RequestError, match="RAY_AUTH_MODE=token"):
        ray_trust.check_trust(host)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(RequestError, match="RAY_AUTH_MODE=token"):
        ray_trust.check_trust(host)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    ray_trust.check_trust(host)


def test_a_token_that_nobody_looks_at_is_no_protection(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    asked = []

    def answer(found):
        return lambda address: asked.append(address) or found

    monkeypatch.setattr(ray_trust, "asks_for_a_token", answer(False))
    ray_trust.check_nodes(["127.0.0.1"], "127.0.0.1:1")
    assert not asked
    with pytest.raises(RequestError, match=r"10\.0\.0\.1 can be reached .* without a token"):
        ray_trust.check_nodes(["127.0.0.1", "10.0.0.1"], "127.0.0.1:1")
    monkeypatch.setattr(ray_trust, "asks_for_a_token", answer(True))
    ray_trust.check_nodes(["127.0.0.1", "10.0.0.1"], "127.0.0.1:1")


def test_ray_is_asked_for_by_an_address_that_can_be_one(monkeypatch, tmp_path):
    monkeypatch.setattr(ray_engine, "_check_installed", lambda: None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert open_engine("ray://127.0.0.1:6379").address == "127.0.0.1:6379"
    with pytest.raises(RequestError, match="HOST:PORT"):
        open_engine("ray://head")
    with pytest.raises(RequestError, match="no Ray cluster runs on this machine"):
        open_engine("ray")
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:7000")
    assert open_engine("ray").address == "127.0.0.1:7000"
    with pytest.raises(RequestError, match="unknown cluster 'dask': known are ray"):
        open_engine("dask")


def test_the_extra_asks_for_the_versions_that_are_accepted():
    import tomllib
    from pathlib import Path

    from packaging.requirements import Requirement

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    for extra in ("ray", "dev"):
        wanted = map(Requirement, project["optional-dependencies"][extra])
        (ray,) = [each for each in wanted if each.name == "ray"]
        assert ray.specifier == ray_engine.VERSIONS


# --- engines ----------------------------------------------------------------------------------


def test_the_ray_driver_knows_the_last_batch_of_a_node():
    assert ray_driver._is_last(DONE)
    assert ray_driver._is_last(HELLO + DONE)
    assert ray_driver._is_last(line_of(Ended(how=End.REFUSED, reason="x")))
    assert not ray_driver._is_last(HELLO)
    said = LogEvent(stream="stderr", text='\n{"event": "finished"')
    assert not ray_driver._is_last(line_of(said))


SRUN = """#!/bin/sh
echo "$@" > {directory}/arguments
cat {directory}/said
"""
SINFO = """#!/bin/sh
printf 'n1|2|4096|idle\\nn2|4+|8192+|mixed\\nn3|64|1|down*\\nn2|4|8192|mixed\\nnonsense\\n'
"""


@pytest.fixture
def slurm_job(tmp_path, monkeypatch):
    """Run a job whose node says something; return the options of `srun` that exclude nodes."""
    for name, text in (("srun", SRUN), ("sinfo", SINFO), ("scancel", "#!/bin/sh\n")):
        (tmp_path / name).write_text(text.format(directory=tmp_path))
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "p.py").write_text("def main(backend, user_messenger): ...\n")
    spec = JobSpec(
        job="j",
        attempt=1,
        version=identity(),
        program=find(tmp_path / "p.py"),
        request=Request(program="p"),
        isolation=Isolation.RUNC,
    )

    def run(engine, said):
        (tmp_path / "said").write_bytes(said)
        list(engine.events(engine.submit(spec)))
        arguments = (tmp_path / "arguments").read_text().split()
        return [each for each in arguments if each.startswith("--exclude")]

    return run


def test_slurm_counts_the_nodes_that_are_up(slurm_job):
    found = {
        each.name: (each.cpus, each.memory_bytes >> 20) for each in SlurmEngine().capacity().nodes
    }
    assert found == {"n1": (2.0, 4096), "n2": (4.0, 8192)}


def test_slurm_gives_no_job_to_nodes_that_were_lost_but_leaves_one(slurm_job, monkeypatch):
    now = 1000.0
    monkeypatch.setattr(slurm, "time", types.SimpleNamespace(monotonic=lambda: now))
    engine = SlurmEngine()
    lost, done = (
        [line_of(Hello(node=node, version="1")) + end for node in ("n1", "n2")]
        for end in (b"", DONE)
    )
    engine.capacity()
    assert slurm_job(engine, done[0]) == []
    slurm_job(engine, lost[0])
    assert slurm_job(engine, done[1]) == ["--exclude=n1"]
    now += 200
    slurm_job(engine, lost[1])
    assert slurm_job(engine, done[0]) == []  # one of them may be back, and there is no other
    now += 200
    assert slurm_job(engine, done[0]) == ["--exclude=n2"]
    now += 200
    assert slurm_job(engine, done[0]) == []
    engine.close()
