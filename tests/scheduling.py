"""Which tests a process of `pytest -n` gets, and when.

Tests of one file share fixtures, so they stay in one process; in a few large files those of another
isolation or carrier share none with the others, and may go elsewhere.  What takes longest comes
before the rest, so that at the end no process works while the others have nothing left.  Before
all of it come the tests that need no engine: meanwhile `make test` builds the base image, where
there is none.
"""

from __future__ import annotations

import re

import pytest

WAY = re.compile(r"(engine/test_(supervisor|sessions|isolation)|test_corpus)\.py.*\[(\w+)")
LONG = (
    "test_corpus",
    "test_supervisor",
    "test_credible",
    "test_faults",
    "test_jobs",
    "test_images",
    "test_engine_faults",
    "test_sessions",
    "test_lifecycle",
    "test_cli",
    "test_check",
    "test_documents",
    "test_examples",
    "test_brief",
)
"""Of the files that need an engine, those of at least about twenty seconds, the longest first."""


def in_order(items):
    """Sort collected tests; the order is the same in every process."""

    def place(item):
        if not item.get_closest_marker("engine"):
            return -1
        return LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG)

    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With `--dist loadfile`, tell isolations and carriers of large files apart as well."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            found = WAY.search(nodeid)
            return f"{super()._split_scope(nodeid)}{found[3] if found else ''}"

    return Scheduling(config, log)
