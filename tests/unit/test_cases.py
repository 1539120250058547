"""What a case may say, what it makes of a result, and how a mistake in it is named."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from runner.backends.recording import Recording
from runner.checking.cases import Case, Expectation, cases
from runner.checking.comparison import Tolerance
from runner.errors import ManifestError
from runner.job.record import Outcome
from runner.programs import read_directory
from sandbox import codec


@pytest.fixture
def read(tmp_path):
    def read(**content):
        path = tmp_path / "one.json"
        path.write_text(json.dumps(content))
        return Case.from_file(path)

    return read


def problems(case, result=None, messages=()):
    data = [json.loads(codec.encode(each, "value")) for each in (result, *messages)]
    return case.expect.problems(data[0], data[1:], len(messages))


def nested(value, depth):
    for _ in range(depth):
        value = {"not": value}
    return value


def test_equality_is_of_the_encoded_forms(read):
    case = read(expect={"result": {"a": 1}, "messages": [1, 2], "message_count": 2})
    assert problems(case, {"a": 1}, (1, 2)) == []
    assert problems(case, {"a": 2}, (1,)) == [
        'result is {"a": 2}, expected {"a": 1}',
        "messages is [1], expected [1, 2]",
        "1 messages, expected 2",
    ]


def test_a_tolerance_counts_for_result_and_messages(read):
    case = read(expect={"result": [1.0], "messages": [0.5], "tolerance": {"absolute": 0.01}})
    assert problems(case, np.array([1.005]), (np.float64(0.501),)) == []
    assert problems(case, np.array([1.02]), (0.5,)) == [
        "result[0] is 1.02, expected 1.0 within 0.01"
    ]


def test_checks_look_at_parts(read):
    case = read(
        expect={
            "checks": [
                {"at": "/result/energy", "equals": -1.0, "tolerance": {"relative": 1e-3}},
                {"at": "/result/kind", "equals": "vqe"},
                {"at": "/messages", "schema": {"type": "array", "minItems": 1}},
                {"at": "/messages/0/step", "schema": {"type": "integer", "maximum": 3}},
                {
                    "at": "/result/counts",
                    "distribution": {"probabilities": {"0": 0.5, "1": 0.5}, "significance": 1e-6},
                },
                {
                    "at": "/result/counts",
                    "distribution": {"counts": {"0": 300, "1": 300}, "significance": 1e-6},
                },
            ]
        }
    )
    right = {"energy": -1.0005, "kind": "vqe", "counts": {"0": 520, "1": 480}}
    assert problems(case, right, ({"step": 3},)) == []
    wrong = {"energy": -1.1, "kind": "x", "counts": {"0": 1000}}
    found = problems(case, wrong, ({"step": 4},))
    assert [each.split()[0] for each in found] == [
        "/result/energy",
        "/result/kind",
        "/messages/0/step:",
        "/result/counts",
        "/result/counts",
    ]
    assert "nothing at /result/energy" in problems(case, {}, ())[0]
    assert problems(case, {**right, "counts": [1]}, ({"step": 1},))[0].startswith(
        "/result/counts holds no counts"
    )


@pytest.mark.parametrize(
    ("backend", "expected"),
    [
        (None, {"options": {"seed_simulator": 7}}),
        ("aer_simulator", {"name": "aer_simulator", "options": {"seed_simulator": 7}}),
        (
            {"name": "x", "options": {"shots": 5}},
            {"name": "x", "options": {"seed_simulator": 7, "shots": 5}},
        ),
        (
            {"name": "x", "options": {"seed_simulator": 1}},
            {"name": "x", "options": {"seed_simulator": 1}},
        ),
    ],
)
def test_a_seed_is_an_option_of_the_backend(read, backend, expected):
    assert read(backend=backend, seed=7).backend == expected
    assert read(backend=backend).backend == backend


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"expects": {}}, "unknown key 'expects'; known are backend, description, expect,"),
        ({"expect": {"results": 1}}, "unknown key 'results'"),
        ({"expect": {"outcome": "done"}}, "expect.outcome"),
        ({"expect_runsc": {"x": 1}}, "expect_runsc: unknown key 'x'"),
        ({"expect": {"tolerance": {"absolute": -1}}}, "expect.tolerance.absolute"),
        ({"expect": {"tolerance": {}}}, "expect.tolerance"),
        ({"expect": {"checks": [{"at": "/results"}]}}, r"expect.checks.0"),
        ({"expect": {"checks": [{"at": "/log", "equals": 1}]}}, r"checks.0.at.*does not match"),
        ({"expect": {"checks": [{"at": "/result", "equals": 1, "schema": {}}]}}, "checks.0"),
        (
            {"expect": {"checks": [{"at": "/result", "schema": {"type": "nonsense"}}]}},
            "checks.0: not a JSON Schema",
        ),
        (
            {"expect": {"checks": [{"at": "/result", "distribution": {"counts": {"0": 1}}}]}},
            "'significance' is a required property",
        ),
        (
            {
                "expect": {
                    "checks": [
                        {
                            "at": "/result",
                            "distribution": {
                                "probabilities": {"0": 1.0, "1": 1.0},
                                "significance": 0.01,
                            },
                        }
                    ]
                }
            },
            "checks.0: the probabilities add up to 2",
        ),
        ({"expect": {"tolerance": {"absolute": 10**400}}}, "expect.tolerance.absolute"),
        (
            {"expect": {"checks": [{"at": "/result", "schema": {"$schema": []}}]}},
            r"checks.0.schema.\$schema",
        ),
        (
            {"expect": {"checks": [{"at": "/result", "schema": nested({}, 120)}]}},
            "checks.0: not a JSON Schema: RecursionError",
        ),
        ({"expect": {"result": nested(1, 900)}}, "nested deeper than 128"),
        (
            {
                "expect": {
                    "checks": [
                        {
                            "at": "/result",
                            "distribution": {"counts": {"0": 10**400}, "significance": 0.01},
                        }
                    ]
                }
            },
            "distribution.counts.0",
        ),
        ({"seed": 1, "backend": {"options": [1]}}, "backend.options"),
        ({"seed": -1}, "seed"),
        ({"limits": {"timeout_s": "1"}}, "limits.timeout_s"),
    ],
)
def test_a_mistake_in_a_case_is_named(read, content, problem):
    with pytest.raises(ManifestError, match=problem):
        read(**content)


def test_what_is_no_case_is_refused(tmp_path):
    path = tmp_path / "one.json"
    for text in ("[", "[]", "7", "[" * 100_000):
        path.write_text(text)
        with pytest.raises(ManifestError, match=r"one\.json"):
            Case.from_file(path)
    link = tmp_path / "link.json"
    link.symlink_to(path)
    with pytest.raises(ManifestError, match="regular file"):
        Case.from_file(link)


def test_what_cannot_be_compared_is_a_problem_of_the_case():
    case = Case(name="x", expect=Expectation(result=nested(1, 5000), tolerance=Tolerance()))
    record = SimpleNamespace(
        outcome=Outcome.COMPLETED,
        isolation=None,
        exceptions=(),
        result="1",
        usage=SimpleNamespace(messages=0),
    )
    (found,) = case.problems(SimpleNamespace(wait=lambda: record, events=lambda: ()))
    assert found.startswith(
        "result and messages cannot be compared with the expectation: Recursion"
    )


def test_a_program_without_cases_is_one_case(tmp_path):
    (tmp_path / "program.py").write_text("def main(backend, user_messenger): return 1\n")
    (only,) = cases(read_directory(tmp_path))
    assert (only.name, only.inputs, only.expect.outcomes) == ("default", {}, ("completed",))


RECORDED = {
    "recording": 1,
    "backend": {"name": "held", "options": {"backend": "lab"}},
    "answers": [{"verb": "run", "signature": "0a", "body": {"answer": [1, None]}}],
}


def test_a_recording_stands_in_the_place_of_a_backend(read, tmp_path):
    (tmp_path / "lab.recording").write_text(json.dumps(RECORDED))
    found = read(recording="lab.recording").backend
    assert found.backend == RECORDED["backend"]
    assert json.loads(found.to_text()) == RECORDED
    assert Recording.from_text(found.to_text(), "again").to_text() == found.to_text()


@pytest.mark.parametrize(
    ("content", "more", "reason"),
    [
        (RECORDED, {"backend": "lab"}, "leave out backend"),
        (RECORDED, {"seed": 1}, "leave out seed"),
        ({**RECORDED, "recording": 2}, {}, "a recording of version 2, not 1"),
        ({**RECORDED, "answers": [{"verb": "run"}]}, {}, "not a recording .* 'signature'"),
        ({**RECORDED, "backend": {"name": "aer_simulator", "options": {}}}, {}, "not a held one"),
        ({**RECORDED, "backend": {"name": "held", "options": 1}}, {}, "not a held one"),
        ([], {}, "not a recording"),
        ("[" * 100, {}, "not a recording .* not JSON"),
        ('{"recording": NaN}', {}, "not a recording .* not JSON"),
        (b"\xff", {}, "lab.recording: 'utf-8'"),
        (None, {}, "lab.recording: No such file"),
    ],
)
def test_what_is_no_recording_is_named_with_the_key(read, tmp_path, content, more, reason):
    path = tmp_path / "lab.recording"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ManifestError, match=f"one.json: recording: .*{reason}"):
        read(recording="lab.recording", **more)


def test_a_recording_is_beside_its_case(read):
    with pytest.raises(ManifestError, match="recording"):
        read(recording="../lab.recording")
