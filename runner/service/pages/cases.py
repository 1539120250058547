"""The cases of an uploaded program, and the jobs that have run them.

A case is data from a stranger that says what a job should do.  Here it is run, and its outcome
compared with the one that it expects; `qrunner check` judges all the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Final

from runner.job.options import MAX_TAG_CHARS
from runner.job.record import Outcome
from runner.job.request import Origin
from runner.programs.values import as_sent, loaded
from runner.service.jobs import Order
from runner.store.rows import Summary

MAX_CASES: Final = 100
_MAX_BYTES: Final = 64 << 10
_MAX_SHOWN: Final = 300
_BESIDE: Final = ("input_files", "recording")
"""Keys that name files beside a case, which an upload does not hold."""

_KINDS: Final[dict[str, tuple[type, ...]]] = {
    "inputs": (dict,),
    "backend": (str, dict, type(None)),
    "limits": (dict,),
    "seed": (int,),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case; `obstacle` says why it cannot be run here, "" if it can.

    `last` is the user's last job of it, None if there is none among the last jobs.
    """

    name: str
    description: str = ""
    expected: tuple[str, ...] = (Outcome.COMPLETED.value,)
    obstacle: str = ""
    last: Summary | None = None
    content: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_as_expected(self) -> bool | None:
        """Return whether the last job ended as the case expects, None if none has ended."""
        outcome = self.last.outcome if self.last else None
        return None if outcome is None else outcome.value in self.expected


def read_cases(files: Mapping[str, bytes], jobs: Sequence[Summary]) -> list[Case]:
    """Return the first cases in these files, each with the newest of these jobs that ran it."""
    newest: dict[str, Summary] = {}
    for job in reversed(jobs):
        newest |= dict.fromkeys(job.tags, job)
    names = [each for each in sorted(files) if each.endswith(".json")][:MAX_CASES]
    return [_case(PurePosixPath(each).stem, files[each], newest) for each in names]


def order_of(case: Case, origin: Origin) -> Order:
    """Return the job that a case asks for.  What is wrong in it is refused with the job."""
    content = case.content
    backend, seed = content.get("backend"), content.get("seed")
    if seed is not None:
        given: dict[str, Any] = {"name": backend} if isinstance(backend, str) else backend or {}
        backend = {**given, "options": {"seed_simulator": seed, **given.get("options", {})}}
    return Order(
        inputs=as_sent(content.get("inputs", {})),
        backend=backend,
        options={"tags": [_tag(case.name)]},
        limits=content.get("limits", {}),
        origin=origin,
    )


def _tag(name: str) -> str:
    """Return the tag of the jobs that run a case."""
    return f"case {name}"[:MAX_TAG_CHARS]


def _case(name: str, text: bytes, newest: Mapping[str, Summary]) -> Case:
    last = newest.get(_tag(name))
    if len(text) > _MAX_BYTES:
        return Case(name=name, obstacle=f"it is {len(text)} bytes long", last=last)
    try:
        content = loaded(text)
    except (ValueError, RecursionError):
        return Case(name=name, obstacle="it cannot be read", last=last)
    expect = content.get("expect")
    outcomes = expect.get("outcome", "completed") if isinstance(expect, dict) else "completed"
    beside = [each for each in _BESIDE if each in content]
    return Case(
        name=name,
        description=str(content.get("description", ""))[:_MAX_SHOWN],
        expected=tuple(str(each)[:_MAX_SHOWN] for each in _listed(outcomes)),
        obstacle=_obstacle(content, beside),
        last=last,
        content=content,
    )


def _obstacle(content: Mapping[str, Any], beside: Sequence[str]) -> str:
    if beside:
        return f"its {beside[0]} is a file beside it: `qrunner check` runs it"
    for name, kinds in _KINDS.items():
        if name in content and not isinstance(content[name], kinds):
            return f"its {name} is not of the right type"
    backend = content.get("backend")
    if isinstance(backend, dict) and not isinstance(backend.get("options", {}), dict):
        return "its backend is not of the right type"
    return ""


def _listed(outcomes: object) -> Sequence[object]:
    return outcomes[:10] if isinstance(outcomes, list) else [outcomes]
