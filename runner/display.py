"""Showing people what a program wrote, so that it can only be read, never obeyed.

Terminals obey escape sequences, readers are fooled by bidirectional overrides, and CI systems
take lines that begin in certain ways as commands.  Everything a program wrote goes through
`escape`, and in logs through `quoted`, which lets none of its text stand at the start of a line.
"""

from __future__ import annotations

import re
from typing import Final

LOG_PREFIX: Final = "| "

# C0 without tab and newline, DEL and C1; line and paragraph separators; zero-width and
# bidirectional controls, tags and other format characters; surrogates; non-characters.
_UNSAFE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\ud800-\udfff\ufdd0-\ufdef\ufeff\ufff9-\uffff\U000e0000-\U000e0fff]"
)


def escape(text: str) -> str:
    """Return the text with everything but visible characters, tabs and newlines made visible."""
    return _UNSAFE.sub(_visible, text)


def one_line(text: str) -> str:
    """Return the escaped text without line breaks."""
    return escape(text).replace("\n", "\\n")


def quoted(text: str, prefix: str = LOG_PREFIX) -> str:
    """Return the escaped text with `prefix` before each of its lines, ending in a newline."""
    lines = escape(text).removesuffix("\n").split("\n")
    return "".join(f"{prefix}{line}\n" for line in lines)


def _visible(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
