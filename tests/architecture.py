"""The modules as the import contracts order them: what docs/architecture.md shows of them.

`python -m tests.architecture` (`make record`) writes the tables into the page, from the layers in
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
    r"(<!-- modules: written by `python -m tests.architecture` -->\n).*?(<!-- /modules -->)",
    re.DOTALL,
)


def contracts() -> list[dict]:
    """Return the contracts that order modules, the widest first."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return [each for each in project["tool"]["importlinter"]["contracts"] if "layers" in each]


def layers(contract: dict) -> list[list[str]]:
    """Return the modules of a contract, by their whole names, the highest layer first."""
    (inside,) = contract.get("containers", [""])
    return [
        [f"{inside}.{name}".strip(".") for name in re.findall(r"[\w.]+", layer)]
        for layer in contract["layers"]
    ]


def place(module: str) -> Path:
    """Return a module's file, of a package its first."""
    path = ROOT / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def table(contract: dict) -> str:
    """Return the layers of one contract as a table; those on one level have one number."""
    (inside,) = contract.get(
        "containers", ["the host" if "runner" in str(contract) else "the guest"]
    )
    title = f"`{inside.replace('.', '/')}/`" if "." in inside else inside.capitalize()
    lines = [f"### {title}", "", "| level | module | what it is for |", "|--:|---|---|"]
    for level, modules in enumerate(layers(contract), start=1):
        for module in modules:
            path = place(module)
            shown = path.parent if path.name == "__init__.py" else path
            text = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]
            name = f"{shown.relative_to(ROOT)}{'/' if shown != path else ''}"
            lines.append(f"| {level} | `{name}` | {text.replace('|', '&#124;')} |")
    return "\n".join(lines) + "\n"


def drawn(document: str) -> str:
    """Return the page with its tables as they have to be."""
    tables = "\n".join(table(each) for each in contracts())
    return MARKED.sub(lambda match: f"{match[1]}\n{tables}\n{match[2]}", document)


if __name__ == "__main__":
    DOCUMENT.write_text(drawn(DOCUMENT.read_text()))
