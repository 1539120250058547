"""JSON read in pieces: what `json.loads` returns, without holding the lock for long."""

import json
import sys
import threading
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sandbox import codec
from sandbox.codec import parsing
from sandbox.wire import strict

KEYS = st.text(st.sampled_from('a,}]"\\:é'), max_size=3)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner),
    max_leaves=40,
)
LAYOUTS = st.sampled_from([{"separators": (",", ":")}, {"indent": 2}, {"ensure_ascii": False}])
TEXTS = st.builds(lambda value, layout: json.dumps(value, **layout), JSON, LAYOUTS)
MIB = 1 << 20


def in_pieces(text, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parsing, "_MAX_WHOLE", 0)
        patch.setattr(strict, "PIECE_CHARS", size)
        for each in ("_FIRST_CHARS", "_MORE_CHARS"):
            patch.setattr(strict, each, size + len(r"\u0000"))
        return parsing.load(text)


def read(function, *arguments):
    try:
        return json.dumps(function(*arguments))
    except ValueError:
        return "refused"


@settings(max_examples=200)
@given(TEXTS, st.integers(1, 60))
@example('[[1,[2,{"a":[3,4],"":{"b":5,"c":[]}}],6],{"":[7,{"":8}]}]', 1)
@example('{"a":1,"b":2,"a":3}', 1)
@example('{"a":[1,2],"b":2,"a":3}', 1)
@example('["' + "x," * 50 + '",1]', 4)
def test_a_text_in_pieces_means_what_it_means_whole(text, size):
    assert json.dumps(in_pieces(text, size)) == json.dumps(json.loads(text))


@given(TEXTS, st.integers(0, 500), st.sampled_from('[]{},:"0a'), st.integers(1, 30))
def test_no_text_is_read_otherwise(text, at, character, size):
    text = text[: at % (len(text) + 1)] + character + text[at % (len(text) + 1) + 1 :]
    expected, found = read(json.loads, text), read(in_pieces, text, size)
    has_key_twice = found == "refused" and '":' in text
    assert found == expected or has_key_twice


def test_a_key_that_is_twice_where_it_matters_is_refused_but_its_text_can_be_had():
    text = '{"a":1,"b":2,"a":[' + ",".join(["0"] * MIB) + "]}"
    with pytest.raises(ValueError, match="a key that is in one object twice"):
        parsing.load(text)
    assert codec.Value.of_text(text).raw["a"] == [0] * MIB


def test_what_is_not_json_is_refused_in_long_texts_too():
    for end in ("NaN]", "[1]", "1,]", '{"a"]', '"'):
        assert read(parsing.load, "[" + "0," * MIB + end) == "refused"


@pytest.mark.parametrize(
    "text",
    [
        "[" + ",".join(["0.1234567890123456"] * (8 * MIB // 19)) + "]",
        "{" + ",".join(f'"{n:x}":0' for n in range(8 * MIB // 9)) + "}",
        "[" + ",".join(["[]"] * MIB) + "]",
        "[" + ",".join(["9" * 4300] * (8 * MIB // 4301)) + "]",
    ],
    ids=["numbers", "keys", "lists", "digits"],
)
def test_other_threads_run_meanwhile(text):
    """Counted in turns of another thread, of which parsing at once would leave none."""
    turns, done = 0, threading.Event()

    def look():
        nonlocal turns
        while not done.is_set():
            turns += 1
            time.sleep(0)

    other = threading.Thread(target=look)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    other.start()
    try:
        before = turns
        parsing.load(text)
        after = turns
    finally:
        sys.setswitchinterval(interval)
        done.set()
        other.join()
    assert after - before > len(text) // strict.PIECE_CHARS // 4
