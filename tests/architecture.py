"""The rooms as the import contracts order them: what docs/architecture.md shows of them.

`python -m tests.architecture` (`make record`) writes the table into the page, from the layers in
pyproject.toml and the first line of each docstring.  tests/unit/test_architecture.py compares.
"""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "architecture.md"
MARKED = re.compile(
    r"(<!-- rooms: written by `python -m tests.architecture` -->\n).*?(<!-- /rooms -->)",
    re.DOTALL,
)


def floors() -> list[list[Path]]:
    """Return the rooms of host and guest, those of one layer together, the highest layer first."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    layered = [each for each in project["tool"]["importlinter"]["contracts"] if "layers" in each]
    return [
        [path_of(ROOT / contract["containers"][0] / name) for name in layer.split(" | ")]
        for contract in layered
        for layer in contract["layers"]
    ]


def path_of(module: Path) -> Path:
    """Return a module's file, of a package its directory."""
    return module if module.is_dir() else module.with_suffix(".py")


def line(room: Path) -> str:
    """Return a room as a row of the table: its path, and the first line of its docstring."""
    file = room / "__init__.py" if room.is_dir() else room
    text = (ast.get_docstring(ast.parse(file.read_text())) or "").partition("\n")[0]
    name = f"{room.relative_to(ROOT)}{'/' if room.is_dir() else ''}"
    return f"`{name}` | {text.replace('|', '&#124;')} |"


def drawn(document: str) -> str:
    """Return the page with its table as it has to be."""
    rows = [
        f"| {'' if index else '↓'} | {line(room)}"
        for layer in floors()
        for index, room in enumerate(layer)
    ]
    table = "\n".join(["", "| | room | what it is for |", "|---|---|---|", *rows, "", ""])
    return MARKED.sub(lambda match: f"{match[1]}{table}{match[2]}", document)


if __name__ == "__main__":
    DOCUMENT.write_text(drawn(DOCUMENT.read_text()))
