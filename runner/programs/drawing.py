"""The program that draws circuits as text in a sandbox, where Qiskit reads what a program wrote."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from runner.programs.manifest import Manifest
from runner.programs.program import Program
from runner.programs.values import as_encoded

_SOURCE: Final = b"""
def main(backend, user_messenger, circuits, columns):
    return [str(each.draw("text", fold=columns)) for each in circuits]
"""

PROGRAM: Final = Program(
    name="drawing",
    path=Path("drawing"),
    manifest=Manifest(name="drawing"),
    files={"program.py": _SOURCE},
    signature=None,
)


def inputs_for(circuits: Sequence[Any], columns: int) -> dict[str, Any]:
    """Return the inputs to draw tagged circuits in lines of about `columns` characters."""
    return {"circuits": [as_encoded(each) for each in circuits], "columns": columns}


def pictures_of(result: object) -> list[str]:
    """Return the pictures in a result, none if it does not hold what it should."""
    is_right = isinstance(result, list) and all(isinstance(each, str) for each in result)
    return result if is_right else []  # type: ignore[return-value]
