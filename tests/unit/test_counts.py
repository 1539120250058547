"""Counts in encoded values: found wherever they stand, at no great cost if they are hostile."""

from __future__ import annotations

import json
import time
import tracemalloc

import numpy as np
import pytest

from runner.encoded.counts import MAX_SEARCHED, counts_in, has_counts
from sandbox import codec

BELL = {"00": 489, "11": 502, "01": 9}


def test_counts_are_found_wherever_they_stand_and_in_every_form():
    containers = pytest.importorskip("qiskit.primitives.containers")
    bits = containers.BitArray.from_samples(["01", "01", "11"])
    data = containers.DataBin(meas=bits)
    result = containers.PrimitiveResult([containers.SamplerPubResult(data)] * 2)
    counts = {"01": 2, "11": 1}
    encoded = json.loads(codec.encode(result))
    assert counts_in(encoded, 9) == [("0 meas", counts), ("1 meas", counts)]
    assert counts_in(encoded, 1) == [("0 meas", counts)]
    assert has_counts(encoded)
    for value, name in (
        ({"x": counts}, "x"),
        ([1, (counts,)], "1 0"),
        ({1: {"counts": counts}}, "1"),
        ({"counts": [counts]}, "0"),
    ):
        assert counts_in(json.loads(codec.encode(value)), 9) == [(name, counts)]


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"00": 1.5},
        {"00": True},
        {"00": 0},
        {"a": 1},
        {"0": 2**53 + 1},
        [[[]]],
        "00",
        None,
        {"__type__": [], "__value__": {}},
        {"__type__": "BitArray", "__value__": 3},
        {
            "__type__": "BitArray",
            "__value__": {
                "num_bits": True,
                "array": json.loads(codec.encode(np.zeros((1, 1), "u1"))),
            },
        },
        {"__type__": "ndarray", "__value__": "x"},
    ],
)
def test_what_is_no_counts(value):
    assert counts_in(value, 9) == []


def test_the_search_for_counts_ends():
    assert counts_in([[]] * (2 * MAX_SEARCHED) + [BELL], 1) == []
    deep = BELL
    for _ in range(60):
        deep = [deep]
    assert counts_in(deep, 1)[0][1] == BELL


def test_the_search_unpacks_nothing_that_cannot_be_counts():
    array = json.loads(codec.encode(np.zeros(1 << 20, "u1")))
    value = [{"__type__": "dict", "__value__": array}] * 150
    assert len(json.dumps(value)) < 1 << 20
    began = time.monotonic()
    assert not has_counts(value)
    assert counts_in(value, 1) == []
    assert time.monotonic() - began < 30


def test_the_words_for_places_do_not_grow_with_their_depth():
    deep = [[]] * 50_000 + [BELL]
    for _ in range(60):
        deep = {"k" * 40: deep}
    tracemalloc.start()
    try:
        ((name, counts),) = counts_in(deep, 1)
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()
    assert counts == BELL
    assert len(name) <= 200
