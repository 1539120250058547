"""Notebooks as tests: run in a kernel of their own, and their outputs compared with stored ones.

`make record` stores the outputs of docs/notebook.ipynb again, and with them docs/pictures/plot.svg.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

import nbclient
import nbformat

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
PICTURE = ROOT / "docs" / "pictures" / "plot.svg"
CELL_DEADLINE_S = 120

# What differs from run to run: ids, times, memory; and digits that a processor may round otherwise.
VARYING = (
    (re.compile(r"job-[0-9a-f]{16}"), "job-…"),
    (re.compile(r"\d+(\.\d+)? (s|MiB|GiB)\b"), "…"),
    (re.compile(r"(\d\.\d{6})\d+"), r"\1…"),
)


def read(path=NOTEBOOK):
    return nbformat.read(path, as_version=4)


def executed(notebook):
    """Return a copy with the outputs of a run in an empty directory, and the picture it leaves."""
    copy = nbformat.from_dict(notebook)
    for cell in copy.cells:
        cell.pop("outputs", None)
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    with tempfile.TemporaryDirectory() as place:
        client = nbclient.NotebookClient(
            copy,
            kernel_name="python3",
            timeout=CELL_DEADLINE_S,
            startup_timeout=CELL_DEADLINE_S,
            resources={"metadata": {"path": place}},
            record_timing=False,
        )
        # Not over TCP, where others on the machine could read along.
        manager = client.create_kernel_manager()
        manager.transport, manager.ip = "ipc", f"{place}/kernel"
        client.execute(env={**os.environ, "IPYTHONDIR": str(Path(place, "ipython"))})
        picture = Path(place, "spins.svg").read_bytes()
    del copy.metadata.language_info["version"]
    return copy, picture


def record():
    """Store the outputs of a run, and its picture."""
    notebook, picture = executed(read())
    nbformat.write(notebook, NOTEBOOK)
    PICTURE.write_bytes(picture)


def outputs(notebook):
    """Return what stands below each cell, without what differs from run to run."""
    return [
        [_plain(output) for output in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def _plain(output):
    data = dict(output.get("data", {}))
    if output.output_type == "stream":
        data = {output.name: output.text}
    elif output.output_type == "error":
        data = {"error": output.ename}
    return {
        kind: "a picture" if kind.startswith("image/") else _constant(text)
        for kind, text in data.items()
    }


def _constant(text):
    for pattern, instead in VARYING:
        text = pattern.sub(instead, text)
    return text


if __name__ == "__main__":
    record()
