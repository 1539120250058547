"""Jobs in notebooks: the HTML that shows them, and watching one until it has ended."""

from __future__ import annotations

import json
import re
import threading
import types
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import RequestError
from runner.job import Job
from runner.job.record import Evidence, JobRecord, Outcome, Usage
from runner.pictures import notebook
from runner.pictures.page import MAX_BARS, MAX_MESSAGES
from sandbox.wire.protocol import JsonText
from tests.unit.test_job import completed, failed, make_life

HOSTILE = (
    "</code></pre><script>alert(1)</script><img src=x onerror=y>$\\href{javascript:x}{y}$\x1b[2J"
)
TAGS = {"div", "p", "b", "small", "code", "pre", "table", "tr", "td", "span"}


class Reader(HTMLParser):
    """Collects the tags, and the text outside of what notebooks leave alone."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.outside, self.attributes = set(), [], "", set()
        self.feed(text)
        self.close()
        assert not self.open, "every element is closed"

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.open.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"code", "pre"} & set(self.open):
            self.outside += data


def job_that(**fields):
    job = Job(life := make_life())
    life.finish(JobRecord(job="job-1", program="p", **fields))
    return job


def test_a_running_job_shows_its_last_messages():
    job = Job(life := make_life())
    assert "INITIALIZING" in job._repr_html_()
    life.start()
    for number in range(20):
        life.add_message(JsonText(json.dumps({"energy": number})))
    shown = job._repr_html_()
    assert re.search(r"RUNNING</b> for \d+ s", shown)
    assert shown.count("energy") == MAX_MESSAGES
    assert f"{20 - MAX_MESSAGES} earlier messages" in shown
    assert "#19" in shown
    assert repr(job) == "<Job job-1 of p: RUNNING>"


def test_a_completed_job_shows_its_counts_as_bars():
    counts = {f"{n:06b}": 60 - n for n in range(60)}
    usage = Usage(wall_s=2.5, memory_peak_bytes=100 << 20)
    shown = job_that(
        outcome=Outcome.COMPLETED, result=JsonText(json.dumps(counts)), usage=usage
    )._repr_html_()
    assert "completed</b> after 2.50 s, at most 100 MiB of memory" in shown
    assert shown.count("█</span>") == MAX_BARS
    assert max(map(len, re.findall("█+", shown))) == 30
    assert f"{60 - MAX_BARS} more" in shown
    assert repr(job_that(outcome=Outcome.COMPLETED)) == "<Job job-1 of p: completed>"


def test_any_other_result_is_shown_as_it_is():
    job = Job(life := make_life())
    life.finish(completed('{"energy": -1.5}'))
    assert "{&quot;energy&quot;: -1.5}" in job._repr_html_()


def test_a_failed_job_shows_why():
    shown = job_that(
        outcome=Outcome.TIME_LIMIT,
        traceback="Traceback\n  line <1>",
        evidence=Evidence(limit="timeout_s", value=1, observed=1.5, source="host"),
    )._repr_html_()
    assert "time_limit</b> (timeout_s 1, 1.5 seen, by host)" in shown
    assert "<pre>Traceback\n  line &lt;1&gt;</pre>" in shown


def test_nothing_of_a_program_becomes_html_or_mathematics():
    job = Job(life := make_life())
    life.program = HOSTILE
    life.add_message(JsonText(json.dumps(HOSTILE)))
    life.finish(
        failed(
            traceback=HOSTILE,
            result=JsonText(json.dumps({HOSTILE: {"0": 1}, "more": {HOSTILE: 1}})),
        )
    )
    text = job._repr_html_()
    shown = Reader(text)
    assert shown.tags <= TAGS
    assert shown.attributes <= {"class", "style"}
    assert "$" not in shown.outside
    assert "javascript" not in shown.outside
    assert "\x1b" not in text
    assert 'class="tex2jax_ignore mathjax_ignore"' in text


@given(st.text(max_size=300), st.lists(st.text(max_size=300), max_size=9), st.text(max_size=300))
def test_any_text_is_shown_and_bounded(trouble, messages, result):
    job = Job(life := make_life())
    for each in messages:
        life.add_message(JsonText(json.dumps(each * 50)))
    life.finish(failed(traceback=trouble * 50, result=JsonText(json.dumps(result * 50))))
    text = job._repr_html_()
    assert len(text) < 100_000
    assert Reader(text).tags <= TAGS


def test_outside_of_notebooks_there_is_nothing_to_watch():
    with pytest.raises(RequestError, match="messages()"):
        Job(make_life()).watch()


class Notebook:
    """What of IPython is used, as a notebook's kernel has it."""

    def __init__(self, monkeypatch):
        self.shown = []
        shell = types.SimpleNamespace(kernel=object())
        display = types.SimpleNamespace(display=self.display)
        ipython = types.SimpleNamespace(get_ipython=lambda: shell, display=display)
        monkeypatch.setitem(notebook.sys.modules, "IPython", ipython)
        monkeypatch.setattr(notebook, "TICK_S", 0.02)

    def display(self, shown, *, display_id):
        assert display_id is True
        self.update(shown)
        return self

    def update(self, shown):
        self.shown.append(shown._repr_html_())


def test_watching_shows_a_job_until_it_has_ended(monkeypatch):
    screen = Notebook(monkeypatch)
    job = Job(life := make_life())
    threading.Timer(0.05, lambda: life.finish(completed('{"00": 1}'))).start()
    job.watch()
    assert "INITIALIZING" in screen.shown[0]
    assert "completed" in screen.shown[-1]


def test_watching_no_longer_leaves_the_job_alive(monkeypatch):
    Notebook(monkeypatch)
    job = Job(life := make_life())
    with pytest.raises(TimeoutError, match="goes on"):
        job.watch(timeout=0.05)
    assert not life.is_cancelled
