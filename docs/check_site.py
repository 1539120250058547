"""Whether a site is whole: no link leads nowhere, and no page fetches anything from elsewhere.

`python docs/check_site.py DIRECTORY`, as `make docs` does.  Links to other hosts are for a reader
to follow; what a browser would load by itself (scripts, styles, fonts, pictures) has to be in the
directory, so that the pages can be read where there is no network.
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADING = {
    ("link", "href"),
    ("script", "src"),
    ("img", "src"),
    ("iframe", "src"),
    ("source", "src"),
}
REFERRING = ("canonical", "search", "next", "prev", "index", "genindex", "author", "edit")
"""Kinds of `<link rel=…>` that a browser does not load."""


class Page(HTMLParser):
    """What a page links to, what it loads, and the places in it that others may link to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loads: set[str] = set()
        self.places: set[str] = {""}
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note one element."""
        given = {name: value or "" for name, value in attrs}
        self.places |= {given.get("id", ""), given.get("name", "")}
        if tag == "a" and "href" in given:
            self.links.add(given["href"])
        for name, value in given.items():
            if (tag, name) in LOADING and given.get("rel") not in REFERRING:
                self.loads.add(value)


def problems(site: Path) -> list[str]:
    """Return what is wrong with a site, one line for each."""
    pages = {path.resolve(): Page(path) for path in site.rglob("*.html")}
    found = [] if pages else [f"{site}: there are no pages"]
    for path, page in pages.items():
        shown = path.relative_to(site.resolve())
        for link in sorted(page.links | page.loads):
            target = urlsplit(link)
            if target.scheme or target.netloc:
                if link in page.loads and target.scheme != "data":
                    found.append(f"{shown}: loads {link}")
                continue
            to = (path.parent / unquote(target.path)).resolve() if target.path else path
            there = pages.get(to)
            if not to.is_file() or (there and unquote(target.fragment) not in there.places):
                found.append(f"{shown}: leads nowhere: {link}")
    for path in site.rglob("*.css"):
        elsewhere = re.findall(
            r"(?:url\(|@import )['\"]?((?:https?:)?//[^'\")\s]+)", path.read_text()
        )
        found += [f"{path.relative_to(site)}: loads {each}" for each in elsewhere]
    return found


def main() -> int:
    """Say what is wrong with the site that is named; 1 if anything is."""
    found = problems(Path(sys.argv[1]))
    sys.stderr.writelines(f"{line}\n" for line in found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
