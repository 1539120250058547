"""docs/notebook.ipynb: it runs from beginning to end, and shows what is stored in it."""

from __future__ import annotations

import importlib.util

import pytest

NEEDED = ("ipykernel", "matplotlib", "nbclient")

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(
        missing := [each for each in NEEDED if importlib.util.find_spec(each) is None],
        reason=f"not installed: {', '.join(missing)}",
    ),
]


def test_the_notebook_runs_and_shows_what_is_stored():
    from tests.notebooks import executed, outputs, read

    stored = read()
    again, picture = executed(stored)
    assert outputs(again) == outputs(stored), "make record stores them again"
    assert picture.startswith(b"<?xml")
