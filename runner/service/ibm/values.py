"""Values on their way from and to IBM's clients: their encoding, translated and never decoded.

What programs send is almost IBM's encoding already (docs/values.md).  What only we tag becomes what
IBM's encoder would have made of it, and what is known to make an older client run code, or cannot
be read by it, is not passed on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from starlette.requests import HTTPConnection

from runner.programs import values
from runner.service.faults import RefusedError
from sandbox.wire.protocol import JsonText

_TYPE: Final = "__type__"
_VALUE: Final = "__value__"

_CIRCUITS: Final = frozenset({"QuantumCircuit", "Instruction"})
_RUNS_CODE: Final = frozenset({"dill", "ParameterExpression"})
_SETTINGS: Final = frozenset(
    {
        ("qiskit.quantum_info.operators.operator", "Operator"),
        ("qiskit.quantum_info.operators.symplectic.pauli", "Pauli"),
        ("qiskit.quantum_info.operators.symplectic.pauli_list", "PauliList"),
        ("qiskit.quantum_info.operators.symplectic.sparse_pauli_op", "SparsePauliOp"),
        ("qiskit.quantum_info.states.densitymatrix", "DensityMatrix"),
        ("qiskit.quantum_info.states.statevector", "Statevector"),
    }
)
"""Classes that the older clients may build; they would import whatever a program names."""

_LISTS: Final = frozenset({"tuple", "frozenset", "deque"})
_TEXTS: Final = frozenset({"date", "time", "Decimal", "UUID"})
_NUMBERS: Final = frozenset({"int", "float", "complex"})


class WithheldError(RefusedError):
    """A value that this client cannot be given."""

    def __init__(self, reason: str) -> None:
        msg = (
            f"{reason}; read it with qiskit-ibm-runtime 0.51 or newer, with qrunner, or under "
            "/v1, or let the program return plain values"
        )
        super().__init__(HTTPStatus.CONFLICT, msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """What the client on the other side can be given: `is_older` for those before 0.21."""

    is_older: bool

    @classmethod
    def of(cls, request: HTTPConnection) -> Reader:
        """Return the reader of a request: only the newer client names its version of the API."""
        return cls(is_older="ibm-api-version" not in request.headers)

    def text_of(self, text: JsonText, *, raw: bool = False) -> str:
        """Return an encoded value as this client decodes it to the value.

        With `raw`, a text stands as it is where that cannot be taken for JSON, as IBM sent results.
        Raises WithheldError.
        """
        data: Any = json.loads(text)
        if _has_tags(text):
            data = self._translated(data, "the value")
        if isinstance(data, str) and raw and not _is_json(data) and data:
            return data
        # The last older client looks for an address in each result, and fails on what has no keys.
        if (raw and isinstance(data, str)) or (self.is_older and _is_awkward(data)):
            data = {_TYPE: "to_json", _VALUE: data}
        return json.dumps(data)

    def _translated(self, data: Any, where: str) -> Any:
        if isinstance(data, list):
            return [self._translated(each, f"{where}[{n}]") for n, each in enumerate(data)]
        if not isinstance(data, dict):
            return data
        if _TYPE not in data:
            return {
                key: self._translated(each, f"{where}[{key!r:.80}]") for key, each in data.items()
            }
        self._check(data, where)
        tag, content = data[_TYPE], self._translated(data.get(_VALUE), where)
        plain, is_plain = _plain(tag, content)
        return plain if is_plain else {**data, _VALUE: content}

    def _check(self, data: Mapping[str, Any], where: str) -> None:
        """Raise WithheldError for what an older client must not be given."""
        tag = data[_TYPE]
        if not self.is_older or not isinstance(tag, str):
            return
        if tag in _CIRCUITS:
            msg = f"{where} is a circuit in a version of QPY that this client cannot read safely"
            raise WithheldError(msg)
        named = (data.get("__module__"), data.get("__class__"))
        if tag in _RUNS_CODE or (tag == "settings" and named not in _SETTINGS):
            msg = f"{where} is a {tag!r} value, which would run code where this client decodes it"
            raise WithheldError(msg)


def _plain(tag: object, content: Any) -> tuple[Any, bool]:
    """Return what IBM's encoder makes of a value that only we tag, and True if that is so."""
    if tag in {"float", "int"} and isinstance(content, str):
        return (float(content) if tag == "float" else int(content, 16)), True
    if tag in _LISTS and isinstance(content, list):
        return (content[0] if tag == "deque" and content else content), True
    if tag in _TEXTS and isinstance(content, str):
        return ({_TYPE: "datetime", _VALUE: content} if tag == "date" else content), True
    if tag in {"dict", "OrderedDict", "Counter"} and isinstance(content, list):
        return _object(content)
    return content, False


def _object(pairs: list[Any]) -> tuple[Any, bool]:
    """Return pairs as an object with keys as JSON writes them, if that is possible."""
    found = {}
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2:
            return pairs, False
        key, value = pair
        if isinstance(key, (list, dict)):
            return pairs, False
        found[key if isinstance(key, str) else json.dumps(key)] = value
    return found, _TYPE not in found and len(found) == len(pairs)


def from_client(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs that one of IBM's clients has encoded, for `Order`.

    Numbers that their encoder tags as NumPy's become the numbers.
    """
    return values.as_sent({name: _untagged(each) for name, each in inputs.items()})


def _untagged(data: Any) -> Any:
    if isinstance(data, list):
        return [_untagged(each) for each in data]
    if not isinstance(data, dict):
        return data
    content = data.get(_VALUE)
    if data.get(_TYPE) in _NUMBERS and len(data) == 2 and not isinstance(content, (str, list)):
        return _untagged(content)
    return {key: _untagged(each) for key, each in data.items()}


def _has_tags(text: str) -> bool:
    r"""Return True if a text may hold a tagged value; a key may also be written with `\u`."""
    return _TYPE in text or "\\u" in text


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_awkward(data: Any) -> bool:
    if isinstance(data, (list, str, dict)):
        return "url" in data
    return True
