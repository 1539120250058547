"""What can be drawn of a job: the counts that it measured, and the numbers in its messages.

Counts come from the result, or if it has none from the last messages that have some.
"""

from __future__ import annotations

import dataclasses
import json
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from runner.display import shortened
from runner.encoded.counts import counts_in, has_counts
from runner.errors import RequestError
from runner.pictures.series import WHOLE, Numbers, Series, series_of_lists
from sandbox.wire.protocol import JsonText

MAX_COUNTS: Final = 4
MAX_SERIES: Final = 4
"""The most panels of each kind in a picture."""

Message: TypeAlias = tuple[int, JsonText]
"""The number of a message, and its body in encoded form."""

_MAX_NAME: Final = 40
_MAX_NAMED: Final = 12
_MAX_RESULT: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to draw: the obvious, or only the counts, or only these fields, or both.

    `fields` are keys of messages or JSON Pointers into them.  `by` is the field for the horizontal
    axis (default: one that counts the messages, else the message numbers).
    """

    fields: tuple[str, ...] = ()
    by: str | None = None
    counts: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What is drawn of a job, never empty; `others` are further fields that could be drawn."""

    series: list[Series]
    counts: list[tuple[str, dict[str, float]]]
    others: list[str]


def contents(
    job: str,
    messages: Iterable[Message],
    result: JsonText | None,
    wanted: Wanted,
    unit: str = "message",
) -> Contents:
    """Return what can be drawn of the job with this id; `unit` is what each message is called.

    Raises RequestError if there is nothing, or not what is wanted; the message says what the job
    holds.
    """
    said = _Said(messages, wanted)
    counts: list[tuple[str, dict[str, float]]] = []
    if wanted.counts or not wanted.fields:
        counts = _counts(_parsed(result)) or said.counts()
    names = _names_of_series(job, said.numbers, wanted, has_counts=bool(counts))
    series = [said.numbers.series(name, wanted.by) for name in names[:MAX_SERIES]]
    series = [dataclasses.replace(each, unit=unit) for each in series if each.ys]
    if not series and not counts and not wanted.fields:
        series = series_of_lists(_parsed(result), MAX_SERIES)
    if not series and not counts:
        its = "no result" if result is None else f"the result {shortened(result, _MAX_RESULT)}"
        msg = (
            f"nothing to draw in {job}: it has {its} and {said.messages} messages with "
            f"{_found(said.numbers)}; what can be drawn are counts by bit string, and numbers that "
            "several messages have under the same key, or a list of them in the result"
        )
        raise RequestError(msg)
    return Contents(series=series, counts=counts, others=names[MAX_SERIES:])


def _names_of_series(job: str, numbers: Numbers, wanted: Wanted, *, has_counts: bool) -> list[str]:
    """Return the fields to draw.  Raises RequestError if a wanted field has no numbers."""
    by = [] if wanted.by is None else [wanted.by]
    for name in (*wanted.fields, *by):
        if name not in numbers.found():
            msg = f"{job} has no message with a number in {name!r:.80}: it has {_found(numbers)}"
            raise RequestError(msg)
    if wanted.fields or wanted.counts:
        return list(wanted.fields)
    found = [name for name in numbers.obvious() if name not in by]
    if found or has_counts:
        return found
    return [name for name in numbers.counters() if name not in by]


class _Said:
    """The drawable content of messages."""

    def __init__(self, messages: Iterable[Message], wanted: Wanted) -> None:
        by = () if wanted.by is None else (wanted.by,)
        self.numbers = Numbers((*wanted.fields, *by))
        self.messages = 0
        self._with_counts: deque[Message] = deque(maxlen=MAX_COUNTS)
        for number, body in messages:
            data = _parsed(body)
            self.messages += 1
            self.numbers.add(number, data)
            if has_counts(data):
                self._with_counts.append((number, body))

    def counts(self) -> list[tuple[str, dict[str, float]]]:
        """Return the counts of the last messages, each named after its message."""
        found = []
        for number, body in self._with_counts:
            caption = self.numbers.caption(number)
            for name, counts in _counts(_parsed(body)):
                found.append((f"{caption} {name}".strip(), counts))
        return found[-MAX_COUNTS:]


def _counts(data: Any) -> list[tuple[str, dict[str, float]]]:
    """Return counts by bit string, else by whole number: a dict of such may be anything."""
    return counts_in(data, MAX_COUNTS) or counts_in(data, MAX_COUNTS, whole_keys=True)


def _parsed(text: JsonText | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except ValueError:  # a number with thousands of digits
        return None


def _found(numbers: Numbers) -> str:
    """Return, as text for people, the fields and how many numbers each has."""
    found = [f"{shortened(title(name), _MAX_NAME)} ({n})" for name, n in numbers.found().items()]
    more = [f"{len(found) - _MAX_NAMED} more"] if len(found) > _MAX_NAMED else []
    return "numbers in " + ", ".join([*found[:_MAX_NAMED], *more]) if found else "no numbers"


def title(field: str) -> str:
    """Return the title of a field."""
    return field if field != WHOLE else "the message itself"
