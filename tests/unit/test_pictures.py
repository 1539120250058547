"""Pictures of jobs: what is found to draw, that hostile content is only drawn, and files."""

from __future__ import annotations

import contextlib
import json
import math
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.cli import cli
from runner.encoded.counts import largest
from runner.errors import RequestError
from runner.job import Job, showing
from runner.job.life import Life
from runner.job.record import JobRecord, JobStatus, Outcome, StartedEvent, Usage
from runner.pictures import drawing
from runner.pictures.contents import MAX_SERIES, Contents, Wanted, contents
from runner.pictures.drawing import MAX_POINTS, Picture, thinned
from runner.pictures.series import MAX_FIELDS
from runner.store import Store
from runner.store.recorder import Recorder
from sandbox import codec
from sandbox.wire.protocol import JsonText

BELL = {"00": 489, "11": 502, "01": 9}
HOSTILE = "$\\frac{$ </text><script>alert(1)</script> \x1b[31m\u202e 漢 " + "x" * 10_000


def found(messages, result=None, **wanted):
    """Return what there is to draw of messages and a result that are given as plain values."""
    bodies = [(number, codec.encode(each)) for number, each in enumerate(messages)]
    text = None if result is None else codec.encode(result)
    return contents("job-1", bodies, text, Wanted(**wanted))


def drawn(what, form="svg", heading="vqe", bars=16):
    pytest.importorskip("matplotlib")
    return Picture(heading=heading, below="job-1", contents=what, bars=bars).drawn(form)


# --- what is found --------------------------------------------------------------------------------


def test_a_number_that_changes_is_drawn_by_what_counts_the_messages():
    messages = [{"progress": n / 9, "evaluation": 2 * n, "energy": -n / 4} for n in range(9)]
    (series,) = found(messages).series
    assert (series.name, series.by, series.left_out) == ("energy", "evaluation", 0)
    assert series.xs == [2 * n for n in range(9)]
    assert series.ys == [-n / 4 for n in range(9)]


def test_without_a_counter_the_number_of_the_message_is_one():
    for messages in ([0.5, 0.25, 0.25], [{"e": 0.5}, {"e": 0.25}, {"e": 0.25}]):
        (series,) = found(["begun", *messages]).series
        assert (series.by, series.xs, series.ys) == (None, [1, 2, 3], [0.5, 0.25, 0.25])


def test_of_fields_that_all_count_the_later_ones_are_drawn():
    (series,) = found([{"pub": 0, "depth": 4}, {"pub": 1, "depth": 9}]).series
    assert (series.name, series.by) == ("depth", "pub")
    (series,) = found([{"best": 1}, {"best": 5}]).series
    assert (series.name, series.by) == ("best", None)


def test_numbers_in_every_encoding_are_numbers():
    values = [np.float64(1.5), np.array(2.5), np.int64(3), 4, 5.5]
    assert found([{"e": each} for each in values]).series[0].ys == [1.5, 2.5, 3, 4, 5.5]


def test_what_cannot_be_drawn_is_left_out_and_counted():
    values = [1, math.nan, math.inf, 10**400, 1e300, True, "2", None, [3], 4]
    (series,) = found([{"e": each} for each in values]).series
    assert (series.xs, series.ys, series.left_out) == ([0, 9], [1, 4], 4)


def test_fields_are_chosen_by_key_or_by_pointer():
    messages = [{"n": n, "point": np.array([n, -n]), "a/b~": {"c": n * n}} for n in range(3)]
    asked = found(messages, BELL, fields=("/point/1", "/a~1b~0/c"), by="/point/0")
    assert [each.ys for each in asked.series] == [[0, -1, -2], [0, 1, 4]]
    assert [each.by for each in asked.series] == ["/point/0"] * 2
    assert asked.counts == []
    assert found(messages, BELL, fields=("n",), counts=True).counts == [("", BELL)]
    (series,) = found([{"x": x, "y": -x} for x in (2, 1)], by="x").series
    assert (series.name, series.by) == ("y", "x")
    with pytest.raises(RequestError, match=r"no message with a number in 'x'.* n \(3\)"):
        found(messages, fields=("x",))
    with pytest.raises(RequestError, match="in 'y'"):
        found(messages, fields=("n",), by="y")


def test_counts_come_from_the_result_else_from_the_last_messages():
    messages = [{"iteration": n, "counts": {"0": n + 1}} for n in range(6)]
    assert found(messages, BELL).counts == [("", BELL)]
    assert found(messages, "done").counts == [
        (f"iteration {n}", {"0": n + 1}) for n in (2, 3, 4, 5)
    ]
    assert found(messages, "done").series == [], "what counts the messages says nothing"
    assert found([{"counts": BELL}]).counts == [("message 0", BELL)]


def test_nothing_to_draw_is_an_error_that_says_what_there_is():
    with pytest.raises(RequestError) as caught:
        found([{"n": 1}, "\x1b[31m"], {"greeting": "\x1b[2J"})
    said = str(caught.value)
    assert "nothing to draw in job-1" in said
    assert '{"greeting":"' in said
    assert "2 messages with numbers in n (1)" in said
    assert "\x1b" not in said
    with pytest.raises(RequestError, match="no result and 0 messages with no numbers"):
        found([])


def test_no_content_costs_much():
    began = time.monotonic()
    many = [{f"key {n} {k}": k for k in range(40)} for n in range(2000)]
    what = found([*many, *({"e": n % 7} for n in range(20_000))], fields=("e",))
    assert len(what.series[0].ys) == 20_000
    assert len(found(many, BELL).others) <= MAX_FIELDS
    packed = codec.encode({"e": np.zeros(1 << 19), "n": 0})  # half of what is unpacked in all
    bodies = [(n, packed) for n in range(300)]
    with pytest.raises(RequestError):
        contents("job-1", bodies, None, Wanted(fields=("/e/7/x",)))
    assert time.monotonic() - began < 60


def test_more_series_than_panels_are_named():
    what = found([{f"f{k}": k * (-1) ** n for k in range(1, 8)} for n in range(3)])
    assert [each.name for each in what.series] == ["f1", "f2", "f3", "f4"]
    assert what.others == ["f5", "f6", "f7"]
    assert len(what.series) == MAX_SERIES


@given(st.dictionaries(st.text("01", min_size=1), st.integers(0, 1 << 53)), st.integers(1, 20))
def test_the_largest_and_the_others_are_all(counts, most):
    shown = largest(counts, most)
    assert shown.total == sum(counts.values()) == shown.rest + sum(n for _, n in shown.rows)
    assert len(counts) == len(shown.rows) + shown.others
    assert shown.rows == sorted(shown.rows, key=lambda row: (-row[1], row[0]))


@given(st.integers(1, 3 * MAX_POINTS), st.randoms())
@settings(max_examples=20)
def test_thinned_series_keep_their_peaks_and_their_order(count, random):
    ys = [random.random() for _ in range(count)]
    xs, kept, every = thinned([float(n) for n in range(count)], ys)
    assert len(xs) == len(kept) <= MAX_POINTS
    assert (min(kept), max(kept)) == (min(ys), max(ys))
    assert xs == sorted(set(xs))
    assert [ys[int(x)] for x in xs] == kept
    assert (every == 1) == (count <= MAX_POINTS)


# --- what is drawn --------------------------------------------------------------------------------


@pytest.mark.parametrize(("form", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_equal_jobs_give_equal_files(form, begins):
    what = found([{"energy": n} for n in (3, 1, 2)], BELL)
    first, second = (drawn(what, form) for _ in range(2))
    assert first == second
    assert first.startswith(begins)


def test_hostile_text_is_drawn_as_it_is_and_nothing_else():
    messages = [{"step": n, HOSTILE: math.sin(n)} for n in range(5000)]
    many = {f"{n:07b}": n for n in range(100)}
    text = drawn(found(messages, [{"0" * 300: 7, "1" * 300: 2}, many]), heading=HOSTILE).decode()
    assert len(text) < 400_000
    ET.fromstring(text)
    assert "<script" not in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "x" * 200 not in text
    assert "$\\frac{$" in text, "matplotlib notes beside its outlines what it has drawn"


@pytest.mark.parametrize(
    "values",
    [
        [-1e150, 1e150],
        [5e-324, 1e-323],
        [5.0, 5.0],
        [1e15, 1e15 + 1],
        [-1.0000000001, -1.0000000002],
        [0],
    ],
)
def test_extreme_numbers_are_drawn_without_a_warning(values):
    assert drawn(found([{"e": each} for each in values], {"0": 2**53, "1": 1}), "png")


def test_the_rest_is_summed_and_said():
    what = found([], {f"{n:07b}": 100 - n for n in range(100)})
    assert "99 more" in drawn(what, bars=-5).decode()
    text = drawn(what, bars=3).decode()
    assert "97 more" in text
    assert "4753 (94.1%)" in text
    assert "times, of 5050" in text


def test_what_the_user_has_configured_is_neither_used_nor_changed():
    mpl = pytest.importorskip("matplotlib")
    before = drawn(found([], BELL))
    with mpl.rc_context({"text.usetex": True, "font.size": 40, "svg.fonttype": "none"}):
        assert drawn(found([], BELL)) == before
        assert mpl.rcParams["text.usetex"]


def test_drawing_does_not_touch_what_pyplot_shares():
    code = (
        "import sys\n"
        "import runner.cli, runner.job.showing, runner.pictures.page\n"
        "assert not {'matplotlib', 'numpy'} & set(sys.modules)\n"
        "from runner.pictures.contents import Contents\n"
        "from runner.pictures.drawing import Picture\n"
        "what = Contents(series=[], counts=[('', {'0': 1})], others=[])\n"
        "Picture(heading='h', below='b', contents=what, bars=1)._repr_png_()\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    pytest.importorskip("matplotlib")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_without_matplotlib_an_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    what = Contents(series=[], counts=[("", BELL)], others=[])
    with pytest.raises(RequestError, match=r"-m pip install 'matplotlib>=3.9,<4'"):
        Picture(heading="h", below="b", contents=what, bars=1).drawn("png")


# --- what results are besides counts by bit string ------------------------------------------------


def drawn_of(result, *messages, **wanted):
    bodies = [(number, json.dumps(each)) for number, each in enumerate(messages)]
    return contents("job-1", bodies, json.dumps(result), Wanted(**wanted))


def test_probabilities_and_whole_numbers_as_outcomes_are_drawn():
    shares = {"00": 0.25, "11": 0.75}
    assert drawn_of({"p": shares}).counts == [("p", shares)]
    assert drawn_of({"2": 3, "10": 5}).counts == [("", {"2": 3, "10": 5})]
    pairs = {"__type__": "dict", "__value__": [[2, 3], [10, 5]]}
    assert drawn_of(pairs).counts == [("", {"2": 3, "10": 5})]
    with pytest.raises(RequestError, match="nothing to draw"):
        drawn_of({"00": 0.25, "11": 0.25})


def test_lists_of_numbers_are_drawn_item_by_item():
    (series,) = drawn_of([3, 1.5, float("inf"), 2]).series
    assert (series.xs, series.ys, series.left_out, series.unit) == (
        [0, 1, 3],
        [3, 1.5, 2],
        1,
        "item",
    )
    named = drawn_of({"energies": [1, 2], "text": "x", "mixed": [1, "x"], "one": [1]}).series
    assert [each.name for each in named] == ["energies"]
    packed = json.loads(codec.encode(np.arange(3) / 2))
    assert drawn_of({"x": packed}).series[0].ys == [0, 0.5, 1]
    energies = drawn_of(None, [0, 1.5], [1, 1.25], [2, 1.125]).series
    assert [(each.name, each.by, each.ys) for each in energies] == [
        ("/1", "/0", [1.5, 1.25, 1.125])
    ]


def test_results_of_several_jobs_are_drawn_by_job_or_by_an_input():
    jobs = [(json.dumps({"n": n}), json.dumps({"energy": n / 2})) for n in (1, 2, 4)]
    picture = showing.picture_of_jobs("tag", [*jobs, ("{}", None)], Wanted(), 16)
    (series,) = picture.contents.series
    assert (series.name, series.by, series.xs, series.ys) == (
        "energy",
        "inputs.n",
        [1, 2, 4],
        [0.5, 1, 2],
    )
    plain = [("{}", json.dumps(number / 2)) for number in range(3)]
    (series,) = showing.picture_of_jobs("tag", plain, Wanted(), 16).contents.series
    assert (series.name, series.unit, series.ys) == ("result", "job", [0, 0.5, 1])


# --- files, and the command -----------------------------------------------------------------------


@pytest.fixture
def directory(tmp_path, monkeypatch):
    monkeypatch.setenv("QRUNNER_STORE", str(tmp_path / "jobs.db"))
    monkeypatch.chdir(tmp_path)
    # What is drawn is tested above: here it is which file.
    monkeypatch.setattr(drawing, "_drawn", lambda picture, form: form.encode())
    pytest.importorskip("matplotlib")
    return tmp_path


def keep(store, job_id):
    """Return a job that is kept and has not begun."""
    keeper = Recorder(store, keep_open=True)
    job = Life(
        job_id,
        "vqe",
        decode=json.loads,
        on_cancel=lambda: None,
        log_kept_bytes=1000,
        keeper=keeper,
    )
    job.status = JobStatus.QUEUED
    keeper.add(job, None)
    return job


def end(job):
    record = JobRecord(
        job=job.id,
        program="vqe",
        outcome=Outcome.COMPLETED,
        result=JsonText(json.dumps(BELL)),
        usage=Usage(wall_s=1.5),
    )
    job.finish(record)


@pytest.fixture
def job(directory):
    """A kept job that a cluster has tried twice."""
    with contextlib.closing(Store(directory / "jobs.db")) as store:
        job = keep(store, "job-00000000000000a1")
        job.add_message(JsonText('{"energy": 77}'))
        job.begin_again()
        job.start()
        job.history.extend([StartedEvent(job=job.id, program="vqe", image=None, attempt=2)])
        for number in range(3):
            job.add_message(JsonText(json.dumps({"energy": -number / 2, "other": number % 2})))
        end(job)
        yield job


def call(*arguments):
    done = CliRunner().invoke(cli, ["plot", *arguments], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.return_value, done.stdout, done.stderr


def test_the_command_writes_a_file_and_says_its_name(job, directory):
    assert call("last") == (0, f"{job.id}.png\n", "")
    assert (directory / f"{job.id}.png").read_text() == "png"
    assert call(job.id[:8], "-o", "energy.SVG")[1] == "energy.SVG\n"
    assert (directory / "energy.SVG").read_text() == "svg"


def test_no_file_is_overwritten_by_accident(job, directory):
    (directory / "mine.png").write_text("mine")
    with pytest.raises(RequestError, match=r"mine.png is there already.*--force"):
        call("last", "-o", "mine.png")
    assert (directory / "mine.png").read_text() == "mine"
    call("last", "-o", "mine.png", "--force")
    assert (directory / "mine.png").read_text() == "png"


@pytest.mark.parametrize("name", ["picture", "picture.pdf", "no/such/directory.png"])
def test_what_cannot_be_written_is_refused(job, name):
    with pytest.raises(RequestError, match=Path(name).name):
        call("last", "-o", name)


def test_a_handle_draws_what_the_command_draws(job):
    handle = Job(job)
    picture = handle.plot()
    assert (picture.heading, picture.below) == ("vqe", f"{job.id} · completed after 1.50 s")
    assert [each.ys for each in picture.contents.series] == [[0, -0.5, -1], [0, 1, 0]]
    assert picture.contents.counts == [("", BELL)]
    assert [each.name for each in handle.plot("other", by="energy").contents.series] == ["other"]
    assert picture._repr_png_() == (b"png", {"width": 720})
    assert picture.save("a.svg").read_text() == "svg"
    running = Life("job-2", "p", decode=json.loads, on_cancel=print, history=job.history)
    assert "has not ended" in Job(running).plot().below


def test_fields_that_found_no_place_are_named(job):
    for number in range(3):
        job.add_message(JsonText(json.dumps({f"f{k}": -number for k in range(5)})))
    assert Job(job).plot().contents.others == ["f2", "f3", "f4"]


def test_the_names_that_are_said_are_cut(directory):
    names = [f"{k}" + "x" * 10_000 for k in range(9)]
    with contextlib.closing(Store(directory / "jobs.db")) as store:
        job = keep(store, "job-00000000000000a2")
        job.start()
        for number in range(3):
            job.add_message(JsonText(json.dumps(dict.fromkeys(names, -number))))
        end(job)
        said = call(job.id)[2]
    assert "not drawn: " in said
    assert len(said) < 1000
