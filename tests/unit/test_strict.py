"""Strict JSON, checked in pieces: the verdict is the whole parser's, the memory a piece's."""

import base64
import json
import random
import time
import tracemalloc

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sandbox.wire import strict

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)
LAYOUTS = st.sampled_from([{"separators": (",", ":")}, {"indent": 2}, {"ensure_ascii": False}])
TEXTS = st.builds(lambda value, layout: json.dumps(value, **layout), JSON, LAYOUTS)
MUTATED = st.builds(
    lambda text, at, what, cut: text[: at % (len(text) + 1)] + what + text[at % 99 + cut :],
    TEXTS,
    st.integers(0, 10_000),
    st.text(st.sampled_from('[]{},:"\\ 1e-.truenull\n\t\x01é'), max_size=4),
    st.integers(0, 3),
)
TOKENS = st.lists(
    st.sampled_from(
        [
            "[",
            "]",
            "{",
            "}",
            ",",
            ":",
            '"a"',
            '"\\""',
            '"\\\\"',
            '"[,"',
            "1",
            " ",
            "null",
            "1e9",
            '"',
        ]
    ),
    max_size=30,
).map("".join)


def expected(text):
    """The verdict of Python's own parser, made strict."""

    def number(digits):
        if float(digits) in (float("inf"), float("-inf")):
            raise ValueError(digits)

    def refuse(name):
        raise ValueError(name)

    try:
        json.loads(text, parse_float=number, parse_constant=refuse)
    except ValueError:
        return False
    return True


def verdict(text, depth=64, nodes=10**6):
    try:
        strict.check(text, depth, nodes)
    except ValueError:
        return False
    return True


@settings(max_examples=150)
@given(TEXTS | MUTATED | TOKENS, st.integers(1, 40))
@example('["a,b",[1],{"c":"}"}]', 1)
@example("[1,]", 2)
@example("[,1]", 1)
@example('{"a":1,}', 4)
@example("1,2", 1)
@example('[1,2"],"]', 3)
@example("[1}", 1)
@example('["\\",",1]', 3)
@example('["\\\\",1]', 3)
@example("[[],[[1e999]]]", 2)
@example('{"a":{"b":[1,2],"c":3},"d":[]}', 5)
@example("[1] ,", 2)
@example("[1, ]", 3)
@example(r'"\\\\\\\\\\\\\\\\\\\\\\\\\\"', 1)
@example(r'"\\\\\\\\\\\\\\\\\\\\\\\\\\\"', 1)
@example(r'"abcde\\u0abcde\\\u00e9abcdef\u12"', 1)
@example(r'["\ud83d\ude00\ud83d\ude00\ud83d\ude00"]', 2)
def test_pieces_of_any_size_make_no_difference(text, size):
    whole = verdict(text)
    assert whole == expected(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strict, "PIECE_CHARS", size)
        patch.setattr(strict, "_MAX_WHOLE", size)
        for each in ("_FIRST_CHARS", "_MORE_CHARS"):
            patch.setattr(strict, each, size + len(r"\u0000"))
        assert verdict(text) == whole


@given(st.integers(1, 70), st.integers(1, 40))
def test_depth_is_exact_in_pieces_too(depth, size):
    inside = '{"a":1,"b":' * (depth // 2) + "[1,2]" + "}" * (depth // 2)
    text = f'[0,{inside},"[[[[["]'
    deepest = depth // 2 + 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strict, "PIECE_CHARS", size)
        assert verdict(text, depth=deepest)
        assert not verdict(text, depth=deepest - 1)


MIB = 1 << 20


def repeated(item, size=MIB, end="0"):
    return "[" + item * (size // len(item)) + end + "]"


GOOD = {
    "empty lists": repeated("[],", end="[]"),
    "empty dicts": repeated("{},", end="{}"),
    "small dicts": repeated('{"a":0},'),
    "distinct keys": "{" + ",".join(f'"{n:x}":1' for n in range(MIB // 10)) + "}",
    "a long string": '["' + "a" * 4 * MIB + '"]',
    "a long string with escapes": '["' + '\\"\\u00e9' * (MIB // 8) + '"]',
    "a string that widens": '["' + "a" * MIB + '\\ud83d\\ude00"]',
    "brackets in strings": repeated('"]}[{,",'),
    "long keys without a comma": '{"' + "k" * 70_000 + '":{"' + "k" * 70_000 + '":1}}',
    "spaces": "[" + " \n" * MIB + "1]",
}
BAD = {
    "a long number": "[" + "1" * MIB + "]",
    "a long fraction": "[0." + "1" * MIB + "]",
    "an open string": '["' + "a" * MIB,
    "a line in a string": '["' + "a" * MIB + '\n"]',
    "quotes": '["' + '"' * MIB,
    "brackets": "[" * MIB,
    "commas": repeated(","),
    "an open list": repeated("1,")[:-1],
    "a NaN at the end": repeated("1.5,", end="NaN"),
    "an infinity at the end": repeated("1.5,", end="1e999"),
    "the wrong bracket": repeated("[1,2],") + "}",
    "a tail": repeated("[1,2],") + ",1",
    "backslashes": repeated('\\",'),
}


@pytest.mark.parametrize("name", [*GOOD, *BAD])
def test_checking_takes_little_memory_and_time(name):
    text = GOOD.get(name) or BAD[name]
    tracemalloc.start()
    try:
        assert verdict(text) == (name in GOOD)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < (7 if "string" in name else 3) * MIB, peak  # one piece, or one string


def test_too_many_nodes_are_refused_and_texts_do_not_count():
    assert verdict(repeated("0,"), nodes=MIB)
    assert not verdict(repeated("0,"), nodes=MIB // 2)
    assert verdict(json.dumps("," * MIB), nodes=10)


def test_checking_costs_little_more_than_parsing():
    """Half as fast, where the aim is 60 %: other work on this machine must not fail this test."""
    chance = random.Random(1)
    counts = [
        {format(chance.randrange(1 << 20), "020b"): chance.randrange(4000) for _ in range(20)}
        for _ in range(1500)
    ]
    parameters = [[chance.random() for _ in range(20)] for _ in range(2500)]
    packed = base64.b64encode(chance.randbytes(3 << 18)).decode()
    for data in (counts, parameters, {"__type__": "ndarray", "__value__": packed}):
        text = json.dumps(data, separators=(",", ":"))
        parsing = min(duration(json.loads, text) for _ in range(9))
        checking = min(duration(strict.check, text, 64, 10**7) for _ in range(9))
        assert parsing / checking > 0.5


def duration(function, *arguments):
    start = time.thread_time()
    function(*arguments)
    return time.thread_time() - start


def test_commas_are_estimated_wherever_they_are():
    # What fits the samples' distance exactly, as somebody would make it who hopes to be missed.
    text = ("x" * 24_576 + "," * 8192) * 40
    estimates = [strict._commas(text) for _ in range(300)]
    assert sum(estimates) / 300 == pytest.approx(text.count(","), rel=0.25)
    assert len(set(estimates)) > 1
    assert min(estimates) > 0  # the samples are not all at the same place of what repeats itself
