"""Lines of `--format json`: of the same value as the program's text, in ASCII, cheap to make."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.display import inert_json
from runner.job import form

SPACE = st.text(alphabet=" \t\n\r", max_size=3)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def spaced(value, space, *, ascii_only=False):
    separators = (f"{space},{space}", f"{space}:{space}")
    return f"{space}{json.dumps(value, ensure_ascii=ascii_only, separators=separators)}{space}"


@given(JSON, SPACE, st.booleans(), st.integers(1, 9))
def test_any_text_becomes_one_line_of_ascii_of_the_same_value(value, space, ascii_only, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(form, "_PIECE_CHARS", size)
        line = form.strict(spaced(value, space, ascii_only=ascii_only))
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line) == value


def test_what_reaches_a_terminal_is_escaped_wherever_it_may_stand_raw_in_json():
    raw = '{"\x7f\x9b\u202e\U000e0001":\t["\\u001b\\"\\\\\x85", "é"]\r\n}'
    line = form.strict(raw)
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line) == json.loads(raw)
    assert r"\"\\\u0085" in line


@pytest.mark.parametrize(
    "text",
    [
        "[" + "\t" * (1 << 21) + "1]",
        "[" + "0,\t" * (1 << 20) + "0]",
        '"' + "é1" * (1 << 20) + '"',
        '"' + "##[" * (1 << 20) + '"',
        '"' + r"\"" * (1 << 20) + '\x7f"',
    ],
    ids=["spaces", "numbers", "accents", "commands", "quotes"],
)
def test_writing_a_large_result_takes_little_more_memory_than_its_line(text):
    tracemalloc.start()
    try:
        line = inert_json(form.strict(text))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert json.loads(line) == json.loads(text)
    assert peak < 3 * len(line) + (24 << 20)
