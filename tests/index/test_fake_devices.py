"""Every fake device of IBM's client: its times and errors arrive, its noise travels both ways.

Only the data files of the client's wheel are read, which comes from the package index.
"""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import PurePath

import numpy as np
import pytest
from qiskit_aer.noise import NoiseModel

from runner import backends
from runner.backends.devices import GATES
from sandbox import codec
from sandbox.stack import devices

CLIENT = "qiskit-ibm-runtime==0.51.0"
DEVICES = 68
LIMITS = {"memory_bytes": 2 << 30, "cpus": 1}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The files of each device, by its name and their own."""
    place = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:"]
    subprocess.run([*command, "-d", place, CLIENT], check=True, timeout=300)
    (wheel,) = place.glob("*.whl")
    found = {}
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            path = PurePath(name)
            if "fake_provider/backends/" in name and path.suffix == ".json":
                found.setdefault(path.parent.name, {})[path.name] = archive.read(name)
    return {name: each for name, each in found.items() if any("conf_" in file for file in each)}


def seconds(gate, properties):
    """Return the length of a gate or a readout as IBM's file says it, by qubits."""
    units = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "s": 1}
    return {
        tuple(each["qubits"]): parameter["value"] * units[parameter["unit"]]
        for each in properties["gates"]
        if each["gate"] == gate
        for parameter in each["parameters"]
        if parameter["name"] == "gate_length"
    }


def parts(model):
    """All that a device's noise model holds, to the last bit.

    Aer's own comparison multiplies superoperators, minutes for a large device, and forgives 1e-8.
    """
    (relaxation,) = model._custom_noise_passes
    delays = {
        name: np.asarray(getattr(relaxation, name)).tolist()
        for name in ("_t1s", "_t2s", "_p1s", "_dt", "_ops", "_method")
    }
    return model.to_dict(serializable=True), delays, model.basis_gates


@pytest.mark.timeout(1200)  # the largest take a minute of CPU time
@pytest.mark.parametrize("number", range(DEVICES))
def test_a_device_keeps_its_times_and_errors_and_its_noise_travels(files, number, tmp_path):
    assert len(files) == DEVICES
    for file, content in files[sorted(files)[number]].items():
        (tmp_path / file).write_bytes(content)
    (conf,) = tmp_path.glob("conf_*.json")
    props = conf.with_name(conf.name.replace("conf_", "props_"))  # one device has a second file
    described = backends.describe(backends.read(f"@{conf}"))
    made = devices.device(described["options"], LIMITS)
    properties, target = json.loads(props.read_text()), made.target
    basis = json.loads(conf.read_text())["basis_gates"]
    compared = 0
    for gate in {*basis, "reset"} & {*GATES, "reset"} & set(target.operation_names):
        for qubits, length in seconds(gate, properties).items():
            if qubits in target[gate]:  # those that work
                compared += 1
                assert target[gate][qubits].duration == pytest.approx(length), (gate, qubits)
    assert compared
    text = codec.encode(made.options.noise_model)
    inside, outside = codec.decode(text, trusted=True), codec.decode(text).decode()
    assert type(inside) is type(outside) is NoiseModel
    assert codec.encode(inside) == codec.encode(outside) == text
    assert parts(inside) == parts(outside) == parts(made.options.noise_model)
