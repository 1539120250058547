"""The expectation for a job, and how its result and messages differ from it.

Both sides may be hostile, and the work is not bounded here: `judging` does that.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from runner.checking.case_schema import CASE, EXPECT, EXPECT_ON
from runner.checking.comparison import Tolerance, difference
from runner.checking.distribution import Distribution
from runner.display import one_line
from runner.encoded.counts import counts_of
from runner.encoded.parts import lookup
from runner.errors import ManifestError
from runner.job.record import Outcome
from runner.programs import schema

_UNSET: Final = object()

Flaws: TypeAlias = Callable[[Sequence[Mapping[str, Any]]], list[schema.Flaw | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """The expectation for one part of messages and result: one of the three fields after `at`.

    `at` is a JSON Pointer that begins with `/result` or `/messages`.
    """

    at: str
    equals: Any = _UNSET
    schema: Mapping[str, Any] | None = None
    distribution: Distribution | None = None
    tolerance: Tolerance | None = None

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Check:
        """Read a check whose types and schema are valid.  Raises ValueError for other errors."""
        counts = data.get("distribution")
        return cls(
            at=data["at"],
            equals=data.get("equals", _UNSET),
            schema=_schema_of(data),
            distribution=None if counts is None else Distribution.from_data(counts),
            tolerance=_tolerance(data),
        )

    def problems(self, document: Mapping[str, Any]) -> list[str]:
        """Return the problems of that part as text; `document` holds result and messages."""
        name = one_line(self.at)
        try:
            seen = lookup(document, self.at)
        except LookupError as error:
            return [f"nothing at {name}: {error.args[0]}"]
        if self.schema is not None:
            return schema.problems_here(self.schema, seen, name)
        if self.distribution is None:
            return difference(name, seen, self.equals, self.tolerance)
        try:
            problem = self.distribution.problem(counts_of(seen))
        except ValueError as error:
            problem = str(error)
        return [] if problem is None else [f"{name} {problem}"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """The expectation of a case: any of `outcomes`; everything else is optional."""

    outcomes: tuple[Outcome, ...] = (Outcome.COMPLETED,)
    result: Any = _UNSET
    messages: Any = _UNSET
    message_count: int | None = None
    tolerance: Tolerance | None = None
    checks: tuple[Check, ...] = ()
    text: str = field(default="", compare=False, repr=False)
    """The JSON that it was read from, empty if there is none."""

    @classmethod
    def from_data(cls, content: Mapping[str, Any], where: str) -> Expectation:
        """Read the expectation of a case; `where` names it in errors.

        Raises ManifestError.  Types and schemas have been checked by `check_case`.
        """
        words = content.get("outcome", Outcome.COMPLETED)
        checks = []
        for number, each in enumerate(content.get("checks", ())):
            try:
                checks.append(Check.from_data(each))
            except ValueError as error:
                msg = f"{where}.checks.{number}: {error}"
                raise ManifestError(msg) from error
        return cls(
            outcomes=tuple(map(Outcome, [words] if isinstance(words, str) else words)),
            result=content.get("result", _UNSET),
            messages=content.get("messages", _UNSET),
            message_count=content.get("message_count"),
            tolerance=_tolerance(content),
            checks=tuple(checks),
            text=json.dumps(content),
        )

    def problems(self, result: Any, messages: list[Any], message_count: int | None) -> list[str]:
        """Return how encoded result and messages differ from the expectation, as text."""
        found = []
        if self.result is not _UNSET:
            found += difference("result", result, self.result, self.tolerance)
        if self.messages is not _UNSET:
            found += difference("messages", messages, self.messages, self.tolerance)
        if self.message_count not in {None, message_count}:
            found.append(f"{message_count} messages, expected {self.message_count}")
        document = {"result": result, "messages": messages}
        for each in self.checks:
            found += each.problems(document)
        return found


def check_case(content: Mapping[str, Any], where: str, flaws: Flaws = schema.flaws) -> None:
    """Raise ManifestError, naming the key, for an invalid case; `flaws` checks its schemas."""
    _check(content, CASE, where)
    for key in ("expect", *EXPECT_ON):
        if key not in content:
            continue
        inside = f"{where}: {key}"
        _check(content[key], EXPECT, inside)
        wanted = [_schema_of(each) for each in content[key].get("checks", ())]
        numbered = [(number, each) for number, each in enumerate(wanted) if each is not None]
        found = flaws([each for _, each in numbered])
        for (number, _), flaw in zip(numbered, found, strict=True):
            if flaw is not None:
                msg = f"{inside}.checks.{number}: not a JSON Schema: {flaw[1]}"
                raise ManifestError(msg)
        Expectation.from_data(content[key], inside)


def _schema_of(data: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the schema of a check, if it has one."""
    wanted = data.get("schema")
    if isinstance(wanted, bool):
        return {} if wanted else {"not": {}}
    return wanted


def _tolerance(data: Mapping[str, Any]) -> Tolerance | None:
    return Tolerance(**data["tolerance"]) if "tolerance" in data else None


def _check(content: Mapping[str, Any], known: Mapping[str, Any], where: str) -> None:
    """Raise ManifestError that names the first wrong key."""
    error = best_match(Draft202012Validator(known).iter_errors(content))
    if error is None:
        return
    key = ".".join(str(each) for each in error.absolute_path)
    problem = f"{error.message:.300}"
    if error.validator == "additionalProperties":
        known_keys = error.schema["properties"]
        unknown = min(set(error.instance) - set(known_keys))
        names = ", ".join(sorted(each for each in known_keys if each[0] != "$"))
        problem = f"unknown key {unknown!r:.80}; known are {names}"
    msg = f"{where}: {key}: {problem}" if key else f"{where}: {problem}"
    raise ManifestError(msg)
