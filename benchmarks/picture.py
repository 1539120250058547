"""Draw a comparison: `python -m benchmarks.picture compare.json compare.svg`.

Runs where matplotlib is, in `.venv/bench`, so nothing of the runner is imported here.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "compare", "font.size": 9})

from matplotlib import pyplot as plt  # noqa: E402

COLOURS = {"ours": "#0b6e99", "bare": "#8a8f98", "rival": "#c4703c", "limit": "#c9cdd3"}
MEANINGS = {
    "ours": "this project",
    "bare": "containers by hand",
    "rival": "other systems",
    "limit": "no container to start",
}


def draw_panel(axes: Any, name: str, rows: list[dict[str, Any]]) -> None:
    """Draw one program: a bar to the median, a line to the 99th percentile."""
    rows = [each for each in rows if each["median_ms"] is not None][::-1]
    places = range(len(rows))
    for place, row in zip(places, rows, strict=True):
        axes.barh(place, row["median_ms"], color=COLOURS[row["group"]], height=0.72)
        high = row["p99_ms"] or row["median_ms"]
        axes.plot([row["median_ms"], high], [place, place], color="#33363b", linewidth=1)
        axes.text(high * 1.15, place, text_of(row["median_ms"]), va="center", fontsize=8)
    axes.set_yticks(list(places), [row["title"] for row in rows])
    axes.set_xscale("log")
    axes.set_title(name, loc="left", fontweight="bold", fontsize=10)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)


def text_of(milliseconds: float) -> str:
    """Return a time as a reader would say it."""
    if milliseconds >= 1000:
        return f"{milliseconds / 1000:.2f} s"
    return f"{milliseconds:.0f} ms" if milliseconds >= 20 else f"{milliseconds:.2g} ms"


def main() -> None:
    """Draw all programs of a comparison, one below the other."""
    source, target = map(Path, sys.argv[1:])
    found = json.loads(source.read_text())
    programs = {
        name: rows
        for name, rows in found["programs"].items()
        if any(each["median_ms"] is not None for each in rows)
    }
    if not programs:
        return
    heights = [len(rows) for rows in programs.values()]
    figure, panels = plt.subplots(
        len(programs),
        1,
        figsize=(7.2, 0.24 * sum(heights) + 0.75 * len(heights) + 0.5),
        height_ratios=heights,
        squeeze=False,
        sharex=True,
        layout="constrained",
    )
    for axes, (name, rows) in zip(panels[:, 0], programs.items(), strict=True):
        draw_panel(axes, name, rows)
    left, right = panels[0, 0].get_xlim()
    panels[0, 0].set_xlim(left, right * 4)  # room for the numbers
    panels[-1, 0].set_xlabel(
        "milliseconds from the request to the result: bar median, line 99 % (logarithmic)"
    )
    bars = [plt.Rectangle((0, 0), 1, 1, color=colour) for colour in COLOURS.values()]
    figure.legend(bars, [MEANINGS[each] for each in COLOURS], loc="outside lower center", ncols=4)
    figure.savefig(target, format="svg", metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    main()
