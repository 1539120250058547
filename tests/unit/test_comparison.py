"""Encoded values against expected ones, by content and within a tolerance."""

from __future__ import annotations

import base64
import json
import math
import re
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from qiskit.primitives import BitArray

from runner.checking.comparison import Tolerance, difference
from runner.encoded import arrays
from runner.encoded.counts import counts_of
from runner.encoded.parts import lookup, plain
from sandbox import codec

NEAR = Tolerance(absolute=1e-6)


def encoded(value):
    return json.loads(codec.encode(value, "value"))


@given(
    arrays_of.arrays(
        dtype=st.sampled_from(["?", "i1", "<u2", ">i4", "<f2", "<f4", ">f8", "c8", "<c16"]),
        shape=arrays_of.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
        elements=None,
    ),
    st.booleans(),
)
def test_arrays_are_read_without_numpy(array, in_fortran_order):
    array = np.asarray(array, order="F" if in_fortran_order else "C")
    seen = plain(encoded(array))
    assert np.array_equal(np.array(seen, dtype=array.dtype).reshape(array.shape), array, True)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_array_are_refused(content):
    for packed in (content, zlib.compress(content), zlib.compress(b"\x93NUMPY\x01\x00" + content)):
        with pytest.raises(ValueError):  # noqa: PT011
            arrays.unpack(base64.b64encode(packed).decode())


@pytest.mark.parametrize(
    "shape",
    [
        "(10**9,)",
        "(1000000000, 0)",
        "(16777216, 0)",
        "(-1,)",
        "(True,)",
        "(1,) * 9",
        "((((((",
        "'x'",
        "{[]: 1}",
    ],
)
def test_what_an_array_claims_costs_nothing(shape):
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}".encode()
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with pytest.raises(ValueError):  # noqa: PT011
        arrays.unpack(base64.b64encode(zlib.compress(content)).decode())


def test_lists_without_numbers_take_room_too():
    """An axis of length one is a list for each of the numbers."""
    thin = encoded(np.zeros((1 << 16,) + (1,) * 31, "i1"))
    assert plain(thin) == thin
    flat = encoded(np.zeros(arrays.MAX_ITEMS - 1, "i1"))
    assert len(plain(flat)) == arrays.MAX_ITEMS - 1


def test_arrays_of_one_value_share_the_room():
    several = encoded([np.zeros(arrays.MAX_ITEMS // 2, "i1") for _ in range(20)])
    seen = plain(several)
    assert isinstance(seen[0], list)
    assert seen[1:] == several[1:]


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (1.0000001, 1),
        (np.float32(0.5), 0.5),
        (np.array([[1.0, 2.0], [3.0, 4.0]]), [[1, 2], [3, 4.0000005]]),
        (np.array(0.25), 0.25),
        (np.array([1 + 1j]), [{"__type__": "complex", "__value__": [1.0000001, 1]}]),
        (1 + 2j, {"__type__": "complex", "__value__": [1, 2]}),
        ((1, {"a": 2.0}), [1, {"a": 2}]),
        (math.nan, {"__type__": "float", "__value__": "nan"}),
        (-math.inf, {"__type__": "float", "__value__": "-inf"}),
        ({"e": [0.1, "x", None, True]}, {"e": [0.1000000001, "x", None, True]}),
        (10**400, 10**400),
    ],
)
def test_numbers_are_near_wherever_they_stand(seen, expected):
    assert difference("result", encoded(seen), expected, NEAR) == []


@pytest.mark.parametrize(
    ("seen", "expected", "problem"),
    [
        ({"e": [1.0, 2.0]}, {"e": [1.0, 2.1]}, r"result.e\[1\] is 2.0, expected 2.1 within 1e-06"),
        ([1, 2], [1], "has 2 items, expected 1"),
        ({"a": 1}, {"b": 1}, r'has the keys \["a"\], expected \["b"\]'),
        (True, 1, "is true, expected 1"),
        ("1", 1, "expected 1"),
        (10**400, 0.5, "within"),
        (math.inf, 1e300, "within"),
        ({"__type__": "complex", "__value__": [10**4000, 0]}, 1, "expected 1"),
        ({"__type__": [], "__value__": []}, 1, "expected 1"),
        (np.array([1.0, 2.0]), [1.0, 2.5], r"result\[1\] is 2.0, expected 2.5"),
    ],
)
def test_what_is_not_near_is_named_with_its_path(seen, expected, problem):
    is_tagged = isinstance(seen, dict) and "__type__" in seen
    (found,) = difference("result", seen if is_tagged else encoded(seen), expected, NEAR)
    assert re.search(problem, found), found


def test_a_tolerance_may_be_relative():
    assert Tolerance(relative=0.1).holds(105, 100)
    assert not Tolerance(relative=0.01).holds(105, 100)
    assert str(Tolerance(absolute=0.5, relative=0.1)) == "0.5 + 0.1 of it"


def test_without_a_tolerance_the_encoded_forms_are_equal_or_not():
    assert difference("result", encoded((1, 2)), encoded((1, 2))) == []
    assert difference("result", encoded((1, 2)), [1, 2])
    assert difference("result", 9, 10) == ["result is 9, expected 10"]


def test_a_pointer_steps_into_everything():
    document = {
        "result": encoded({"a/b": {1: (np.eye(2), {"~": 5})}, "n": [0]}),
        "messages": [{"step": 1}],
    }
    for pointer, expected in {
        "/messages/0/step": 1,
        "/result/n/0": 0,
        "/result/a~1b/1/1/~0": 5,
        "/result/a~1b/1/0/1/1": 1.0,
    }.items():
        assert lookup(document, pointer) == expected
    for pointer in (
        "/result/x",
        "/result/n/1",
        "/result/n/x",
        "/result/n/-1",
        "/result/n/" + "9" * 5000,
        "/messages/0/step/0",
    ):
        with pytest.raises(LookupError, match="has no"):
            lookup(document, pointer)


def test_counts_come_as_numbers_or_as_bits():
    assert counts_of(encoded({"00": 3, "11": 4})) == {"00": 3, "11": 4}
    samples = ["0101010101", "1111000010", "0101010101"]
    for shape in ((), (1,), (1, 1)):
        bits = BitArray.from_samples(samples).reshape(shape)
        assert counts_of(encoded(bits)) == {"0101010101": 2, "1111000010": 1}
    for other in ({"a": 1.5}, {"a": -1}, {"a": 10**4000}, [1], "x", None):
        with pytest.raises(ValueError, match="counts"):
            counts_of(encoded(other))


def test_bits_that_claim_a_huge_width_hold_nothing():
    hostile = encoded(BitArray.from_samples(["0", "1"]))
    hostile["__value__"]["num_bits"] = 10**12
    assert counts_of(hostile) == {}


@pytest.mark.parametrize(
    "array",
    [
        encoded(np.ones((2, 1))),
        encoded(np.full((2, 1), -1, "i1")),
        {"__type__": "tuple", "__value__": [[1], 2]},
        {"__type__": [], "__value__": []},
    ],
)
def test_bits_that_are_no_bytes_hold_nothing(array):
    hostile = {"__type__": "BitArray", "__value__": {"num_bits": 8, "array": array}}
    assert counts_of(hostile) == {}


def test_a_pointer_does_not_step_into_a_tag_that_is_none():
    with pytest.raises(LookupError, match="has no"):
        lookup({"result": {"__type__": [], "__value__": []}}, "/result/0")
