"""The wire: golden lines, and a decoder that is total, split-invariant and bounded."""

import itertools
import json
import string
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sandbox.wire import protocol
from sandbox.wire.protocol import (
    Cell,
    Done,
    Exited,
    Fault,
    FrameReader,
    Message,
    ProtocolError,
    Ready,
    Result,
    Run,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "wire"

FRAMES = {
    "ready": [
        Ready(protocol=1, build="unbuilt"),
        Ready(protocol=2, build="sha256:0f", seen="kernel 6.12.9\n/proc/keys tmpfs rw\n"),
        Ready(protocol=3, build="sha256:0f", cell=7),
    ],
    "message": [
        Message(job=0, body='{"iteration":0,"counts":{"00000":512,"10110":512}}'),
        Message(job=7, body="null"),
        Message(job=0, body='{"__type__":"float","__value__":"nan"}'),
        Message(job=0, body='"\\u00fc\\u2028"'),
    ],
    "result": [
        Result(job=0, messages=5, done=True, value='"All done!"'),
        Result(job=0, messages=0, done=False, value="[[],{}]"),
    ],
    "done": [
        Done(job=0, messages=3),
        Done(job=0, messages=3, note="main returned a value after a final result was published"),
    ],
    "file": [protocol.File(job=0, name="deep/a.csv", content="MSwyCg==")],
    "fault": [
        Fault(
            job=0,
            messages=2,
            kind="program_error",
            error="TypeError: ü",
            traceback='Traceback (most recent call last):\n  File "/program/program.py"',
        ),
        Fault(
            job=0,
            messages=2,
            kind="message_limit",
            error="MessageLimitError: number of messages",
            limit="messages",
            value=2,
            observed=3,
        ),
    ],
    "exited": [
        Exited(job=0, status=-9, oom_kills=1, cpu_us=5, memory_peak_bytes=4096),
        Exited(job=0, status=3),
    ],
    "cleared": [
        protocol.Cleared(
            token="0f",
            job=3,
            status=-9,
            cpu_us=1500,
            memory_peak_bytes=70 << 20,
            oom_kills=1,
            process_limit_hits=0,
        )
    ],
    "next": [protocol.Next(job=3, wall_s=300.0, token="0f")],
    "stop": [protocol.Stop(job=3)],
    "pause": [protocol.Pause(job=3, at_most_s=60.0)],
    "resume": [protocol.Resume(job=3)],
    "call": [
        protocol.Call(
            job=3, call=7, verb="run", signature="0f", body=protocol.JsonText('{"circuits":[1]}')
        )
    ],
    "parcel": [protocol.Parcel(job=3, size=38)],
    "reply": [protocol.Reply(job=3, call=7, body=protocol.JsonText('{"answer":"\\u00fc"}'))],
    "run": [
        Run(job=0, entry="program.py", inputs={}, backend={"name": "aer_simulator"}),
        Run(
            job=0,
            entry="program.py",
            inputs={"iterations": 5, "ü": {"__type__": "set", "__value__": [1]}},
            backend={"name": "aer_simulator", "options": {"seed_simulator": 1}},
            options={"log_level": "INFO"},
            limits={"wall_s": 300.0, "messages": 100000},
        ),
    ],
    "cell": [Cell(number=7, tmp_bytes=1 << 26, tmp_inodes=4096, shm_bytes=0, shm_inodes=1)],
}


ORDERS = {
    "cell": protocol.decode_cell,
    "run": protocol.decode_run,
    "next": protocol.decode_order,
    "stop": protocol.decode_order,
    "pause": protocol.decode_order,
    "resume": protocol.decode_order,
    "parcel": protocol.decode_order,
}


@pytest.mark.parametrize("kind", FRAMES)
def test_the_wire_is_as_it_always_was(kind):
    golden = (GOLDEN / f"{kind}.jsonl").read_bytes()
    assert b"".join(map(protocol.encode, FRAMES[kind])) == golden
    if kind == "reply":  # is passed on, and never a frame of its own to whoever reads it
        return
    decode = ORDERS.get(kind, protocol.decode)
    assert [decode(line) for line in golden.splitlines()] == FRAMES[kind]


def test_every_frame_has_golden_lines():
    assert {path.stem for path in GOLDEN.iterdir()} == set(FRAMES)
    kinds = {type(frame) for frames in FRAMES.values() for frame in frames}
    assert kinds == {*protocol.Frame.__args__, *protocol.Order.__args__}


ORDERED = [*FRAMES["next"], *FRAMES["pause"], *FRAMES["resume"], *FRAMES["stop"]]


@given(st.lists(st.integers(1, 60), max_size=20))
def test_the_pieces_in_which_orders_arrive_make_no_difference(sizes):
    frames = [*ORDERED[:2], *FRAMES["reply"], *ORDERED[2:], *FRAMES["reply"]]
    reader, rest, found = protocol.OrderReader(), b"".join(map(protocol.encode, frames)), []
    for size in sizes:
        found += reader.feed(rest[:size])
        rest = rest[size:]
    found += reader.feed(rest)
    assert [each for each in found if not isinstance(each, bytes)] == ORDERED
    assert b"".join(each for each in found if isinstance(each, bytes)) == 2 * (
        FRAMES["reply"][0].line
    )


def test_an_order_without_an_end_is_refused():
    reader = protocol.OrderReader()
    assert list(reader.feed(b"x" * protocol.MAX_ORDER_BYTES)) == []
    with pytest.raises(ProtocolError, match="more than 4096 bytes"):
        list(reader.feed(b"x"))


def test_a_parcel_may_be_longer_than_an_order():
    reply = protocol.Reply(job=0, call=1, body=protocol.JsonText(f'"{"x" * 10_000}"'))
    pieces = list(protocol.OrderReader().feed(protocol.encode(reply)))
    assert b"".join(pieces) == reply.line


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
PAYLOADS = JSON.map(lambda value: json.dumps(value, separators=(",", ":")))
NUMBERS = st.integers(0, 999_999_999)
TEXTS = st.text()
ANY_FRAME = st.one_of(
    st.builds(Ready, protocol=st.integers(), build=TEXTS),
    st.builds(Message, job=NUMBERS, body=PAYLOADS),
    st.builds(Result, job=NUMBERS, messages=NUMBERS, done=st.booleans(), value=PAYLOADS),
    st.builds(Done, job=st.integers(), messages=st.integers(), note=st.none() | TEXTS),
    st.builds(
        Fault,
        job=st.integers(),
        messages=st.integers(),
        kind=TEXTS,
        error=TEXTS,
        traceback=st.none() | TEXTS,
        limit=st.none() | TEXTS,
        value=st.none() | st.integers(),
        observed=st.none() | st.integers(),
    ),
    st.builds(Exited, job=st.integers(), status=st.integers(), oom_kills=st.none() | st.integers()),
)


@given(ANY_FRAME)
def test_every_frame_comes_back(frame):
    line = protocol.encode(frame)
    assert line.count(b"\n") == 1
    assert protocol.decode(line[:-1]) == frame


@given(st.lists(ANY_FRAME, max_size=8), st.lists(st.integers(0, 2000), max_size=20))
def test_the_pieces_make_no_difference(frames, cuts):
    stream = b"".join(map(protocol.encode, frames))
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    reader = FrameReader(1 << 20)
    pieces = [stream[start:end] for start, end in itertools.pairwise(edges)]
    assert [frame for piece in pieces for frame in reader.feed(piece)] == frames
    assert reader.is_empty


KEYS = st.sampled_from(["type", "job", "messages", "done", "value", "body", "status", "x"])
NEARLY = st.dictionaries(KEYS, JSON | st.sampled_from(["ready", "done", "exited", "message"]))
MUTATED = st.builds(
    lambda frame, at, what: (
        (line := protocol.encode(frame)[:-1])[: at % (len(line) + 1)]
        + what
        + line[at % (len(line) + 1) + 1 :]
    ),
    ANY_FRAME,
    st.integers(0, 10_000),
    st.binary(max_size=4),
)


@given(st.binary() | NEARLY.map(lambda value: json.dumps(value).encode()) | MUTATED)
@example(b"")
@example(b"{}")
@example(b"[" * 100_000)
@example(b'{"type":"message","job":0,"body":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
@example(b'{"type":"message","job":0,"body":' + b"9" * 5000 + b"}")
@example(b'{"type":"exited","job":0,"status":' + b"9" * 5000 + b',"oom_kills":null}')
@example('{"type":"ready"}'.encode("utf-16"))
def test_decoding_is_total(line):
    try:
        frame = protocol.decode(line)
    except ProtocolError:
        return
    assert isinstance(frame, protocol.Frame)


@given(st.binary(max_size=300))
def test_reading_is_total_and_bounded(data):
    reader = FrameReader(64)
    try:
        for frame in reader.feed(data):
            assert isinstance(frame, protocol.Frame)
    except ProtocolError:
        return
    assert len(reader._buffer) <= 64


def line(body):
    return b'{"type":"message","job":0,"body":' + body + b"}"


@pytest.mark.parametrize(
    "body",
    [
        b"NaN",
        b"-Infinity",
        b"1e999",
        b"-1E+0999",
        b"9" * 299 + b"e10",
        b"[" * 65 + b"]" * 65,
        b"1,2",
        b'1,"body":2',
        b"",
        b"tru",
        b'"\xff"',
        b'"\x00"',
        b"'x'",
        b"01",
        b"9" * 4301,
        b"[" + b"," * protocol.MAX_NODES + b"]",
    ],
)
def test_a_payload_that_is_not_strict_json(body):
    with pytest.raises(ProtocolError):
        protocol.decode(line(body))


@pytest.mark.parametrize(
    "body", [b"[" * 64 + b"]" * 64, b"1e308", b"9" * 4300, b'{"a":1,"a":2}', b' "x" ', b'"\\ud800"']
)
def test_a_payload_at_the_edge(body):
    assert protocol.decode(line(body)).body == body.decode()


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"ready","protocol":1}',
        '{"type":"ready","protocol":1,"build":"x","more":1}',
        '{"type":"ready","protocol":"1","build":"x"}',
        '{"type":"ready","protocol":true,"build":"x"}',
        '{"type":"ready","protocol":1.0,"build":"x"}',
        '{"type":"ready","protocol":1,"build":"x","build":"y"}',
        '{"type":"ready","type":"done","protocol":1,"build":"x"}',
        '{"type":"ready","protocol":1,"build":["x"]}',
        '{"type":"ready","protocol":1,"build":{}}',
        '{"type":"run","job":0}',
        '{"type":null}',
        '{"type":["ready"]}',
        '"ready"',
        "[]",
        "",
        '{"job":0,"type":"message","body":1}',
        '{"type":"message","job":-1,"body":1}',
        '{"type":"message","job":1e3,"body":1}',
        '{"type":"result","job":0,"messages":0,"done":1,"value":1}',
        '{"type":"exited","job":0,"status":NaN,"oom_kills":null}',
    ],
)
def test_an_envelope_that_is_not_the_protocol(text):
    with pytest.raises(ProtocolError):
        protocol.decode(text.encode())


def test_a_long_line_is_refused_while_it_grows():
    reader = FrameReader(1000)
    with pytest.raises(ProtocolError, match="more than 1000 bytes"):
        for _ in range(3):
            assert not list(reader.feed(b"x" * 400))


def test_hostile_lines_cost_no_more_than_a_few_times_their_size():
    size = 600_000
    hostile = [
        line(b"[" + b"[]," * (size // 3) + b"[]]"),
        b'{"type":"ready","x":[' + b"[]," * (size // 3) + b"[]]}",
        b'{"type":"ready","x":"' + b'\\"' * (size // 2),
        b'{"type":"ready",' + b'"x":1,' * (size // 6) + b'"x":1}',
        b'"' * size,
        b"{" * size,
    ]
    for each in hostile:
        tracemalloc.start()
        try:
            protocol.decode(each)
        except ProtocolError:
            pass
        finally:
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert peak < 45 * len(each), each[:30]


@given(st.text(alphabet=string.printable + '\\"{}[]'))
def test_texts_with_brackets_are_no_nesting(text):
    frame = Done(job=0, messages=0, note=text)
    assert protocol.decode(protocol.encode(frame)[:-1]) == frame
