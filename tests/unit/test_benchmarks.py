"""What the comparison makes of its measurements; the measuring itself is `make bench`."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from benchmarks import against, compare, tables, targets
from benchmarks.contenders import rivals
from benchmarks.contenders.contender import (
    Contender,
    Ring,
    UnavailableError,
    WrongAnswerError,
    answer_of,
)
from benchmarks.subjects import SUBJECTS, Answer, Subject

ROOT = Path(__file__).parents[2]
MACHINE = {
    "cores": 2,
    "processor": "X",
    "memory_gib": 8.0,
    "system": "Linux 6 (x86_64)",
    "engine": "28.0",
    "control_groups": "v2",
    "python": "3.12.1",
    "load_before": 0.1,
    "load_after": 0.2,
    "date": "2026-01-02",
}


class NoContainers:
    """An engine on which nothing of ours runs."""

    def containers(self):
        return {}


class Counting(Contender):
    name, title, what, group = "counting", "Counting", "counts", "ours"
    wrong_after = 99

    def open(self):
        self.count = 0
        self.is_closed = False

    def run(self):
        self.count += 1
        return Answer(self.count / 1000, self.count <= self.wrong_after, [], {})

    def close(self):
        self.is_closed = True


class Absent(Counting):
    name, title = "absent", "Absent"

    def open(self):
        msg = "not installed: no such package"
        raise UnavailableError(msg)


class Wrong(Counting):
    name, title = "wrong", "Wrong"
    wrong_after = 2


def comparison(*kinds):
    subject = Subject("any", "any", {}, lambda answer: answer.result)
    return compare.Comparison(Ring(NoContainers(), subject, "", "", {}), kinds)


def figures(**medians):
    rows = []
    for name, value in medians.items():
        record = compare.Record(name.replace("_", "-"), name, "bare", "")
        record.seconds = [value, value]
        record.rates = [1 / value]
        rows.append(record.row())
    return {
        "rounds": 2,
        "machine": MACHINE,
        "programs": {"no-op": rows, "random_circuits": rows},
        "missing_programs": {"vqe": "no such program"},
    }


def test_whoever_cannot_take_part_is_reported_and_the_others_go_on(capsys):
    one = comparison(Absent, Wrong, Counting)
    one.open()
    for number in range(4):
        one.latencies(number)
    one.close()
    assert one.records["absent"].missing == "not installed: no such package"
    assert "a wrong answer: False" in one.records["wrong"].missing
    assert one.records["counting"].missing is None
    assert one.records["counting"].row()["samples"] == 4
    table = tables.comparison(
        {**figures(), "programs": {"any": [r.row() for r in one.records.values()]}}
    )
    assert "Absent: not installed: no such package" in table
    assert "Wrong: failed: WrongAnswerError" in table


def test_a_record_becomes_medians_in_milliseconds():
    record = compare.Record("cold", "Cold", "ours", "what", seconds=[0.001, 0.002, 0.009])
    record.rates, record.resting_bytes = [9.0, 4.0, 3.0], 3 << 20
    row = record.row()
    assert row["median_ms"] == pytest.approx(2)
    assert 8 < row["p99_ms"] <= 9
    assert (row["jobs_per_s"], row["resting_mib"], row["working_mib"]) == (4.0, 3.0, None)


def test_what_was_never_timed_has_no_figures():
    row = compare.Record("cold", "Cold", "ours", "what").row()
    assert row["median_ms"] is row["p99_ms"] is row["jobs_per_s"] is None


def test_the_drivers_lines_become_an_answer():
    lines = ["a line of the program's own\n", '{"message": {"n": 1}}\n', '{"result": 5}\n']
    answer = answer_of(lines, 0.5, until=0.25)
    assert (answer.result, answer.messages, answer.further) == (5, [{"n": 1}], {"until": 0.25})
    with pytest.raises(WrongAnswerError, match="no result"):
        answer_of(["Traceback …\n"], 0.5)


def test_the_driver_runs_a_program_with_its_inputs(tmp_path):
    (tmp_path / "qiskit_aer.py").write_text("class AerSimulator: pass\n")
    (tmp_path / "program.py").write_text(
        "def main(backend, user_messenger, n):\n"
        "    user_messenger.publish(type(backend).__name__)\n"
        "    return n + 1\n"
    )
    driver = (ROOT / "benchmarks" / "rivals" / "driver.py").read_text()
    driver = driver.replace('"/program"', repr(str(tmp_path)))
    done = subprocess.run(
        [sys.executable, "-c", driver], input='{"n": 4}\n', capture_output=True, text=True
    )
    answer = answer_of(done.stdout.splitlines(), 0)
    assert (answer.result, answer.messages) == (5, ["AerSimulator"])


def test_right_and_wrong_answers_to_each_program_are_told_apart():
    noop, circuits, vqe = (each.is_right for each in SUBJECTS)
    assert noop(Answer(0, 7, [], {}))
    assert not noop(Answer(0, 8, [], {}))
    published = [{"counts": {"00": 1000, "01": 24}}] * 5
    assert circuits(Answer(0, "All done!", published, {}))
    assert not circuits(Answer(0, "All done!", published[1:], {}))
    assert vqe(Answer(0, {"energy": -1.8}, [{"energy": -1.0}, {"energy": -1.8}], {}))
    assert not vqe(Answer(0, {"energy": -1.0}, [{"energy": -1.0}], {}))


def test_a_target_is_met_missed_or_not_measured():
    found = figures(warm=0.001, docker_run=1.0, cold=0.9, session=0.03, forks=0.0005)
    by_what = {each.what: each for each in targets.compared(targets.Figures(found))}
    met = [each.met for each in by_what.values()]
    assert met == [True, True, False, False, True, True, True, True, False, False]
    assert by_what["warm no-op: median"].cells()[1:] == ("≤ 1.2 ms", "1 ms", "met")
    assert {each.met for each in targets.compared(targets.Figures({}))} == {None}


def test_jobs_per_second_are_compared_round_by_round():
    found = figures(session=0.01, cold=1.0)
    session, cold = found["programs"]["no-op"]
    session["rates"], cold["rates"] = [200.0, 90.0, 120.0], [4.0, 1.5, 2.0]
    assert targets.Figures(found).throughput("no-op", "session", "cold") == 60
    cold["rates"] = []
    assert targets.Figures(found).throughput("no-op", "session", "cold") is None


def test_another_checkout_is_compared_round_by_round():
    ours, theirs = [1.0, 3.0, 2.0], [2.0, 3.0, 8.0]
    *_, time = against.row("warm", ours, theirs, 1.1)
    *_, rate = against.row("isolated", ours, theirs, 0.9)
    assert (time.value, time.holds) == (2.0, True)
    assert (rate.value, rate.holds) == (0.5, False)


def test_the_targets_of_other_benchmarks_are_taken_as_they_are(tmp_path):
    rows = [
        {"what": "  a ratio", "value": 2.0, "unit": "times", "at_most": 1.0},
        {"what": "a rate", "value": 2.0, "unit": "/s", "at_most": None, "at_least": 1.0},
        {"what": "a figure", "value": 2.0, "unit": "s", "at_most": None},
    ]
    (tmp_path / "relay.json").write_text(json.dumps({"rows": rows}))
    taken = [each for each in targets.taken(tmp_path) if each.measured is not None]
    assert [(each.what, each.met) for each in taken] == [
        ("relay: a ratio", False),
        ("relay: a rate", True),
    ]


def test_figures_of_a_run_replace_those_in_the_document(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    tables.DOCUMENT.write_text(f"before\n{tables.BEGIN}\nold\n{tables.END}\nafter\n")
    tables.README.write_text(f"{tables.BEGIN}\n{tables.END}\n")
    places = [f"<!-- rows of {name}: a note -->\nold\n<!-- /rows -->\n" for name in "ab"]
    tables.PERFORMANCE.write_text("".join(places))
    build = tmp_path / "build"
    build.mkdir()
    (build / "compare.json").write_text(json.dumps(figures(warm=0.008, docker_run=1.0)))
    (build / "compare.svg").write_text("<svg/>")
    row = {"what": "  a rate", "value": 2.0, "unit": "/s", "at_most": None, "at_least": 1.0}
    (build / "a.json").write_text(json.dumps({"rows": [row]}))
    for _ in range(2):
        assert tables.write_documents(build) == 0
    text = tables.DOCUMENT.read_text()
    assert text.startswith(f"before\n{tables.BEGIN}\n")
    assert text.endswith(f"{tables.END}\nafter\n")
    assert "| warm | 8 | 8 | 2 | 125 | - | - | 125 |" in text
    assert "vqe: not measured: no such program" in text
    assert "old" not in text
    assert "| docker_run | 1000 ms | 1000 ms |" in tables.README.read_text()
    assert tables.PICTURE.read_text() == "<svg/>"
    performance = tables.PERFORMANCE.read_text()
    assert "| … a rate | 2 /s | ≥ 1 |\n\n<!-- /rows -->" in performance
    assert performance.endswith(places[1])


def test_the_document_names_every_contender_and_has_a_place_for_figures():
    text = (ROOT / tables.DOCUMENT).read_text()
    for kind in compare.KINDS:
        assert f"| `{kind.name}` |" in text
    assert tables.BEGIN in text
    assert tables.END in text


def test_each_place_for_rows_is_that_of_a_benchmark_that_make_bench_runs():
    makefile = (ROOT / "Makefile").read_text()
    benchmarks = re.search(r"^BENCHMARKS := (.*)$", makefile, re.MULTILINE)[1].split()
    places = [each[2] for each in tables.ROWS.finditer((ROOT / tables.PERFORMANCE).read_text())]
    assert places
    assert set(places) <= set(benchmarks)


def test_a_rival_that_is_not_installed_says_why(tmp_path, monkeypatch):
    log = tmp_path / "bench.log"
    monkeypatch.setattr(rivals, "BIN", tmp_path)
    monkeypatch.setattr(rivals, "LOG", log)
    rival = rivals.Epicbox(Ring(NoContainers(), SUBJECTS[0], "", "", {}))
    with pytest.raises(UnavailableError, match="run tools/setup-group bench"):
        rival.open()
    log.write_text("ERROR: No matching distribution found for epicbox\nmore\n")
    with pytest.raises(UnavailableError, match="No matching distribution found for epicbox"):
        rival.open()
    rival.close()


def test_the_lock_of_the_rivals_has_all_of_them_with_hashes():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = {re.match(r"[a-z0-9-]+", each)[0] for each in project["dependency-groups"]["bench"]}
    lock = (ROOT / "requirements" / "bench.lock").read_text().replace("\\\n", " ")
    lines = [each for each in lock.splitlines() if re.match(r"[a-z]", each)]
    assert all("--hash=sha256:" in each for each in lines)
    assert wanted <= {each.partition("==")[0] for each in lines}
