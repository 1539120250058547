"""Show text from a program so that it can only be read, never obeyed.

Terminals obey escape sequences, bidirectional overrides mislead readers, and CI systems take
commands out of the log: some only at the start of a line, some anywhere in it.  All text from a
program goes through `escape`.  In logs it goes through `quoted`, which starts every line with a
prefix, so that no text of the program stands at the start of a line.
"""

from __future__ import annotations

import re
from typing import Final

LOG_PREFIX: Final = "| "

# C0 except tab and newline, DEL and C1; line and paragraph separators; zero-width and
# bidirectional controls, tags and other format characters; surrogates; non-characters; and the
# first character of the commands that CI systems obey within a line: `##[`, `##vso[`,
# `##teamcity[`.
_UNSAFE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\ud800-\udfff\ufdd0-\ufdef\ufeff\ufff9-\uffff\U000e0000-\U000e0fff]"
    r"|#(?=#[a-zA-Z]*\[)"
)
_COMMAND_IN_JSON: Final = re.compile(r"#(?=#[a-zA-Z]*\[)")
_COMMAND_START: Final = ("::", "section_", "travis_", "---", "+++", "~~~", "^^^")


def escape(text: str) -> str:
    """Return the text with every character escaped that is not visible, a tab or a newline."""
    return _UNSAFE.sub(_visible, text)


def one_line(text: str) -> str:
    """Return the escaped text without line breaks."""
    return escape(text).replace("\n", "\\n")


def shortened(text: str, most: int) -> str:
    """Return the escaped text on one line; if it is cut after `most` characters, add its length."""
    if len(text) <= most:
        return one_line(text)
    return f"{one_line(text[:most])} … ({len(text)} characters)"


def quoted(text: str, prefix: str = LOG_PREFIX) -> str:
    """Return the escaped text with `prefix` before each line; it ends in a newline."""
    lines = escape(text).removesuffix("\n").split("\n")
    return "".join(f"{prefix}{line}\n" for line in lines)


def notice(text: str) -> str:
    """Return the escaped text of a message of the runner that may contain text from elsewhere.

    It may have several lines.  A line that a CI system could take as a command gets the log's
    prefix.
    """
    lines = escape(text).split("\n")
    return "\n".join(
        LOG_PREFIX + line if line.lstrip().startswith(_COMMAND_START) else line for line in lines
    )


def inert_json(text: str) -> str:
    """Return JSON text of the same value in which no CI system finds a command."""
    if not _COMMAND_IN_JSON.search(text):
        return text
    # Outside of strings JSON has no `#`, so every match is in a string.  All pairs are replaced,
    # so that a text full of commands takes no more memory than its own size.
    return text.replace("##", r"\u0023\u0023")


def _visible(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
