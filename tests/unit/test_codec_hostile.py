"""What a program can send costs the host little more than its own bytes, decoded or not."""

import base64
import io
import json
import random
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest

from runner.programs import values
from sandbox import codec
from sandbox.codec import Value, decoding
from sandbox.wire import protocol
from sandbox.wire.protocol import FrameReader

MIB = protocol.MIB
ROOM = 6 * MIB
"""What values may become here; 256 MiB otherwise."""

SLACK = 6 * MIB
"""One piece of a text that is being checked, a string in it, a buffer's growth."""


def tagged(tag, value):
    return json.dumps({"__type__": tag, "__value__": value})


def packed(content):
    return base64.b64encode(zlib.compress(content)).decode()


def npy(descr, shape, content):
    stream = io.BytesIO()
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return packed(stream.getvalue() + content)


def npz(**members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return base64.b64encode(stream.getvalue()).decode()


def many(item, count=100_000):
    return "[" + ",".join([item] * count) + "]"


def floats(count=40_000):
    chance = random.Random(1)
    return json.dumps([chance.random() for _ in range(count)])


NPY = (
    np.lib.format.magic(1, 0)
    + b"v\0"
    + b"{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }"
)
CORPUS = {
    "empty lists": many("[]"),
    "empty dicts": many("{}"),
    "small dicts": many('{"a":0}'),
    "dicts of one key each": "[" + ",".join(f'{{"{n:x}":{n}}}' for n in range(80_000)) + "]",
    "many keys": "{" + ",".join(f'"{n:x}":{n}' for n in range(80_000)) + "}",
    "zeros": many("0", 500_000),
    "floats": floats(),
    "short texts": "[" + ",".join(f'"{n:x}"' for n in range(80_000)) + "]",
    "one text": json.dumps("a" * 4 * MIB),
    "a text that widens": '"' + "a" * 4 * MIB + '\\ud83d\\ude00"',
    "escapes": '"' + "\\u00e9" * MIB + '"',
    "complex numbers": many('{"__type__":"complex","__value__":[1.5,2]}', 15_000),
    "tuples": many('{"__type__":"tuple","__value__":[]}', 25_000),
    "records": many('{"__type__":"dataclass","__value__":{"class":"C","fields":{}}}', 12_000),
    "unknown tags": many('{"__type__":"x"}', 50_000),
    "an array bomb": tagged("ndarray", packed(bytes(60 * MIB))),
    "an array that is too large": tagged("ndarray", npy("<f8", (7 * MIB // 8,), bytes(7 * MIB))),
    "an array that just fits": tagged("ndarray", npy("<f8", (5 * MIB // 8,), bytes(5 * MIB))),
    "an array that lies": tagged("ndarray", npy("<f8", (5 * MIB // 8,), b"")),
    "arrays, together": many(tagged("ndarray", npy("u1", (MIB,), bytes(MIB))), 100),
    "an array of nothing": tagged("ndarray", npy("|V0", (10**12,), b"")),
    "an array in an array of objects": tagged(
        "ndarray", [json.loads(tagged("ndarray", npy("u1", (2 * MIB,), bytes(2 * MIB))))]
    ),
    "a large item": tagged("numpy", ["<U500000000", "x"]),
    "a zip bomb": tagged("spmatrix", npz(format=bytes(40 * MIB))),
    "a zip of many": tagged("spmatrix", npz(**{f"m{n}": NPY for n in range(10_000)})),
    "a sparse matrix of rows": tagged(
        "sparse",
        {"class": "lil_array", "shape": [10**9, 1], "data": json.loads(codec.encode(np.zeros(0)))},
    ),
    "an integer": tagged("int", "0x" + "f" * 4 * MIB),
    "a fraction": tagged("Fraction", [1, "1e999999999"]),
    "a decimal": tagged("Decimal", "1e999999999"),
    "a range": tagged("range", [0, 10**30, 1]),
    "a circuit bomb": tagged("QuantumCircuit", packed(bytes(60 * MIB))),
    "a parameter vector": tagged("ParameterVector", ["v", 10**9, None]),
    "64 deep": many("[" * 60 + "]" * 60, 2_000),
}


def peak_of(function, *arguments):
    tracemalloc.start()
    try:
        result = function(*arguments)
        return result, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def receive(frame):
    """Return the payload of a frame that arrives in pieces, as from a pipe."""
    reader = FrameReader(64 * MIB)
    for start in range(0, len(frame), 1 << 16):
        for message in reader.feed(frame[start : start + (1 << 16)]):
            return message.value
    return None


@pytest.mark.parametrize("name", CORPUS)
def test_receiving_and_decoding_stay_within_their_memory(name, monkeypatch):
    monkeypatch.setattr(decoding, "MAX_UNPACKED_BYTES", ROOM)
    result = protocol.Result(job=0, messages=0, done=True, value=CORPUS[name])
    frame = protocol.encode(result)
    text, peak = peak_of(receive, frame)
    assert text == CORPUS[name]
    assert peak < 2.2 * len(frame) + SLACK
    values.decode(text)  # the first time imports what it needs, which is not its memory
    value, peak = peak_of(values.decode, text)
    assert peak < 2 * len(frame) + ROOM + SLACK, (peak - 2 * len(frame)) / MIB
    if isinstance(value, Value):
        assert value.raw == json.loads(text)


def test_a_value_that_would_take_too_much_stays_text_until_it_is_asked_for(monkeypatch):
    monkeypatch.setattr(decoding, "MAX_UNPACKED_BYTES", ROOM)
    value = values.decode(CORPUS["small dicts"])
    assert isinstance(value, Value)
    assert value.decode() == [{"a": 0}] * 100_000


def test_wide_text_that_no_guest_writes_is_refused():
    body = '"' + "a" * protocol.MAX_WIDE_BYTES + '😀"'
    line = f'{{"type":"message","job":0,"body":{body}}}'.encode()
    with pytest.raises(protocol.ProtocolError, match="that is not ASCII"):
        protocol.decode(line)
    assert protocol.decode(b'{"type":"message","job":0,"body":"\xc3\xbc"}').body == '"ü"'
