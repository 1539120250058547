"""Reads a case and judges the result of its job, with bounds for any content.

Small data is handled in this process; anything else in a child process, one per case, with one
budget of CPU time and memory.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from runner.checking.expectation import Expectation, check_case
from runner.display import one_line
from runner.errors import ManifestError
from runner.host import bounded
from runner.host.bounded import Bounds
from runner.programs import schema
from sandbox.wire.protocol import JsonText

READING: Final = Bounds(cpu_s=5, wall_s=15.0, memory_bytes=1 << 30)
JUDGING: Final = Bounds(cpu_s=10, wall_s=30.0, memory_bytes=1 << 30)

_SMALL_CHARS: Final = 1 << 15
_SMALL_WORK: Final = 1 << 20
_SMALL_TYPED_WORK: Final = 1 << 12
"""Limit where arrays are compared by number: text can expand to a thousand times its size."""

_TYPED: Final = '"__type__"'


def check(content: Mapping[str, Any], where: str) -> None:
    """Raise ManifestError, naming the key, for a case that is invalid or takes too long to read."""
    text = json.dumps(content)
    if len(text) <= _SMALL_CHARS:
        check_case(content, where)
        return
    answers = bounded.ask(__name__, [f'["read", {json.dumps(where)}, {text}]'], READING)
    if not answers:
        msg = f"{where}: reading it takes more than {READING}: make it smaller"
        raise ManifestError(msg)
    if answers[0] is not None:
        raise ManifestError(answers[0])


def problems(
    expected: Expectation,
    result: JsonText | None,
    bodies: Sequence[JsonText],
    message_count: int | None,
    *,
    abandoned: threading.Event | None = None,
) -> list[str]:
    """Return how result and messages differ from the expectation, as text.

    Raises AbandonedError soon after `abandoned` is set.
    """
    texts = [result or "null", *bodies]
    if not expected.text or _is_small(expected, texts):
        return _judged(expected, map(json.loads, texts), message_count)
    questions = [f'["judge", {expected.text}, {json.dumps(message_count)}]', *texts]
    answers = bounded.ask(__name__, questions, JUDGING, abandoned)
    if not answers:
        return [
            f"comparing result and messages with the expectation takes more than {JUDGING}: "
            "expect less, or publish and return less"
        ]
    return [str(each) for each in answers[0]]


def _is_small(expected: Expectation, texts: Sequence[str]) -> bool:
    size = len(expected.text) + sum(map(len, texts))
    if size > _SMALL_CHARS:
        return False
    text = ",".join(texts)
    uses = 1 + len(expected.checks)
    is_typed = _TYPED in text or _TYPED in expected.text
    costs = (schema.cost(each.schema, text) for each in expected.checks if each.schema is not None)
    return (
        size * uses <= (_SMALL_TYPED_WORK if is_typed else _SMALL_WORK)
        and sum(costs) <= schema.IN_PROCESS_WORK
    )


def _judged(expected: Expectation, values: Iterator[Any], message_count: int | None) -> list[str]:
    """Return the problems of decoded values: the result, then the messages."""
    try:
        result, *messages = values
        return expected.problems(result, messages, message_count)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  only values of a program and a case are at work
        words = one_line(f"{type(error).__name__}: {error}")
        return [f"result and messages cannot be compared with the expectation: {words:.500}"]


def _answers(questions: Iterator[Any]) -> Iterator[Any]:
    """Answer the questions; runs in the child."""
    verb, *arguments = next(questions)
    if verb == "read":
        yield _mistake(*arguments)
    else:
        content, message_count = arguments
        expected = Expectation.from_data(content, "expect")
        yield _judged(expected, questions, message_count)


def _mistake(where: str, content: Mapping[str, Any]) -> str | None:
    try:
        check_case(content, where, lambda schemas: list(map(schema.flaw_here, schemas)))
    except ManifestError as error:
        return str(error)
    return None


if __name__ == "__main__":
    bounded.serve(_answers)
