"""What a program wrote can only be read: no terminal, reader or CI system obeys it."""

from __future__ import annotations

import json
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.display import escape, inert_json, notice, one_line, quoted, shortened

ANYWHERE = re.compile(r"##(\w*)\[")
"""What GitHub, Azure and TeamCity obey wherever it stands in a line."""

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=100)


@given(ANY_TEXT)
def test_nothing_but_visible_characters_tabs_and_newlines_is_left(text: str):
    for character in escape(text):
        category = unicodedata.category(character)
        assert character in "\t\n" or category not in {"Cc", "Cs", "Zl", "Zp"}
        assert character not in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f"
    escape(text).encode()


@given(ANY_TEXT)
def test_no_text_of_a_program_starts_a_line(text: str):
    shown = quoted(text)
    assert shown.endswith("\n")
    # Every notion of a line that a terminal or a CI system may have.
    assert all(line.startswith("| ") for line in shown.splitlines())


@given(ANY_TEXT)
def test_one_line_is_one_line(text: str):
    assert len(one_line(text).splitlines()) <= 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", "\\x1b[2J"),
        ("a\rb", "a\\x0db"),
        ("\x9b31m", "\\x9b31m"),
        ("\u202eabc", "\\u202eabc"),
        ("\ud800", "\\ud800"),
        ("café ψ ⟨0|1⟩ 量子", "café ψ ⟨0|1⟩ 量子"),
    ],
)
def test_controls_become_visible_and_text_stays(text: str, shown: str):
    assert escape(text) == shown


def test_workflow_commands_are_quoted_away():
    assert quoted("::error::x\n::stop-commands::y") == "| ::error::x\n| ::stop-commands::y\n"


@pytest.mark.parametrize(
    "text",
    ["##[add-mask]a", "x ##[group]y", "###[error]", "##vso[task.x]", "##VSO[x]", "##teamcity[a]"],
)
def test_commands_that_ci_systems_find_in_the_middle_of_a_line_are_broken(text: str):
    for shown in (escape(text), quoted(text), notice(text), inert_json(json.dumps(text))):
        assert not ANYWHERE.search(shown)
    assert json.loads(inert_json(json.dumps(text))) == text


@given(st.text('#[vsoteamcity] \\"a', max_size=30))
def test_inert_json_means_the_same_and_holds_no_command(text: str):
    shown = inert_json(json.dumps({text: [text]}))
    assert json.loads(shown) == {text: [text]}
    assert not ANYWHERE.search(shown)


@pytest.mark.parametrize("text", ["a\n::error::x", "a\n  ::error::x", "a\nsection_start:0:x"])
def test_no_later_line_of_a_message_of_ours_is_a_command(text: str):
    assert notice(text).split("\n")[1].startswith("| ")


def test_our_own_messages_keep_their_lines():
    assert notice("what\nwhy\nwhat to do") == "what\nwhy\nwhat to do"


def test_what_is_cut_says_so():
    assert shortened("a" * 50, 10) == f"{'a' * 10} … (50 characters)"
    assert shortened("a\nb", 10) == "a\\nb"
