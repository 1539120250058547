"""A job as HTML for notebooks: its status, its messages, its end, its counts as bars.

All text from a program is escaped, cut, and placed where no notebook looks for mathematics.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from runner.display import escape, shortened
from runner.encoded.counts import amount, counts_in_text, largest
from sandbox.wire.protocol import JsonText

MAX_MESSAGES: Final = 6
MAX_MESSAGE: Final = 160
MAX_RESULT: Final = 600
MAX_TROUBLE: Final = 4000
"""Limits of a page: messages, and characters of a message, a result and a traceback."""

MAX_COUNTS: Final = 4
MAX_BARS: Final = 16
"""... and counts, and the outcomes of each."""

_BAR: Final = 30
_COLOURS: Final = {True: "#1a7f37", False: "#cf222e", None: "#3b6fb6"}
_CELL: Final = "text-align:left"


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The content of a page: `state` and `words` describe the status; `is_good` is None while
        undecided.

    `messages` are the last of `message_count` messages, each with its number; `trouble` is the
    program's traceback, if one ended it.
    """

    program: str
    job: str
    state: str
    words: str
    is_good: bool | None
    messages: Sequence[tuple[int, JsonText]]
    message_count: int
    result: JsonText | None
    trouble: str | None


class Bar(NamedTuple):
    """One outcome in some counts, as escaped text: `drawn` is a bar of characters."""

    key: str
    amount: str
    share: str
    drawn: str


def page(view: View) -> str:
    """Return a job as one HTML element of bounded size."""
    colour = _COLOURS[view.is_good]
    parts = [
        f"<p>{_code(view.program, MAX_MESSAGE, bold=True)} "
        f'<b style="color:{colour}">{_safe(view.state)}</b>{_safe(view.words[:MAX_RESULT])} '
        f"<small>{_code(view.job, MAX_MESSAGE)}</small></p>"
    ]
    if view.trouble:
        parts.append(f"<pre>{_safe(_cut(view.trouble))}</pre>")
    parts.append(_messages(view))
    parts += _result(view.result)
    # The classes make every version of MathJax ignore it, which would interpret text between
    # dollars.
    content = "".join(parts)
    return f'<div class="tex2jax_ignore mathjax_ignore">{content}</div>'


def _messages(view: View) -> str:
    earlier = view.message_count - len(view.messages)
    rows = [(f"#{number}", _code(body, MAX_MESSAGE)) for number, body in view.messages]
    if earlier > 0:
        rows.insert(0, ("", f"<small>{earlier} earlier messages</small>"))
    return _table(rows)


def _result(result: JsonText | None) -> list[str]:
    if result is None:
        return []
    found = counts_in_text(result, MAX_COUNTS)
    shown = [f"<p>result {_code(result, MAX_RESULT)}</p>"] if not found else []
    for name, counts in found:
        shown.append(f"<p>counts {_code(name, MAX_MESSAGE) if name else ''}</p>")
        shown.append(_table([_row(each) for each in bars(counts)]))
    return shown


def bars(counts: Mapping[str, float]) -> list[Bar]:
    """Return the most frequent outcomes of some counts, and one row for all others."""
    most = largest(counts, MAX_BARS)
    # Characters, because notebooks that are not trusted lose styles.
    found = [
        Bar(
            shortened(key, MAX_MESSAGE),
            amount(count),
            f"{count / most.total:.1%}",
            "█" * round(_BAR * count / most.rows[0][1]),
        )
        for key, count in most.rows
    ]
    if most.others:
        share = f"{most.rest / most.total:.1%}"
        found.append(Bar(f"{most.others} more", amount(most.rest), share, ""))
    return found


def _row(bar: Bar) -> tuple[str, ...]:
    drawn = f'<span style="color:{_COLOURS[None]}">{bar.drawn}</span>' if bar.drawn else ""
    return f"<code>{html.escape(bar.key)}</code>", bar.amount, bar.share, drawn


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    """Return rows of safe HTML as a table, an empty text if there are none."""
    lines = ("".join(f'<td style="{_CELL}">{cell}</td>' for cell in row) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table>{body}</table>" if rows else ""


def _code(text: str, most: int, *, bold: bool = False) -> str:
    shown = f"<code>{html.escape(shortened(text, most))}</code>"
    return f"<b>{shown}</b>" if bold else shown


def _safe(text: str) -> str:
    return html.escape(escape(text))


def _cut(text: str) -> str:
    if len(text) <= MAX_TROUBLE:
        return text
    return f"… ({len(text) - MAX_TROUBLE} characters)\n{text[-MAX_TROUBLE:]}"
