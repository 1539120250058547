"""A trace adds up to the whole time, whoever marks."""

import pytest

from runner.host.trace import Trace


def test_phases_follow_each_other_and_add_up():
    trace = Trace()
    for name in ("find", "check", "find"):
        trace.mark(name)
    trace.mark_once("check")
    phases = trace.phases()
    assert [each.name for each in phases] == ["find", "check", "find"]
    assert all(each.seconds >= 0 for each in phases)
    assert sum(each.seconds for each in phases) == pytest.approx(phases[-1].at)
    assert set(trace.as_dict()) == {"find", "check"}
    assert sum(trace.as_dict().values()) == pytest.approx(phases[-1].at * 1e3, abs=0.01)


def test_the_table_has_a_line_for_each_phase():
    trace = Trace()
    trace.mark("hand-out")
    head, line = trace.as_text().splitlines()
    assert head.split() == ["phase", "ms", "ended", "at"]
    assert line.split()[0] == "hand-out"


def test_a_trace_without_marks_is_empty():
    assert Trace().phases() == ()
