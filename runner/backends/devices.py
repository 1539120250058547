"""Descriptions of devices, our own form or IBM's, into the one form that a sandbox builds.

That form is our own with everything written out: a list of qubits, and for each gate the list of
its places.  What comes in has the types that the schema of backends asks for.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, Final

MAX_PLACES: Final = 100_000
"""Of all gates together."""

_ON_ONE: Final = "h id p r rx ry rz s sdg sx sxdg t tdg u u1 u2 u3 x y z"
_ON_TWO: Final = "cp crx cry crz csx cu cu1 cu3 cx cy cz ecr rxx ryy rzx rzz swap"
_ON_THREE: Final = "ccx ccz cswap"
GATES: Final = {
    **dict.fromkeys(_ON_ONE.split(), 1),
    **dict.fromkeys(_ON_TWO.split(), 2),
    **dict.fromkeys(_ON_THREE.split(), 3),
}
"""The gates that both Qiskit's library and Aer know, and how many qubits each acts on."""

TIMED: Final = {**GATES, "reset": 1}
"""What has places, durations and errors in a description: gates, and what else takes time."""

CONTROL_FLOW: Final = frozenset({"if_else", "for_loop", "while_loop", "switch_case"})

_NANO: Final = 1e-9
_LONGEST_DT_S: Final = 1e-6
_PREFIXES: Final = {"p": 1e-12, "n": 1e-9, "u": 1e-6, "µ": 1e-6, "μ": 1e-6, "m": 1e-3}
_PREFIXES_UP: Final = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_QUBIT_WORDS: Final = {
    "T1": "t1",
    "T2": "t2",
    "frequency": "frequency",
    "readout_error": "readout_error",
    "readout_length": "readout_duration",
    "prob_meas1_prep0": "prob_meas1_prep0",
    "prob_meas0_prep1": "prob_meas0_prep1",
    "operational": "operational",
}
_GATE_WORDS: Final = {
    "gate_error": "error",
    "gate_length": "duration",
    "operational": "operational",
}


class DescriptionError(ValueError):
    """A description that contradicts itself; the message says where."""


def normal(described: Mapping[str, Any]) -> dict[str, Any]:
    """Return a description of our own form with everything written out.

    Raises DescriptionError for gates and qubits that cannot be.
    """
    size = described["num_qubits"]
    qubits = described.get("qubits", {})
    qubits = [dict(each) for each in (qubits if isinstance(qubits, list) else [qubits] * size)]
    if len(qubits) != size:
        msg = f"qubits: {len(qubits)} are described, num_qubits is {size}"
        raise DescriptionError(msg)
    edges = _edges(described, size)
    gates: dict[str, list[dict[str, Any]]] = {}
    room = MAX_PLACES
    for name, places in described["gates"].items():
        gates[name] = list(itertools.islice(_places(name, places, edges, qubits), room + 1))
        room -= len(gates[name])
        if room < 0:
            msg = f"gates: more than {MAX_PLACES} places in all"
            raise DescriptionError(msg)
    kept = ("description", "date", "dt", "control_flow", "timing_constraints")
    return {
        "name": described.get("name", "device"),
        "num_qubits": size,
        "qubits": qubits,
        "gates": gates,
        **{key: described[key] for key in kept if described.get(key) is not None},
    }


def _edges(described: Mapping[str, Any], size: int) -> list[list[int]]:
    """Return the coupling map; without one, all are coupled with all."""
    if described.get("coupling_map") is None:
        every = map(list, itertools.permutations(range(size), 2))
        return list(itertools.islice(every, MAX_PLACES + 1))
    for each in described["coupling_map"]:
        _check_place("coupling_map", each, size)
    return list(described["coupling_map"])


def _places(
    name: str, places: Any, edges: list[list[int]], qubits: list[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Yield where a gate can act, one by one, without the places that do not work."""
    width = TIMED.get(name)
    if width is None:
        msg = f"gates.{name}: unknown gate; known are {', '.join(sorted(TIMED))}"
        raise DescriptionError(msg)
    if isinstance(places, Mapping):
        if width > 2:
            msg = f"gates.{name}: acts on {width} qubits, so list its places"
            raise DescriptionError(msg)
        shared = places
        everywhere = ([q] for q in range(len(qubits))) if width == 1 else iter(edges)
        places = ({"qubits": each, **shared} for each in everywhere)
    for each in places:
        place = each["qubits"]
        _check_place(f"gates.{name}", place, len(qubits))
        if len(place) != width:
            msg = f"gates.{name}: acts on {width} qubits, not on {place}"
            raise DescriptionError(msg)
        if all(qubits[index].get("operational", True) for index in place):
            yield dict(each)


def _check_place(where: str, place: list[int], size: int) -> None:
    if max(place) >= size or len(set(place)) != len(place):
        msg = f"{where}: {place} is no place among {size} qubits, which count from 0"
        raise DescriptionError(msg)


# --- IBM's forms ----------------------------------------------------------------------------------


def is_configuration(content: Any) -> bool:
    """Whether content looks like the configuration of a device as IBM writes it."""
    return isinstance(content, Mapping) and {"backend_name", "basis_gates"} <= set(content)


def from_ibm(
    configuration: Mapping[str, Any], properties: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the description of a device of which IBM's two files are given.

    Gates that neither Qiskit nor Aer know are left out, as are qubits' and gates' properties that a
    simulation does not use.  Raises DescriptionError.
    """
    try:
        return _from_ibm(configuration, properties or {})
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        problem = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        msg = f"not a configuration and properties in IBM's form: {problem:.200}"
        raise DescriptionError(msg) from error


def _from_ibm(configuration: Mapping[str, Any], properties: Mapping[str, Any]) -> dict[str, Any]:
    size = configuration.get("n_qubits") or configuration["num_qubits"]
    edges = configuration.get("coupling_map")
    own = {each["name"]: each.get("coupling_map") for each in configuration.get("gates", [])}
    measured: dict[str, dict[tuple[int, ...], dict[str, Any]]] = {}
    for each in properties.get("gates", []):
        values = _values(each["parameters"], _GATE_WORDS)
        measured.setdefault(each["gate"], {})[tuple(each["qubits"])] = values
    gates: dict[str, Any] = {}
    timed = [name for name in measured if name in TIMED and name not in GATES]
    for name in dict.fromkeys([*configuration["basis_gates"], *timed]):
        places = own.get(name) or [list(place) for place in measured.get(name, {})]
        if name in TIMED and not places:
            gates[name] = {}
        elif name in TIMED:
            found = {tuple(place): measured.get(name, {}).get(tuple(place), {}) for place in places}
            gates[name] = [
                {"qubits": list(place), "error": v.get("error"), "duration": v.get("duration")}
                for place, v in found.items()
                if v.get("operational", 1)
            ]
    qubits = [_qubit(each) for each in properties.get("qubits", [])]
    for place, values in measured.get("measure", {}).items():  # where some files have its time
        if place[0] < len(qubits) and "duration" in values:
            qubits[place[0]].setdefault("readout_duration", values["duration"])
    dt = configuration.get("dt")
    constraints = {k: v for k, v in (configuration.get("timing_constraints") or {}).items() if v}
    described = {
        "name": configuration["backend_name"],
        "num_qubits": size,
        "coupling_map": edges,
        "qubits": qubits or {},
        "gates": gates,
        # In nanoseconds, but for a few files that say seconds.
        "dt": dt * _NANO if dt and dt > _LONGEST_DT_S else dt,
        "control_flow": sorted(
            CONTROL_FLOW & set(configuration.get("supported_instructions") or ())
        ),
        "timing_constraints": constraints,
    }
    return {key: value for key, value in described.items() if value not in (None, {}, [])}


def _qubit(parameters: list[Mapping[str, Any]]) -> dict[str, Any]:
    found = _values(parameters, _QUBIT_WORDS)
    both = [found.pop("prob_meas1_prep0", None), found.pop("prob_meas0_prep1", None)]
    if None not in both:
        found["readout_error"] = both
    if "operational" in found:
        found["operational"] = bool(found["operational"])
    return found


def _values(parameters: list[Mapping[str, Any]], words: Mapping[str, str]) -> dict[str, Any]:
    """Return the values that matter in SI units, by our own names."""
    return {
        words[each["name"]]: each["value"] * _scale(each.get("unit") or "")
        for each in parameters
        if each["name"] in words
    }


def _scale(unit: str) -> float:
    if unit.endswith("Hz") and len(unit) == 3:
        return _PREFIXES_UP[unit[0]]
    if unit.endswith("s") and len(unit) == 2:
        return _PREFIXES[unit[0]]
    return 1.0
