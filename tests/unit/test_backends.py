"""Backends by name, options and data: what is accepted, what is refused, and with which words."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from runner import backends
from runner.backends import devices
from runner.cli import cli
from runner.errors import InputsError
from runner.programs.manifest import Manifest
from sandbox.stack import backends as guest

LINE = {
    "name": "line",
    "num_qubits": 3,
    "coupling_map": [[0, 1], [1, 2]],
    "gates": {
        "rz": {"error": 0, "duration": 0},
        "sx": [{"qubits": [q], "error": 1e-4, "duration": 3e-8} for q in range(3)],
        "cx": {"error": 0.01, "duration": 3e-7},
    },
    "qubits": [{"t1": 1e-4, "readout_error": [0.01, 0.03]}, {}, {"operational": False}],
}


def nduv(name, value, unit=""):
    return {"date": "2024-05-06T07:08:09Z", "name": name, "unit": unit, "value": value}


CONFIGURATION = {
    "backend_name": "ibm_tiny",
    "backend_version": "1.2.3",
    "n_qubits": 2,
    "basis_gates": ["id", "rz", "sx", "cx", "u0"],
    "supported_instructions": ["cx", "delay", "if_else"],
    "coupling_map": [[0, 1], [1, 0]],
    "gates": [{"name": "cx", "parameters": [], "qasm_def": "", "coupling_map": [[0, 1], [1, 0]]}],
    "dt": 0.5,
    "timing_constraints": {"granularity": 16, "min_length": 64},
    "conditional": False,
    "simulator": False,
}
PROPERTIES = {
    "backend_name": "ibm_tiny",
    "last_update_date": "2024-05-06T07:08:09Z",
    "qubits": [
        [
            nduv("T1", 120.0, "us"),
            nduv("T2", 0.09, "ms"),
            nduv("frequency", 4.9, "GHz"),
            nduv("readout_error", 0.02),
            nduv("prob_meas0_prep1", 0.03),
            nduv("prob_meas1_prep0", 0.01),
            nduv("readout_length", 1200.0, "ns"),
            nduv("anharmonicity", -0.3, "GHz"),
        ],
        [nduv("T1", 80.0, "µs"), nduv("readout_error", 0.05)],
    ],
    "gates": [
        {
            "gate": "sx",
            "qubits": [0],
            "name": "sx0",
            "parameters": [nduv("gate_error", 2e-4), nduv("gate_length", 35.0, "ns")],
        },
        {"gate": "cx", "qubits": [0, 1], "parameters": [nduv("gate_error", 0.01)]},
        {"gate": "cx", "qubits": [1, 0], "parameters": [nduv("operational", 0)]},
    ],
    "general": [],
}


def device_of(description):
    assert description["name"] == "device"
    return description["options"]["device"]


@pytest.mark.parametrize("name", [None, "", "aer_simulator", {"options": {}}, {"options": None}])
def test_the_default_is_aer(name):
    assert backends.describe(name) == {"name": "aer_simulator", "options": {}}


@pytest.mark.parametrize("name", [each.name for each in backends.known()])
def test_the_guest_builds_every_backend_that_is_listed(name):
    assert name in guest._BUILDERS
    assert len(backends.known()) == len(guest._BUILDERS)


def test_host_and_guest_plan_with_the_same_share_of_memory():
    assert backends.MEMORY_SHARE == guest.MEMORY_SHARE


@pytest.mark.parametrize(
    ("backend", "problem"),
    [
        ("aer_simulater", "unknown backend 'aer_simulater': did you mean 'aer_simulator'"),
        ({"name": 7}, "unknown backend 7"),
        ({"name": "device", "option": {}}, "unknown key 'option'"),
        ({"options": {"shotz": 1}}, "unknown option 'shotz'; did you mean 'shots'?.*known are"),
        ({"options": {"shots": 0}}, "shots: 0 is less than the minimum of 1"),
        ({"options": {"method": "magic"}}, "method: 'magic' is not one of"),
        ({"options": {"device": "GPU"}}, "unknown option 'device'"),
        (
            {"options": {"noise": {"depolarizing": {"cx": 2}}}},
            "noise.depolarizing.cx: 2 is greater",
        ),
        ({"options": {"noise": {"depolarizing": {"foo": 0.1}}}}, "unknown gate 'foo'; known are"),
        ({"options": {"noise": {"bit_flip": 0.1}}}, "'bit_flip'"),
        (
            {
                "options": {
                    "noise": {"readout": 0.1},
                    "noise_model": {"__type__": "NoiseModel", "__value__": {"errors": []}},
                }
            },
            "noise and noise_model are both given",
        ),
        (
            {**LINE, "control_flow": ["goto"]},
            "control_flow.*'goto' is not one of",
        ),
        ({"options": {"basis_gates": ["measure", "foo"]}}, "unknown gate 'foo'"),
        ({"options": {"shots": object()}}, r"backend.options.shots: cannot be described by"),
        ({"options": {"shots": float("nan")}}, r"backend.options.shots"),
        ("generic_backend_v2", "'num_qubits' is a required property"),
        (
            {"name": "generic_backend_v2", "options": {"num_qubits": 3, "coupling_map": [[0, 1]]}},
            "coupling_map has 2 qubits up to 1, num_qubits is 3",
        ),
        (
            {"name": "generic_backend_v2", "options": {"num_qubits": 1}},
            "num_qubits is 1, and its gate 'cx' acts on 2: name other basis_gates",
        ),
        ("device", "device"),
        ({**LINE, "qubits": {"t1": 0}}, "qubits.t1: 0 is less than or equal to the minimum of 0"),
        ({**LINE, "qubits": [{}, {"t2": 0}, {}]}, r"qubits.1.t2: 0 is less than or equal"),
        ({**LINE, "gates": {"measure": {}}}, "gates.measure: unknown gate; known are .*, reset,"),
        ({"name": "none", "options": {"shots": 1}}, "unknown option 'shots'"),
        ({**LINE, "gates": {}}, "gates"),
        ({**LINE, "gates": {"foo": {}}}, "gates.foo: unknown gate; known are ccx"),
        ({**LINE, "gates": {"ccx": {}}}, "gates.ccx: acts on 3 qubits, so list its places"),
        ({**LINE, "gates": {"cx": [{"qubits": [0]}]}}, r"gates.cx: acts on 2 qubits, not on \[0\]"),
        ({**LINE, "gates": {"sx": [{"qubits": [3]}]}}, r"gates.sx: \[3\] is no place among 3"),
        ({**LINE, "coupling_map": [[0, 3]]}, r"coupling_map: \[0, 3\] is no place among 3"),
        ({**LINE, "coupling_map": [[1, 1]]}, r"coupling_map: \[1, 1\] is no place"),
        ({**LINE, "qubits": [{}]}, "qubits: 1 are described, num_qubits is 3"),
        ({**LINE, "num_qubits": 5000}, "num_qubits: 5000 is greater"),
        ({"num_qubits": 400, "gates": {"cx": {}}}, "more than 100000 places"),
        ({**CONFIGURATION, "n_qubits": "many"}, "num_qubits"),
        ({"configuration": CONFIGURATION, "properties": {"gates": 3}}, "in IBM's form"),
        ({"configuration": CONFIGURATION, "properties": {"gates": [{}]}}, "lacks 'parameters'"),
    ],
)
def test_what_cannot_be_is_refused_with_the_value(backend, problem):
    with pytest.raises(InputsError, match=problem):
        backends.describe(backend)


def test_a_description_over_its_limit_is_refused_with_both_numbers():
    model = {"__type__": "NoiseModel", "__value__": {"errors": "x" * (8 << 20)}}
    with pytest.raises(InputsError, match=r"takes 8388\d\d\d bytes, the limit is 8388608"):
        backends.describe({"options": {"noise_model": model}})


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(
                    ["name", "options", "backend_name", "basis_gates", "gates", "device"]
                )
                | st.sampled_from(
                    ["num_qubits", "configuration", "qubits", "coupling_map", "shots"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=20,
    ).filter(lambda data: isinstance(data, dict))
)
def test_whatever_is_described_is_a_backend_or_refused(data):
    try:
        found = backends.describe(data)
    except InputsError:
        return
    assert backends.describe(json.loads(json.dumps(found))) == found


def test_numpy_and_tuples_are_plain_data():
    given = {"shots": np.int64(7), "coupling_map": ((0, 1), np.array([1, 0]))}
    options = backends.describe({"options": given})["options"]
    assert options == {"shots": 7, "coupling_map": [[0, 1], [1, 0]]}
    assert type(options["shots"]) is int


def test_a_device_is_written_out_once_and_stays_as_it_is():
    found = backends.describe(LINE)
    device = device_of(found)
    assert device["gates"]["cx"] == [{"qubits": [0, 1], "error": 0.01, "duration": 3e-7}]
    assert [each["qubits"] for each in device["gates"]["rz"]] == [[0], [1]]
    assert len(device["gates"]["sx"]) == 2  # the third qubit does not work
    assert backends.describe(found) == found
    everywhere = {"num_qubits": 3, "gates": {"cz": {}, "cx": {}}}
    assert {n: len(p) for n, p in device_of(backends.describe(everywhere))["gates"].items()} == {
        "cz": 6,
        "cx": 6,
    }


def test_ibms_files_become_the_same_form():
    found = backends.describe({"configuration": CONFIGURATION, "properties": PROPERTIES})
    device = device_of(found)
    assert (device["name"], device["num_qubits"], device["control_flow"]) == (
        "ibm_tiny",
        2,
        ["if_else"],
    )
    assert device["dt"] == pytest.approx(0.5e-9)
    assert device["timing_constraints"] == {"granularity": 16, "min_length": 64}
    first, second = device["qubits"]
    assert first.pop("readout_error") == [0.01, 0.03]  # 1 for 0, 0 for 1
    assert first == pytest.approx(
        {"t1": 120e-6, "t2": 90e-6, "frequency": 4.9e9, "readout_duration": 1.2e-6}
    )
    assert second == pytest.approx({"t1": 80e-6, "readout_error": 0.05})
    assert set(device["gates"]) == {"id", "rz", "sx", "cx"}  # nobody knows u0
    (sx,) = device["gates"]["sx"]
    assert (sx["qubits"], sx["error"]) == ([0], 2e-4)
    assert sx["duration"] == pytest.approx(35e-9)
    assert [each["qubits"] for each in device["gates"]["cx"]] == [[0, 1]]  # the other is broken
    assert backends.describe(found) == found
    assert device_of(backends.describe(CONFIGURATION))["gates"]["rz"] == [
        {"qubits": [0]},
        {"qubits": [1]},
    ]


def test_the_times_of_what_is_no_basis_gate_are_read_too():
    reset = {
        "gate": "reset",
        "qubits": [1],
        "parameters": [{"name": "gate_length", "unit": "ns", "value": 1300}],
    }
    properties = {**PROPERTIES, "gates": [*PROPERTIES["gates"], reset]}
    found = backends.describe({"configuration": CONFIGURATION, "properties": properties})
    (place,) = device_of(found)["gates"]["reset"]
    assert (place["qubits"], place["duration"]) == ([1], pytest.approx(1.3e-6))
    one = {"num_qubits": 1, "basis_gates": ["rz", "sx"]}
    assert backends.describe({"name": "generic_backend_v2", "options": one})


def test_a_backend_comes_as_a_name_as_json_or_in_a_file(tmp_path):
    assert backends.read("aer_simulator") == "aer_simulator"
    assert backends.read(' {"name": "none"}') == {"name": "none"}
    (tmp_path / "line.json").write_text(json.dumps(LINE))
    assert device_of(backends.describe(backends.read(f"@{tmp_path}/line.json")))["name"] == "line"
    (tmp_path / "conf_tiny.json").write_text(json.dumps(CONFIGURATION))
    alone = device_of(backends.describe(backends.read(f"@{tmp_path}/conf_tiny.json")))
    assert alone["qubits"] == [{}, {}]
    (tmp_path / "props_tiny.json").write_text(json.dumps(PROPERTIES))
    both = device_of(backends.describe(backends.read(f"@{tmp_path}/conf_tiny.json")))
    assert both["qubits"][1]["t1"] == pytest.approx(80e-6)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(InputsError, match="not a regular file"):
        backends.read(f"@{tmp_path}/pipe.json")


@pytest.mark.parametrize("text", ['{"name', "@/nowhere/at/all.json", "@/", "@/dev/zero"])
def test_what_is_not_readable_says_so(text):
    with pytest.raises(InputsError, match="--backend|JSON"):
        backends.read(text)


@pytest.mark.parametrize(
    ("backend", "needed", "has"),
    [
        ({}, 26, 26),
        ({}, 27, 26),  # of 2 GiB, 1.8 are for the simulation: 27 qubits would take 2
        ({"options": {"precision": "single"}}, 28, 27),
        ({"options": {"method": "density_matrix"}}, 14, 13),
        ({"options": {"max_memory_mb": 100}}, 23, 22),
        ({"options": {"method": "matrix_product_state"}}, 100, 100),
        ({"options": {"method": "stabilizer"}}, 1000, 1000),
        ({"name": "generic_backend_v2", "options": {"num_qubits": 5}}, 6, 5),
        ({"name": "generic_backend_v2", "options": {"num_qubits": 100}}, 27, 26),
        (LINE, 3, 3),
        (LINE, 4, 3),
        ("none", 1, 0),
    ],
)
def test_a_program_that_needs_more_qubits_than_there_are_is_refused(backend, needed, has):
    manifest = Manifest(name="p", backend_requirements={"min_num_qubits": needed})
    description = backends.describe(backend)
    if needed <= has:
        backends.check_requirements(manifest, description, 2 << 30)
        return
    with pytest.raises(InputsError, match=f"needs {needed} qubits, backend .* has {has}"):
        backends.check_requirements(manifest, description, 2 << 30)


def test_a_program_for_real_devices_is_refused():
    manifest = Manifest(name="p", backend_requirements={"simulator": False})
    with pytest.raises(InputsError, match="'p' needs a real device, and backend 'aer_simulator'"):
        backends.check_requirements(manifest, backends.describe(None), 2 << 30)
    manifest = Manifest(name="p", backend_requirements={"simulator": True})
    backends.check_requirements(manifest, backends.describe(None), 2 << 30)


def test_the_command_lists_them_for_people_and_for_programs():
    done = CliRunner().invoke(cli, ["backends"])
    assert done.exit_code == 0
    for each in backends.known():
        assert f"\n{each.name}" in "\n" + done.stdout
        for option in each.options:
            assert f"  {option.name}" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100
    lines = CliRunner().invoke(cli, ["backends", "--format", "json"]).stdout.splitlines()
    listed = {each["name"]: each for each in map(json.loads, lines)}
    assert [name for name, each in listed.items() if each["is_default"]] == ["aer_simulator"]
    shots = next(o for o in listed["aer_simulator"]["aer_options"] if o["name"] == "shots")
    assert shots["values"] == "integer >= 1"


def test_the_gates_are_those_of_qiskit_and_aer():
    from qiskit.circuit.library import get_standard_gate_name_mapping
    from qiskit_aer import AerSimulator

    library = get_standard_gate_name_mapping()
    known = set(library) & set(AerSimulator()._BASIS_GATES["automatic"])
    assert known == set(devices.GATES)
    assert {name: library[name].num_qubits for name in devices.GATES} == devices.GATES


def test_the_options_are_those_of_aer_but_for_other_hardware():
    from qiskit_aer import AerSimulator

    elsewhere = {
        *("device", "executor", "cuStateVec_enable", "accept_distributed_results"),
        *("blocking_qubits", "blocking_enable", "chunk_swap_buffer_qubits", "batched_shots_gpu"),
        *("batched_shots_gpu_max_qubits", "num_threads_per_device", "use_cuTensorNet_autotuning"),
        "tensor_network_num_sampling_qubits",
    }
    listed = {option.name for option in backends.known()[0].aer_options}
    assert listed == set(vars(AerSimulator._default_options())) - elsewhere
