"""Backends as a request names them: which there are, what options they take, what fits a program.

Everything is checked here, before a sandbox is used; the sandbox builds what it is told to.  The
table of backends and options is `backends.schema.json`.
"""

from __future__ import annotations

import copy
import difflib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match

from runner.backends import devices
from runner.errors import InputsError
from runner.host import files
from runner.programs import values
from runner.programs.manifest import Manifest
from sandbox.wire import protocol

DEFAULT: Final = "aer_simulator"
MAX_FILE_BYTES: Final = 64 * protocol.MIB
MEMORY_SHARE: Final = 0.9
"""Of the sandbox's memory, what a simulation may plan with; the guest has the same number."""

_TABLE_FILE: Final = Path(__file__).with_name("backends.schema.json")
_MAX_DEPTH: Final = 32
_GENERIC_BASIS: Final = ("cx", "id", "rz", "sx", "x")
"""The gates of Qiskit's GenericBackendV2 if none are named; a test compares them."""

_ALWAYS: Final = frozenset({"measure", "reset", "delay"})
"""What every backend can do, though no gate."""

_STATE_EXPONENTS: Final = {
    "automatic": 1,
    "statevector": 1,
    "density_matrix": 2,
    "unitary": 2,
    "superop": 4,
}
"""Methods that keep a state of 2^(exponent · qubits) amplitudes."""


class BackendError(InputsError):
    """A backend that does not exist, or that cannot be as it is described."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option of a backend: `values` says in words what it takes."""

    name: str
    values: str
    description: str = ""
    is_required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """A kind of backend that a sandbox can build.

    `options` are its own, `aer_options` those of the simulator behind it.
    """

    name: str
    description: str
    options: tuple[Option, ...]
    aer_options: tuple[Option, ...]

    @property
    def is_default(self) -> bool:
        """True if a program gets this backend by default."""
        return self.name == DEFAULT


def known() -> list[Backend]:
    """Return the backends there are, the default first."""
    return [
        Backend(
            name=name,
            description=each["description"],
            options=_options(each["options"], each.get("required", ())),
            aer_options=_options(_aer_options(each), ()),
        )
        for name, each in _table()["backends"].items()
    ]


def read(text: str) -> str | dict[str, Any]:
    """Return the backend of a command line: a name, JSON, or `@` and the name of a file.

    The file may hold a backend's name and options, a device in our own form, or the configuration
    of one in IBM's (conf_NAME.json; props_NAME.json beside it are its properties).  Raises
    BackendError.
    """
    if text.startswith("@"):
        return _read_file(Path(text[1:]))
    return _parsed(text.encode(), "--backend") if text.lstrip().startswith("{") else text


def describe(backend: str | Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the description that the guest builds a backend from: `name` and `options`.

    A name stands for a backend without options, None for the default.  Descriptions of devices,
    our own or IBM's, may stand alone.  What has been returned once is returned unchanged.  Raises
    BackendError, with the value, for what does not exist or does not fit.
    """
    if backend is None or isinstance(backend, str):
        return copy.deepcopy(_named(backend or DEFAULT))
    return _checked(backend)


@cache
def _named(name: str) -> dict[str, Any]:
    """Return the description of a backend without options: most jobs of a session ask for one."""
    return _checked({"name": name})


def _checked(backend: Mapping[str, Any]) -> dict[str, Any]:
    content = _with_name(_plain(backend, "backend"))
    name, options = content["name"], content.get("options") or {}
    table = _table()["backends"]
    if not isinstance(name, str) or name not in table:
        close = difflib.get_close_matches(str(name).lower(), table, n=1, cutoff=0.4)
        hint = f": did you mean {close[0]!r}?" if close else ""
        msg = f"unknown backend {name!r:.80}{hint} (known are {', '.join(table)})"
        raise BackendError(msg)
    if error := best_match(_validator(name).iter_errors({"name": name, "options": options})):
        raise _mistake(name, error)
    options = _complete(name, options)
    size, limit = len(json.dumps(options)), protocol.MAX_BACKEND_BYTES
    if size > limit:
        msg = f"backend {name!r}: its description takes {size} bytes, the limit is {limit}"
        raise BackendError(msg)
    return {"name": name, "options": options}


def check_requirements(manifest: Manifest, backend: Mapping[str, Any], memory_bytes: int) -> None:
    """Refuse a described backend that is not what a program's manifest requires.

    How many qubits a simulator has follows from its method and the sandbox's memory, and from the
    size of the device that it simulates.  Raises BackendError with both numbers.
    """
    name, program, requirements = backend["name"], manifest.name, manifest.backend_requirements
    if requirements.get("simulator") is False and backend["options"].get("simulator") is not False:
        msg = f"program {program!r} needs a real device, and backend {name!r} is a simulator"
        raise BackendError(msg)
    needed = requirements.get("min_num_qubits", 0)
    has, most = size(backend), room(backend, memory_bytes)
    if has is not None and needed > has:
        msg = f"program {program!r} needs {needed} qubits, backend {name!r} has {has}"
        raise BackendError(msg)
    if most is not None and needed > most:
        msg = (
            f"program {program!r} needs {needed} qubits, backend {name!r} has {most} with "
            f"{memory_bytes >> 20} MiB of memory: raise the memory limit, choose another method, "
            "or lower spec.backend_requirements.min_num_qubits in its manifest"
        )
        raise BackendError(msg)


def _with_name(content: dict[str, Any]) -> dict[str, Any]:
    """Return a description with `name` and `options`, made from that of a device if it is one."""
    if devices.is_configuration(content):
        return {"name": "device", "options": {"configuration": content}}
    if devices.is_configuration(content.get("configuration")):
        return {"name": "device", "options": content}
    if "num_qubits" in content and "gates" in content:
        return {"name": "device", "options": {"device": content}}
    if unknown := sorted(set(content) - {"name", "options"}):
        msg = f"backend: unknown key {unknown[0]!r:.80}; a backend has name and options"
        raise BackendError(msg)
    return {"name": DEFAULT, **content}


def _complete(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return options that are right one by one, after looking at what the schema cannot."""
    if options.get("noise") and options.get("noise_model"):
        msg = (
            f"backend {name!r}: noise and noise_model are both given, and a simulator has one of "
            "them: leave one out"
        )
        raise BackendError(msg)
    if name == "generic_backend_v2":
        _check_map(options.get("coupling_map"), options["num_qubits"])
        _check_widths(options.get("basis_gates", _GENERIC_BASIS), options["num_qubits"])
    basis = [each for each in options.get("basis_gates", ()) if each not in _ALWAYS]
    for each in [*basis, *_noisy_gates(options)]:
        if each not in devices.GATES:
            msg = f"backend {name!r}: unknown gate {each!r:.80}; known are {_gate_names()}"
            raise BackendError(msg)
    if name != "device":
        return options
    rest = {k: v for k, v in options.items() if k not in {"configuration", "properties", "device"}}
    try:
        described = options.get("device")
        if described is None:
            described = devices.from_ibm(options["configuration"], options.get("properties"))
            schema = _table()["backends"]["device"]["options"]["device"]
            if error := best_match(Draft202012Validator(schema).iter_errors(described)):
                raise _mistake(name, error)
        return {**rest, "device": devices.normal(described)}
    except devices.DescriptionError as error:
        msg = f"backend {name!r}: {error}"
        raise BackendError(msg) from error


def _gate_names() -> str:
    return ", ".join(sorted(devices.GATES))


def _noisy_gates(options: Mapping[str, Any]) -> Sequence[str]:
    noise = options.get("noise")
    return list(noise.get("depolarizing", ())) if isinstance(noise, Mapping) else ()


def _check_map(edges: list[list[int]] | None, size: int) -> None:
    seen = {index for edge in edges or () for index in edge}
    if edges is not None and seen != set(range(size)):
        msg = (
            f"backend 'generic_backend_v2': coupling_map has {len(seen)} qubits up to "
            f"{max(seen, default=-1)}, num_qubits is {size}; it must name each of them from 0"
        )
        raise BackendError(msg)


def _check_widths(basis: Sequence[str], size: int) -> None:
    for each in basis:
        if devices.GATES.get(each, 1) > size:
            msg = (
                f"backend 'generic_backend_v2': num_qubits is {size}, and its gate {each!r} acts "
                f"on {devices.GATES[each]}: name other basis_gates, or more qubits"
            )
            raise BackendError(msg)


# --- qubits ---------------------------------------------------------------------------------------


def size(backend: Mapping[str, Any]) -> int | None:
    """Return the qubits of the device, None for a simulator that is bound to none."""
    options = backend["options"]
    if backend["name"] == "none":
        return 0
    options = options.get("target", options)
    size = options.get("device", options).get("num_qubits", options.get("n_qubits"))
    return None if size is None else int(size)


def room(backend: Mapping[str, Any], memory_bytes: int) -> int | None:
    """Return the qubits whose state fits into the memory, None if the method does not keep one."""
    options = backend["options"]
    if "target" in options:  # held by the host, and not in the sandbox's memory
        return None
    exponent = _STATE_EXPONENTS.get(options.get("method", "automatic"))
    if exponent is None:
        return None
    room = min(memory_bytes * MEMORY_SHARE, options.get("max_memory_mb", math.inf) * 2**20)
    amplitude = 8 if options.get("precision") == "single" else 16
    return max(0, int(math.log2(room / amplitude) / exponent))


# --- reading --------------------------------------------------------------------------------------


def _read_file(path: Path) -> dict[str, Any]:
    content = _parsed(_bytes(path), str(path))
    if devices.is_configuration(content) and path.name.startswith("conf_"):
        beside = path.with_name("props_" + path.name.removeprefix("conf_"))
        if beside.is_file():
            found = _parsed(_bytes(beside), str(beside))
            return {"configuration": content, "properties": found}
    return content


def _bytes(path: Path) -> bytes:
    try:
        return files.read(path, most_bytes=MAX_FILE_BYTES, follow=True)
    except OSError as error:
        msg = f"--backend @{path}: cannot be read: {error.strerror}"
        raise BackendError(msg) from error


def _parsed(content: bytes, source: str) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        msg = f"{source}: not readable as JSON: {error}"
        raise BackendError(msg) from error
    if not isinstance(found, dict):
        msg = f"{source}: a backend is a JSON object with name and options, or describes a device"
        raise BackendError(msg)
    return found


def _plain(value: Any, where: str, depth: int = 0) -> Any:
    """Return what a caller gave as JSON data: NumPy's numbers and Aer's noise models too."""
    if depth > _MAX_DEPTH:
        msg = f"{where:.200}: nested deeper than {_MAX_DEPTH}"
        raise BackendError(msg)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return value
    elif isinstance(value, Mapping):
        return {str(k): _plain(v, f"{where}.{k}", depth + 1) for k, v in value.items()}
    elif isinstance(value, (list, tuple)):
        return [_plain(v, f"{where}[{n}]", depth + 1) for n, v in enumerate(value)]
    elif type(value).__name__ == "NoiseModel":
        return values.encoded(value, where)
    elif hasattr(value, "tolist"):
        return _plain(value.tolist(), where, depth + 1)
    msg = f"{where:.200}: cannot be described by {value!r:.80}, a {type(value).__name__}"
    raise BackendError(msg)


# --- the table ------------------------------------------------------------------------------------


@cache
def _table() -> dict[str, Any]:
    return json.loads(_TABLE_FILE.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def _aer_options(backend: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the options of the simulator behind a backend, none if there is none."""
    options: Mapping[str, Any] = _table()["aer_options"]
    return options if backend.get("is_simulated", True) else {}


@cache
def _validator(name: str) -> Draft202012Validator:
    backend = _table()["backends"][name]
    options = {
        "type": "object",
        "properties": {**_aer_options(backend), **backend["options"]},
        "additionalProperties": False,
        "required": backend.get("required", []),
    }
    options.update({key: backend[key] for key in ("oneOf",) if key in backend})
    return Draft202012Validator({"properties": {"options": options}})


def _mistake(name: str, error: ValidationError) -> BackendError:
    """Return the error for a violation of the table: which option, its value, what goes."""
    path = ".".join(str(each) for each in error.absolute_path if each != "options")
    where = f"backend {name!r}: {path}" if path else f"backend {name!r}"
    schema = error.schema if isinstance(error.schema, dict) else {}
    if error.validator == "additionalProperties":
        allowed = sorted(schema.get("properties", ()))
        unknown = min(set(error.instance) - set(allowed))  # type: ignore[arg-type]
        close = difflib.get_close_matches(str(unknown), allowed, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        names = ", ".join(allowed) or "none"
        return BackendError(f"{where}: unknown option {unknown!r:.80}; {hint}known are {names}")
    meaning = schema.get("description")
    return BackendError(f"{where}: {error.message:.300}" + (f" ({meaning})" if meaning else ""))


def _options(schemas: Mapping[str, Any], required: Sequence[str]) -> tuple[Option, ...]:
    return tuple(
        Option(
            name=name,
            values=_values(schema),
            description=schema.get("description", ""),
            is_required=name in required,
        )
        for name, schema in schemas.items()
    )


def _values(schema: Mapping[str, Any]) -> str:
    """Return in words what an option takes."""
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    bounds = [
        f"{sign} {schema[key]}"
        for key, sign in (("minimum", ">="), ("exclusiveMinimum", ">"), ("maximum", "<="))
        if key in schema
    ]
    return " ".join([str(schema.get("type", "any")), *bounds])
