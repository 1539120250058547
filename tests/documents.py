"""The documents as a reader follows them: links, headings, files to write, commands to run.

A block is a file if the paragraph before it ends with the file's name and a colon, or if its own
first line is a comment that begins with that name.  Blocks of `sh` and `python` that are no file
are run, in their order, unless a comment above them says why not:

    <!-- not run: needs a cluster -->

A block of `text` after one that is run is what that one shows at its end; `...` stands for
anything.  tests/unit/test_documents.py reads all documents, tests/engine/test_documents.py does
what those in docs/ say.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
DOCUMENTS = sorted([*ROOT.glob("*.md"), *PAGES])

RUN = ("sh", "python")
_NOT_RUN = re.compile(r"<!-- not run: (.+) -->")
_NAME = re.compile(r"[\w./-]+\.\w+")
_NAMED_INSIDE = re.compile(rf"# ({_NAME.pattern})(?:  .*)?")
_MARKDOWN = MarkdownIt("commonmark").enable("table")


@dataclass(frozen=True)
class Block:
    """A fenced block, where it begins, and what is to be done with it."""

    page: Path
    line: int
    language: str
    text: str
    file: str | None
    not_run: str | None

    @property
    def is_run(self) -> bool:
        return self.language in RUN and self.file is None and self.not_run is None

    def __str__(self) -> str:
        return f"{short(self.page)}:{self.line}"


def short(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a document."""
    tokens = _MARKDOWN.parse(page.read_text())
    return [
        Block(
            page=page,
            line=token.map[0] + 1,
            language=token.info,
            text=token.content,
            file=_file(token, tokens[max(index - 2, 0) : index]),
            not_run=_reason(tokens[index - 1]) if index else None,
        )
        for index, token in enumerate(tokens)
        if token.type == "fence"
    ]


def _file(fence: Token, before: list[Token]) -> str | None:
    if fence.info == "sh":
        return None
    if inside := _NAMED_INSIDE.fullmatch(fence.content.partition("\n")[0]):
        return inside[1]
    if [each.type for each in before] != ["inline", "paragraph_close"]:
        return None
    *_, name, colon = [None, None, *before[0].children]
    is_named = name and name.type == "code_inline" and colon.content == ":"
    return name.content if is_named and _NAME.fullmatch(name.content) else None


def _reason(before: Token) -> str | None:
    match = before.type == "html_block" and _NOT_RUN.fullmatch(before.content.strip())
    return match[1] if match else None


def links(page: Path) -> Iterator[str]:
    """Yield where the links and pictures of a document lead, those to other hosts left out."""
    for token in _MARKDOWN.parse(page.read_text()):
        for each in token.children or []:
            target = each.attrs.get("href") or each.attrs.get("src") or ""
            if target and not re.match(r"[a-z]+:", target):
                yield target


def anchors(page: Path) -> set[str]:
    """Return the names of a document's headings, as GitHub and the site make them."""
    found: set[str] = set()
    tokens = _MARKDOWN.parse(page.read_text())
    for opening, inline in itertools.pairwise(tokens):
        if opening.type == "heading_open":
            text = "".join(each.content for each in inline.children or [])
            name = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            same = sum(
                re.fullmatch(rf"{re.escape(name)}(-\d+)?", each) is not None for each in found
            )
            found.add(f"{name}-{same}" if same else name)
    return found
