"""A comparison as text: the table that is printed, and what docs/ show of a run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

BASE: Final = "docker-run"
"""What the ratios are to."""

DOCUMENT: Final = Path("docs/benchmarks.md")
README: Final = Path("README.md")
PICTURE: Final = Path("docs/pictures/comparison.svg")
ALTERNATIVE: Final = "Median time from the request to the result, by program and system"
BEGIN: Final = "<!-- figures: written by `python -m benchmarks.compare --write-docs` -->"
END: Final = "<!-- /figures -->"

PERFORMANCE: Final = Path("docs/performance.md")
ROWS: Final = re.compile(r"(<!-- rows of (\w+): .*? -->\n).*?(<!-- /rows -->)", re.DOTALL)
"""A place in that page for the rows of one benchmark."""

COLUMNS: Final = (
    ("", "title", ""),
    ("median", "median_ms", "ms"),
    ("p99", "p99_ms", "ms"),
    ("of", "samples", ""),
    ("jobs/s", "jobs_per_s", ""),
    ("memory at rest", "resting_mib", "MiB"),
    ("at work", "working_mib", "MiB"),
)


def comparison(found: Mapping[str, Any]) -> str:
    """Return everything that was found, as it is printed."""
    return "\n".join(_blocks(found, markdown=False))


def _blocks(found: Mapping[str, Any], *, markdown: bool) -> Iterator[str]:
    yield f"{found['rounds']} rounds, {machine_line(found['machine'])}"
    for name, rows in found["programs"].items():
        yield f"\n### {name}\n" if markdown else f"\n{name}"
        yield from (_markdown if markdown else _plain)(_cells(rows))
        yield from _remarks(rows, markdown=markdown)
    for name, reason in found["missing_programs"].items():
        yield f"\n{name}: not measured: {reason}"


def machine_line(machine: Mapping[str, Any]) -> str:
    """Return the machine in one line."""
    return (
        f"{machine['cores']} cores ({machine['processor']}), {machine['memory_gib']} GiB, "
        f"{machine['system']}, engine {machine['engine']}, control groups "
        f"{machine['control_groups']}, Python {machine['python']}, "
        f"load {machine['load_before']} before and {machine['load_after']} after, "
        f"{machine['date']}"
    )


def _cells(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return the table, its heading first; those that are missing are remarks."""
    base = next((each["median_ms"] for each in rows if each["name"] == BASE), None)
    heading = [" ".join(filter(None, (title, unit and f"({unit})"))) for title, _, unit in COLUMNS]
    table = [[*heading, "faster than docker run"]]
    for row in rows:
        if row["median_ms"] is None:
            continue
        ratio = f"{base / row['median_ms']:.3g}" if base else "-"
        figures = [_number(row[key]) for _, key, _ in COLUMNS[1:]]
        table.append([f"{row['title']} {row['version']}".strip(), *figures, ratio])
    return table


def _number(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
    return str(value)


def _plain(table: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for row in table:
        name, *figures = (
            cell.ljust(width) if not column else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  " + "  ".join([name, *figures])


def _markdown(table: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(table[0]) + " |"
    yield "|---|" + "--:|" * (len(table[0]) - 1)
    for row in table[1:]:
        yield "| " + " | ".join(row) + " |"


def _remarks(rows: Sequence[Mapping[str, Any]], *, markdown: bool) -> Iterator[str]:
    mark = "\n* " if markdown else "  "
    for row in rows:
        if row["missing"]:
            yield f"{mark}{row['title']}: {row['missing']}"
        if "until_its_last_line_ms" in row:
            yield (
                f"{mark}{row['title']} until the result's line instead of its exit: "
                f"{row['until_its_last_line_ms']:.0f} ms"
            )


def write_documents(directory: Path) -> int:
    """Put the figures of one run into the documents, and its picture beside them."""
    found = json.loads((directory / "compare.json").read_text())
    targets = directory / "targets.md"
    verdict = f"\n\n{targets.read_text().strip()}" if targets.exists() else ""
    shown = ""
    picture = directory / "compare.svg"
    if picture.exists():
        PICTURE.parent.mkdir(parents=True, exist_ok=True)
        PICTURE.write_text(picture.read_text())
        shown = f"![{ALTERNATIVE}](pictures/{PICTURE.name})\n\n"
    _replace(DOCUMENT, shown + "\n".join(_blocks(found, markdown=True)) + verdict)
    if BEGIN in README.read_text():
        _replace(README, "\n".join(_summary(found)))
    text = PERFORMANCE.read_text()
    PERFORMANCE.write_text(ROWS.sub(lambda place: _filled(place, directory), text))
    return 0


def _filled(place: re.Match[str], directory: Path) -> str:
    """Return a place with the rows that its benchmark has written, unchanged if it has not."""
    begin, name, end = place.groups()
    path = directory / f"{name}.json"
    if not path.exists():
        return place[0]
    table = [["", "measured", "target"]]
    for row in json.loads(path.read_text())["rows"]:
        what = row["what"].strip()
        inner = "… " if row["what"].startswith(" ") else ""
        bounds = (("≤", row["at_most"]), ("≥", row["at_least"]))
        target = " ".join(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None)
        table.append([inner + what, f"{_number(row['value'])} {row['unit']}".strip(), target])
    return f"{begin}\n{chr(10).join(_markdown(table))}\n\n{end}"


def _summary(found: Mapping[str, Any]) -> Iterator[str]:
    """Return the medians only, a column for each program."""
    programs = found["programs"]
    yield f"| median, request to result | {' | '.join(programs)} |"
    yield "|---|" + "--:|" * len(programs)
    titles = {row["name"]: row["title"] for rows in programs.values() for row in rows}
    for name, title in titles.items():
        rows = (next((r for r in rows if r["name"] == name), None) for rows in programs.values())
        medians = [row["median_ms"] if row else None for row in rows]
        if any(each is not None for each in medians):
            cells = ("-" if each is None else f"{_number(float(each))} ms" for each in medians)
            yield f"| {title} | {' | '.join(cells)} |"


def _replace(path: Path, figures: str) -> None:
    text = path.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        msg = f"{path} has no place for figures ({BEGIN} … {END})"
        raise SystemExit(msg)
    path.write_text(f"{before}{begin}\n{figures}\n{end}{after}")
