"""A plugin for the second try of `make test`: names the tests that did not fail again."""

from __future__ import annotations

BAD = ("failed", "error")


def pytest_terminal_summary(terminalreporter):
    """Count and name them behind everything else, however they ended: skipped is not passed."""
    ended = {
        outcome: [each.nodeid for each in reports if hasattr(each, "nodeid")]
        for outcome, reports in terminalreporter.stats.items()
        if outcome not in {"deselected", "warnings", ""}
    }
    bad = {nodeid for outcome in BAD for nodeid in ended.get(outcome, ())}
    flaky = {
        nodeid: outcome
        for outcome, nodeids in ended.items()
        for nodeid in nodeids
        if nodeid not in bad
    }
    if not flaky:
        return
    terminalreporter.section("flaky", yellow=True, bold=True)
    for nodeid, outcome in sorted(flaky.items()):
        terminalreporter.write_line(f"flaky: {nodeid} failed, and at the second try {outcome}")
    tests = "1 test" if len(flaky) == 1 else f"{len(flaky)} tests"
    terminalreporter.write_line(f"flaky: {tests}, to be mended in the product or in the test")
