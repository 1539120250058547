"""How Sphinx makes the pages: `make docs`. The order of the pages stands in _toc.yml."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the reference pages are made from the code of this clone

import runner  # noqa: E402
from runner.cli import formats  # noqa: E402

project = "qiskit-program-runner"
version = release = runner.__version__
copyright = "the authors, Apache License 2.0"
language = "en-GB"

extensions = [
    "myst_nb",  # Markdown pages, and notebooks as they were stored
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "sphinx_copybutton",
    "sphinx_external_toc",
]
exclude_patterns = ["_*"]

# Links between pages are those that GitHub follows too: files, and headings as it names them.
myst_heading_anchors = 4
nb_execution_mode = "off"  # a test executes them
copybutton_exclude = ".linenos, .gp, .go"  # prompts and output are not copied

default_role = "code"  # as the docstrings mean their backticks
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
smartquotes = False  # options begin with two hyphens
autodoc_member_order = "bysource"
autoclass_content = "class"
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"{project} {version}"
html_copy_source = False
html_show_sphinx = False


def _publish_formats(app: Sphinx, exception: Exception | None) -> None:
    """Put the JSON Schemas of what people write beside the pages, for editors."""
    if exception is None:
        directory = Path(app.outdir) / "schemas"
        directory.mkdir(exist_ok=True)
        for name in formats.NAMES:
            text = json.dumps(formats.document(name), indent=2)
            (directory / f"{name}.schema.json").write_text(f"{text}\n")


def _as_it_reads(_app: Sphinx, _context: click.Context, lines: list[str]) -> None:
    """Keep stars in the help of a command from being read as emphasis."""
    lines[:] = [line.replace("*", r"\*") for line in lines]


def setup(app: Sphinx) -> None:
    """Do what no option of Sphinx does."""
    app.connect("build-finished", _publish_formats)
    app.connect("sphinx-click-process-description", _as_it_reads)
