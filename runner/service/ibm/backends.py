"""Backends as IBM's clients see them: those that need no options, by their names here."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from starlette.responses import Response

from runner import backends as table
from runner.errors import InputsError
from runner.policy import Limits
from runner.running.versions import versions
from runner.service.faults import not_found
from runner.service.ibm.account import AUTH, INSTANCE, RUNTIME
from runner.service.routing import Call, Needs, Route, json_of, route

_ONLINE: Final = "2021-05-10T00:00:00Z"
_MOST_QUBITS: Final = 63
_GATES: Final = (
    *("ccx", "cp", "cswap", "cx", "cz", "h", "id", "p", "rx", "ry", "rz", "rzz", "s", "sdg"),
    *("swap", "sx", "t", "tdg", "u", "u1", "u2", "u3", "x", "y", "z"),
)
_DEVICES: Final = f"{AUTH}/Network/{{hub}}/Groups/{{group}}/Projects/{{project}}/devices"


@cache
def names() -> tuple[str, ...]:
    """Return the names of the backends that IBM's clients can ask for."""
    return tuple(each.name for each in table.known() if _is_simple(each.name))


def _is_simple(name: str) -> bool:
    """Return True for a backend with qubits that can be asked for by its name alone."""
    try:
        description = table.describe(name)
    except InputsError:
        return False
    return table.size(description) != 0


@cache
def configuration(name: str) -> dict[str, Any]:
    """Return the configuration of a backend; without any one of these members it is not shown."""
    room = table.room(table.describe(name), Limits().memory_bytes) or _MOST_QUBITS
    return {
        "backend_name": name,
        "backend_version": versions()["runner"],
        "n_qubits": room,
        "basis_gates": list(_GATES),
        "gates": [],
        "local": False,
        "simulator": True,
        "conditional": True,
        "open_pulse": False,
        "memory": True,
        "max_shots": 1_000_000,
        "max_experiments": 1000,
        "coupling_map": None,
        "online_date": _ONLINE,
        "description": "a simulator in the program's sandbox",
        "supported_instructions": [*_GATES, "measure", "reset", "delay", "if_else"],
    }


def devices(_: Call) -> Response:
    """List the configurations of the backends, for the oldest clients."""
    return json_of([configuration(each) for each in names()])


def listed(call: Call) -> Response:
    """List the backends, for the newer client with their states."""
    if "ibm-api-version" not in call.request.headers:
        return json_of({"devices": list(names())})
    found = [
        {
            "name": each,
            "status": {"name": "online", "reason": "available"},
            "queue_length": 0,
            "is_simulator": True,
            "qubits": configuration(each)["n_qubits"],
        }
        for each in names()
    ]
    return json_of({"devices": found})


def described(call: Call) -> Response:
    """Return the configuration of a backend."""
    return json_of(configuration(_known(call)))


def properties(call: Call) -> Response:
    """Return the properties of a backend: a simulator has none."""
    _known(call)
    return json_of({})


def defaults(call: Call) -> Response:
    """Return the pulse defaults of a backend: no backend here has any."""
    msg = "defaults of"
    raise not_found(msg, _known(call))


def state(call: Call) -> Response:
    """Return the state of a backend: each job has one of its own, which waits for no other."""
    _known(call)
    content = {"state": True, "status": "active", "message": "available"}
    return json_of(
        {**content, "length_queue": 0, "lengthQueue": 0, "backend_version": versions()["runner"]}
    )


def _known(call: Call) -> str:
    name = call.request.path_params["backend"]
    if name not in names():
        msg = "backend"
        raise not_found(msg, name)
    return str(name)


def hub_fits(text: str | None) -> bool:
    """Return True if an instance, as hub/group/project, is the one there is, or none is named."""
    return text is None or text == "/".join(INSTANCE)


ROUTES: Final[tuple[Route, ...]] = (
    route("GET", f"{_DEVICES}/v/1", Needs.USER, devices),
    route("GET", f"{_DEVICES}/{{backend}}/properties", Needs.USER, properties),
    route("GET", f"{_DEVICES}/{{backend}}/defaults", Needs.USER, defaults),
    route("GET", f"{AUTH}/Backends/{{backend}}/queue/status", Needs.USER, state),
    route("GET", f"{_DEVICES}/{{backend}}/queue/status", Needs.USER, state),
    route("GET", f"{RUNTIME}/backends", Needs.USER, listed),
    route("GET", f"{RUNTIME}/backends/{{backend}}/configuration", Needs.USER, described),
    route("GET", f"{RUNTIME}/backends/{{backend}}/properties", Needs.USER, properties),
    route("GET", f"{RUNTIME}/backends/{{backend}}/defaults", Needs.USER, defaults),
    route("GET", f"{RUNTIME}/backends/{{backend}}/status", Needs.USER, state),
)
