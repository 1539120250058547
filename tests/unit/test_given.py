"""Values in files and JSON text: what the host makes of them, and what the codec reads of that."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest
from qiskit import QuantumCircuit, qasm2, qpy

import runner
from runner.checking.cases import Case
from runner.cli.inputs import inputs_of, rows_of
from runner.encoded.parts import select
from runner.errors import InputsError, ManifestError
from runner.programs import given
from runner.programs.values import Value
from sandbox import codec


def inside(value):
    """Return the value as a program gets it."""
    return codec.decode(codec.encode(value), trusted=True)


@pytest.fixture
def bell():
    circuit = QuantumCircuit(2, 2)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.measure([0, 1], [0, 1])
    return circuit


@pytest.mark.parametrize("version", [13, qpy.QPY_VERSION])
def test_a_circuit_in_qpy(tmp_path, bell, version):
    with (tmp_path / "bell.qpy").open("wb") as file:
        qpy.dump(bell, file, version=version)
    assert inside(runner.read_value(tmp_path / "bell.qpy")) == bell


def test_a_circuit_in_openqasm(tmp_path, bell):  # 3 in tests/engine/test_given.py
    bell.sx(0)
    (tmp_path / "bell.qasm").write_text(qasm2.dumps(bell))
    found = inside(given.read_value(tmp_path / "bell.qasm"))
    assert isinstance(found, QuantumCircuit)
    assert [each.name for each in found.data] == [each.name for each in bell.data]


def test_what_a_program_sends_as_openqasm_is_not_read():
    text = json.dumps({"__type__": "qasm", "__value__": "OPENQASM 2.0; qreg q[1];"})
    value = codec.decode(text)
    assert isinstance(value, Value)
    with pytest.raises(codec.DecodingError, match="only inputs"):
        value.decode()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3, order="F"),
        np.float32(0.5),
        np.array([], "i2"),
        np.array(["é", "xy"]),
        np.array([(1, 2.0)], [("Ort", "i4"), ("b", ">f8")]),
    ],
)
def test_arrays(tmp_path, array):
    np.save(tmp_path / "one.npy", array)
    found = inside(given.read_value(tmp_path / "one.npy"))
    assert found.dtype == array.dtype
    assert np.array_equal(found, array)


def test_several_arrays(tmp_path):
    np.savez_compressed(tmp_path / "all.npz", x=np.eye(2), y=np.arange(3))
    found = inside(given.read_value(tmp_path / "all.npz"))
    assert np.array_equal(found["x"], np.eye(2))
    assert found["y"].tolist() == [0, 1, 2]


def test_json_and_text(tmp_path):
    values = [1 + 2j, (1, float("inf")), np.arange(2)]
    (tmp_path / "a.json").write_text(codec.encode(values))
    (tmp_path / "a.txt").write_text("@é\n")
    found = inside(given.read_value(tmp_path / "a.json"))
    assert found[:2] == values[:2]
    assert found[2].tolist() == [0, 1]
    assert given.read_value(str(tmp_path / "a.txt")) == "@é\n"


def zipped(**members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def two_circuits():
    stream = io.BytesIO()
    qpy.dump([QuantumCircuit(1), QuantumCircuit(1)], stream)
    return stream.getvalue()


def objects():
    stream = io.BytesIO()
    np.save(stream, np.array([None, {}]), allow_pickle=True)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.qpy", b"", "not readable as .qpy"),
        ("a.qpy", b"x" * 40, "not QPY"),
        ("a.qpy", two_circuits(), "2 circuits"),
        ("a.npy", b"1,2,3", "NumPy's format"),
        ("a.npy", objects(), "pickled"),
        ("a.npz", b"PK", "not readable as .npz"),
        ("a.npz", zipped(a=objects()), "pickled"),
        ("a.json", b"{", "not readable as .json"),
        ("a.json", b"[" * 100_000, "not readable as .json"),
        ("a.qasm", b"\xff", "not readable as .qasm"),
        ("a.pkl", b"", r"made of a \.pkl file, but of \.json.*\.npz"),
        ("a", b"", "without ending"),
    ],
)
def test_files_that_hold_no_value(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputsError, match=said) as caught:
        given.read_value(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_files_are_bounded_also_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(given, "MAX_BYTES", 1000)
    (tmp_path / "a.txt").write_bytes(b"x" * 1001)
    with pytest.raises(InputsError, match="larger than 1000 bytes"):
        given.read_value(tmp_path / "a.txt")
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros(1000))
    with pytest.raises(InputsError, match="more than 1000 bytes"):
        given.read_value(tmp_path / "a.npz")


# --- the command line -----------------------------------------------------------------------------


def test_pairs_and_json_hold_encoded_values(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", np.arange(3))
    found = inside(
        inputs_of(
            '{"z": {"__type__": "complex", "__value__": [0, 1]}, "nan": [NaN]}',
            ["a=@a.npy", "n=3", "t=text", 'at="@a.npy"', "l=[1, Infinity]"],
        )
    )
    assert found.pop("a").tolist() == [0, 1, 2]
    assert repr(found) == repr(
        {
            "z": 1j,
            "nan": [float("nan")],
            "n": 3,
            "t": "text",
            "at": "@a.npy",
            "l": [1, float("inf")],
        }
    )


@pytest.mark.parametrize(
    ("text", "pairs", "said"),
    [
        ("[1]", (), "must be a JSON object"),
        ("{", (), "not readable as JSON"),
        ("@none.json", (), "none.json: cannot be read"),
        (None, ["x"], "KEY=VALUE"),
        (None, ["x=@none.npy"], "-i x: none.npy: cannot be read"),
        (None, ["x=@someone"], "-i x: someone"),
    ],
)
def test_bad_inputs_name_the_option(text, pairs, said):
    with pytest.raises(InputsError, match=said):
        inputs_of(text, pairs)


def test_a_file_without_its_at_is_hinted_at(tmp_path):
    path = tmp_path / "inputs.json"
    path.write_text("{}")
    with pytest.raises(InputsError, match=f"write --inputs @{path}"):
        inputs_of(str(path), ())


def rows(text):
    found = list(rows_of(text))
    return [str(each) if isinstance(each, InputsError) else inside(each) for each in found]


@pytest.mark.parametrize("form", ["{}", "@{}"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"n": 1, "t": "x"}\n\n{"n": 2, "t": "y,z"}'),
        ("a.json", '[\n {"n": 1, "t": "x"},\n {"n": 2, "t": "y,z"}\n]'),
        ("a.csv", '\ufeffn,t\r\n1,x\r\n2,"y,z"\r\n'),
    ],
)
def test_rows_from_every_kind_of_file(tmp_path, form, name, content):
    (tmp_path / name).write_text(content, newline="")
    assert rows(form.format(tmp_path / name)) == [{"n": 1, "t": "x"}, {"n": 2, "t": "y,z"}]


def test_rows_from_the_option_itself():
    assert rows('[{"n": 1}, {"n": 2}]') == rows('{"n": 1}\n{"n": 2}') == [{"n": 1}, {"n": 2}]


@pytest.mark.parametrize("nothing", ["", "@"])
def test_rows_from_nothing_are_refused_by_the_option(nothing):
    with pytest.raises(InputsError, match="--inputs '@?' names no file"):
        rows(nothing)


def test_rows_that_are_wrong_are_errors_in_their_place(tmp_path):
    (tmp_path / "a.csv").write_text("n,t\n1\n2,,\n3,\n")
    first, second, third = rows(f"{tmp_path / 'a.csv'}")
    assert "line 2" in first
    assert "line 3" in second
    assert third == {"n": 3}
    assert rows('[{"n": 1}, 2]')[1] == "item 1 of the inputs is not an object: 2"
    assert "line 2 of the inputs is not JSON" in rows('{"n": 1}\n{')[1]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("n,n\n1,2\n", "name each input once"),
        ('n\n1\n"2\n', "not readable as CSV"),
        ("", "name each"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path, content, said):
    (tmp_path / "a.csv").write_text(content)
    if not content:
        assert rows(str(tmp_path / "a.csv")) == []
        return
    with pytest.raises(InputsError, match=said):
        rows(str(tmp_path / "a.csv"))


def test_parts_of_results_are_found_in_encoded_form():
    data = json.loads(codec.encode({"a/b": (1, {"x": np.arange(2)})}))
    assert inside(Value(select(data, "/a~1b/1/x"))).tolist() == [0, 1]
    assert select(data, "") is data
    for pointer in ("/a~1b/1/x/0", "/a", "/a~1b/2", "/a~1b/-1"):
        with pytest.raises(LookupError, match="has no"):
            select(data, pointer)


# --- cases ----------------------------------------------------------------------------------------


def a_case(tmp_path, **content):
    path = tmp_path / "one.json"
    path.write_text(json.dumps(content))
    return Case.from_file(path)


def test_a_case_has_encoded_inputs_and_files_beside_it(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(3))
    case = a_case(
        tmp_path,
        inputs={"z": {"__type__": "complex", "__value__": [0, 1]}},
        input_files={"a": "a.npy"},
    )
    found = inside(case.inputs)
    assert found["z"] == 1j
    assert found["a"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", ["../secret.txt", "/etc/hostname", "link.txt", "..", "none.txt"])
def test_a_case_reads_nothing_but_what_came_with_it(tmp_path, name):
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / "link.txt").symlink_to("../secret.txt")
    with pytest.raises(ManifestError, match="input_files"):
        a_case(tmp_path / "cases", input_files={"x": name})


def test_a_case_reads_so_much_and_names_an_input_once(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("x" * 600)
    monkeypatch.setattr("runner.checking.cases.MAX_CASE_BYTES", 1000)
    with pytest.raises(ManifestError, match="larger than 400 bytes"):
        a_case(tmp_path, input_files={"x": "a.txt", "y": "a.txt"})
    with pytest.raises(ManifestError, match="name it once"):
        a_case(tmp_path, inputs={"x": 1}, input_files={"x": "a.txt"})
