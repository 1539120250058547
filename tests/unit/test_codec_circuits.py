"""Circuits come back with everything in them, or are refused by the name of what would be lost."""

import base64
import inspect
import re
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import qiskit.circuit.library as library
import qiskit.quantum_info as info
import qiskit_aer.library
from qiskit import QuantumCircuit, transpile
from qiskit.circuit import (
    ClassicalRegister,
    Clbit,
    Delay,
    Gate,
    Instruction,
    Parameter,
    QuantumRegister,
)
from qiskit.circuit.classical import expr, types
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit.synthesis import QDrift

from sandbox import codec
from sandbox.codec import EncodingError, Value, table

DOCUMENT = Path(__file__).parents[2] / "docs/values.md"
A = Parameter("a")


def both_ways(value):
    """Return the value as the host's caller gets it; the guest's must be equal."""
    text = codec.encode([value])
    (found,) = codec.decode(text)
    (inside,) = codec.decode(text, trusted=True)
    assert isinstance(found, Value)
    found = found.decode()
    assert found == inside == value
    assert found.name == value.name
    return found


def version_of(value):
    content = codec.to_data(value)["__value__"]
    packed = content if isinstance(content, str) else content["qpy"]
    return zlib.decompress(base64.b64decode(packed))[6]


@pytest.mark.parametrize("unit", ["dt", "ns", "us", "ms", "s", "ps"])
@pytest.mark.parametrize("duration", [100, 99.5, A, 2 * A], ids=str)
def test_delays_keep_their_units(unit, duration):
    if unit == "dt" and duration == 99.5:
        duration = 99
    circuit = QuantumCircuit(1)
    circuit.h(0)
    circuit.delay(duration, 0, unit=unit)
    for value in (circuit.data[1].operation, Delay(duration, unit)):
        found = both_ways(value)
        assert found.unit == unit
        assert found.duration == duration
        assert type(found.duration) is type(value.duration)
    found = both_ways(circuit).data[1].operation
    assert (found.unit, found.duration) == (unit, duration)


def controlled():
    circuit = QuantumCircuit(1, 1)
    with circuit.if_test((circuit.clbits[0], 1)) as otherwise:
        circuit.delay(5, 0, unit="us")
    with otherwise, circuit.while_loop((circuit.clbits[0], 0)):
        circuit.delay(1.5, 0, unit="ms")
        circuit.break_loop()
    with circuit.for_loop(range(3)) as angle:
        circuit.rx(angle, 0)
    with circuit.switch(circuit.cregs[0]) as case:
        with case(0):
            circuit.x(0)
        with case(case.DEFAULT):
            circuit.y(0)
    with circuit.box(duration=10, unit="ns", label="timed"):
        circuit.z(0)
    return circuit


def test_blocks_keep_their_names_metadata_and_delays():
    operation = controlled().data[0].operation
    blocks = [each.copy() for each in operation.blocks]
    blocks[0].name, blocks[0].metadata = "first", {"shape": (1, 2)}
    circuit = QuantumCircuit(1, 1)
    circuit.append(operation.replace_blocks(blocks), [0], [0])
    found = both_ways(circuit).data[0].operation.blocks
    assert (found[0].name, found[0].metadata) == ("first", {"shape": (1, 2)})
    assert found[0].data[0].operation.unit == "us"
    (inner,) = found[1].data[0].operation.blocks
    assert inner.data[0].operation.unit == "ms"


def test_control_flow_comes_back_with_its_labels_and_times():
    found = both_ways(controlled())
    box = found.data[-1].operation
    assert (box.label, box.duration, box.unit) == ("timed", 10, "ns")
    assert codec.encode(found) == codec.encode(controlled_again(found))


def controlled_again(circuit):
    return codec.decode(codec.encode(circuit), trusted=True)


def scheduled():
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.measure_all()
    return transpile(circuit, GenericBackendV2(2, seed=1), scheduling_method="alap")


def test_scheduled_circuits_keep_their_times_and_layout():
    circuit = scheduled()
    found = both_ways(circuit)
    assert found.op_start_times == circuit.op_start_times
    assert (found._duration, found._unit) == (circuit._duration, circuit._unit)
    assert found.layout == circuit.layout


def test_metadata_and_units_travel_together():
    circuit = QuantumCircuit(1, metadata={"shape": (1, 2)})
    circuit.delay(5, 0, unit="us")
    assert both_ways(circuit).metadata == {"shape": (1, 2)}


def test_own_gates_keep_the_classes_of_their_parameters():
    circuit = QuantumCircuit(1)
    circuit.append(Gate("own", 1, [1, 2.0]), [0])
    circuit.append(Gate("h", 1, []), [0])
    found = both_ways(circuit)
    assert list(map(type, found.data[0].operation.params)) == [int, float]
    assert type(found.data[1].operation) is Gate


@pytest.mark.parametrize("number", [3, 3.0, 2j])
def test_expressions_that_are_bound_stay_expressions(number):
    (found,) = codec.decode(codec.encode([A.bind({A: number})]), trusted=True)
    assert type(found) is type(2 * A)
    assert type(found.numeric()) is type(number)
    assert found == number


def test_qpy_is_written_in_the_lowest_version_that_carries_it():
    circuit = QuantumCircuit(2, 2)
    circuit.rx(A, 0)
    circuit.measure(0, 0)
    assert version_of(circuit) == version_of(2 * A + 1) == version_of(controlled()) == 13
    later = QuantumCircuit(1)
    later.delay(later.add_stretch("s"), 0)
    assert version_of(later) == 14
    both_ways(later)


def with_variables():
    circuit = QuantumCircuit(1)
    number = circuit.add_var("number", expr.lift(3, types.Uint(4)))
    with circuit.if_test(expr.less(number, 5)):
        circuit.x(0)
    return circuit


def reordered():
    bits = [Clbit() for _ in range(3)]
    register = ClassicalRegister(name="c", bits=bits[::-1])
    circuit = QuantumCircuit(QuantumRegister(3), bits, register)
    circuit.measure(range(3), bits)
    return circuit


@pytest.mark.parametrize("make", [with_variables, reordered])
def test_variables_and_registers_of_any_order_come_back(make):
    found = both_ways(make())
    assert codec.encode(found) == codec.encode(controlled_again(found))


def holding(operation):
    circuit = QuantumCircuit(operation.num_qubits)
    circuit.append(operation, circuit.qubits)
    return circuit


def own_gate():
    inside = QuantumCircuit(1, name="own")
    inside.delay(5, 0, unit="us")
    return inside.to_instruction()


BLAME = "; the format loses this, and nothing is wrong with the circuit$"


@pytest.mark.parametrize(
    ("operation", "reason"),
    [
        (own_gate(), r"\('own' at 0: 'delay' at 0: its unit in its definition\)"),
        (
            library.MCMTGate(library.XGate(), 2, 1, label="z"),
            r"\('mcmt' at 0: its class MCMTGate\)",
        ),
        (
            library.StatePreparation([0.6, 0, 0, 0.8j]).inverse(),
            r"'state_preparation_dg' at 0: its name\)",
        ),
        (library.AndGate(2), r"\(reading it fails: AndGate\)"),
        (
            library.PauliEvolutionGate(info.SparsePauliOp("XX"), 0.1, synthesis=QDrift()),
            r"\(reading it fails: PauliEvolutionGate\)",
        ),
    ],
    ids=lambda value: value.name if isinstance(value, Instruction) else None,
)
def test_what_qpy_loses_is_refused_by_name_and_the_format_is_blamed(operation, reason):
    for value in (operation, holding(operation)):
        with pytest.raises(EncodingError, match=rf"^r: cannot carry an? .*{reason}{BLAME}"):
            codec.encode(value, "r")


@pytest.mark.parametrize(
    "marks",
    [
        {"delays": [[0, "us"]]},
        {"delays": [[1, "years"]]},
        {"delays": [[9, "us"]]},
        {"delays": [["x", "us"]]},
        {"blocks": [[1, []]]},
        {"blocks": [[0, [{}]]]},
        {"schedule": [1]},
        {"else": 1},
        {},
    ],
    ids=str,
)
def test_marks_that_do_not_fit_are_refused(marks):
    circuit = QuantumCircuit(1)
    circuit.h(0)
    circuit.delay(5, 0, unit="us")
    raw = codec.to_data(circuit)
    raw["__value__"] = {"qpy": raw["__value__"]["qpy"], **marks}
    with pytest.raises(codec.DecodingError, match="tagged 'QuantumCircuit'"):
        Value(raw).decode()


WRITER = """
import sys
from qiskit import QuantumCircuit
from qiskit_aer.noise import NoiseModel
from sandbox import codec

circuit = QuantumCircuit(1)
circuit.delay(5, 0, unit="us")
for name in [each for each in sys.modules if each.partition(".")[0] == "sandbox"]:
    del sys.modules[name]
sys.path[:] = [each for each in sys.path if each != sys.argv[1]]
sys.meta_path[:] = [each for each in sys.meta_path if "Editable" not in str(each)]
try:
    import sandbox
except ImportError:
    codec.decode(codec.encode([circuit, NoiseModel()]), trusted=True)
    print("written")
"""


def test_what_is_written_late_needs_no_module_of_ours_any_more():
    command = [sys.executable, "-I", "-c", "import sys; sys.path[:0] = sys.argv[1:]\n" + WRITER]
    root = str(Path(__file__).parents[2])
    done = subprocess.run([*command, root], capture_output=True, text=True, timeout=100)
    assert done.stdout == "written\n", done.stderr


# --- the library ----------------------------------------------------------------------------------

SPECIAL = {
    "BitFlipOracleGate": ("x0 & x1",),
    "ExactReciprocalGate": (2, 0.5),
    "GlobalPhaseGate": (0.5,),
    "HamiltonianGate": (np.eye(4), 0.5),
    "Initialize": ([1, 0, 0, 0],),
    "IntegerComparatorGate": (2, 3),
    "Isometry": (np.eye(4), 0, 0),
    "LinearAmplitudeFunctionGate": (2, 1, 0, (0, 1), (0, 1)),
    "LinearFunction": ([[1, 1], [0, 1]],),
    "MCMTGate": (library.XGate(), 2, 1),
    "MCGupDiag": (np.eye(2), 1, 0, 0),
    "MSGate": (2, 0.5),
    "PauliEvolutionGate": (info.SparsePauliOp(["XX", "ZI"]), 0.5),
    "PauliProductMeasurement": (info.Pauli("XZ"),),
    "PauliProductRotationGate": (info.Pauli("XZ"), 0.5),
    "PauliGate": ("XZ",),
    "PermutationGate": ([2, 0, 1],),
    "PhaseOracleGate": ("x0 & x1",),
    "PiecewiseChebyshevGate": (np.sqrt, 2, 1, [0, 1, 3]),
    "PiecewiseLinearPauliRotationsGate": (2, [0, 2], [1, 2], [0, 1]),
    "PiecewisePolynomialPauliRotationsGate": (2, [0, 2], [[1, 2], [0, 1]]),
    "PolynomialPauliRotationsGate": (2, [1, 2]),
    "QuadraticFormGate": (2, [[1, 2], [3, 4]], [1, 0], 1),
    "RVGate": (0.1, 0.2, 0.3),
    "StatePreparation": ([1, 0, 0, 0],),
    "UCGate": ([np.eye(2), np.eye(2)],),
    "UCPauliRotGate": ([0.1, 0.2], "X"),
    "UnitaryGate": (np.eye(4),),
    "WeightedSumGate": (2, [1, 2]),
}
"""What gates are made with; of the others what comes first of the following."""

USUAL = [(), (2,), (0.5,), (0.5, 0.25), (0.1, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4), ([0.1, 0.2],)]
USUAL += [(2, 1), (3, 2), ([1, -1],), (2, [1, 0])]


def made(kind, arguments):
    for each in arguments:
        try:
            value = kind(*each)
            if isinstance(value, QuantumCircuit):
                value.count_ops()  # some find out late what they lack
        except Exception:  # noqa: BLE001 (not what it is made with)
            continue
        return value
    return None


def gates_of(module):
    for name, kind in sorted(vars(module).items()) + [(n, getattr(module, n)) for n in dir(module)]:
        if inspect.isclass(kind) and issubclass(kind, Instruction) and name[0] != "_":
            value = made(kind, [SPECIAL[name]] if name in SPECIAL else USUAL)
            yield name, kind, value


def carried(value):
    """Return what comes back, None if it is refused by name."""
    try:
        return codec.decode(codec.encode(value), trusted=True)
    except EncodingError as error:
        if "QPY does not give it back as it is" not in str(error):
            raise
        return None


def is_carried(value):
    found = carried(value)
    if found is None:
        return False
    assert getattr(found, "base_class", type(found)) is getattr(value, "base_class", type(value))
    assert found == value
    assert found.label == value.label
    return True


def documented():
    _, _, text = DOCUMENT.read_text().partition("### What QPY loses")
    (listed,) = re.findall(r"this concerns:\n\n(.*?)\n\n", text, re.DOTALL)
    return set(re.findall(r"`(\w+)`", listed))


@pytest.mark.filterwarnings("ignore")  # some are on their way out
def test_of_qiskits_library_all_is_carried_but_what_the_document_lists():
    refused = set()
    for name, _, value in gates_of(library):
        assert value is not None or name in {"ControlledGate", "Instruction", "Gate"}, name
        if not is_carried(value):
            refused.add(name)
    assert refused == documented()


@pytest.mark.filterwarnings("ignore")  # some are on their way out
def test_circuits_of_the_library_are_carried_or_refused_by_name():
    seen = 0
    for name in dir(library):
        kind = getattr(library, name)
        if inspect.isclass(kind) and issubclass(kind, QuantumCircuit):
            value = made(kind, [(2,), (2, 1), ([1, -1],), (np.eye(2),), ([2, 0, 1],)])
            if value is not None:
                seen += 1
                assert carried(value) in (value, None)
    assert seen > 20


@pytest.mark.filterwarnings("ignore")  # some are on their way out
def test_of_aers_library_none_changes_on_its_way():
    for _, _, value in gates_of(qiskit_aer.library):
        if value is not None:
            is_carried(value)


def test_every_class_of_quantum_info_is_in_the_table_or_refused():
    kinds = {
        name
        for name, kind in vars(info).items()
        if inspect.isclass(kind) and (hasattr(kind, "num_qubits") or hasattr(kind, "settings"))
    }
    carried = {name for name in kinds if table.row_for(getattr(info, name)) is not None}
    text = DOCUMENT.read_text()
    assert all(f"`{name}`" in text for name in kinds), kinds
    assert kinds - carried == {"CNOTDihedral", "Z2Symmetries"}
