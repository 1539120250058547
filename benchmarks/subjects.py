"""The programs that every contender runs, and what a right answer to each looks like."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

SHOTS: Final = 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """What a contender brought back, `seconds` after it was asked.

    `further` are other moments of the same job, in seconds after it was asked.
    """

    seconds: float
    result: Any
    messages: Sequence[Any]
    further: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Subject:
    """A program, its inputs, and a test of its answer."""

    name: str
    program: str
    inputs: Mapping[str, Any]
    is_right: Callable[[Answer], bool]


def _noop(answer: Answer) -> bool:
    return bool(answer.result == 7) and not answer.messages


def _random_circuits(answer: Answer) -> bool:
    shots = [sum(each["counts"].values()) for each in answer.messages]
    return answer.result == "All done!" and shots == [SHOTS] * 5


def _vqe(answer: Answer) -> bool:
    energies = [each["energy"] for each in answer.messages]
    lowest = answer.result["energy"]
    return bool(LOWEST_ENERGY - 1e-6 < lowest < LOWEST_ENERGY + 0.2 and lowest == min(energies))


HYDROGEN: Final = {
    "II": -1.052373245772859,
    "IZ": 0.39793742484318045,
    "ZI": -0.39793742484318045,
    "ZZ": -0.01128010425623538,
    "XX": 0.18093119978423156,
}
"""A hydrogen molecule in its usual form of two qubits."""

LOWEST_ENERGY: Final = -1.857275030202

SUBJECTS: Final = (
    Subject("no-op", str(Path(__file__).parent / "programs" / "noop.py"), {"number": 7}, _noop),
    Subject("random_circuits", "random_circuits", {"iterations": 5}, _random_circuits),
    Subject(
        "vqe",
        "vqe",
        {"hamiltonian": HYDROGEN, "optimizer_options": {"maxiter": 40}, "seed": 7},
        _vqe,
    ),
)
