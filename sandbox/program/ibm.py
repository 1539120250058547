"""What stands for IBM's client where it is not there: the names that runtime programs import.

Programs were written against `qiskit_ibm_runtime.program` or `qiskit.providers.ibmq.runtime`: for
annotations, as the encoder of `publish`, in a `main` of their own for trying out.  These modules
are found only where nothing else is, so the real package, locked with a program, comes first.
Everything else of the client needs an account and a network, and says so when it is imported.
"""

from __future__ import annotations

import importlib.machinery
import json
import sys
import types
from collections.abc import Sequence
from typing import Any, Final

from sandbox import codec
from sandbox.program.messenger import UserMessenger

_PACKAGES: Final = frozenset(
    {
        "qiskit_ibm_runtime",
        "qiskit_ibm_runtime.program",
        "qiskit.providers.ibmq",
        "qiskit.providers.ibmq.runtime",
    }
)
_MODULES: Final = frozenset(
    {
        "qiskit_ibm_runtime.program.program_backend",
        "qiskit_ibm_runtime.program.result_decoder",
        "qiskit_ibm_runtime.program.user_messenger",
        "qiskit_ibm_runtime.utils",
        "qiskit.providers.ibmq.runtime.utils",
    }
)


class RuntimeEncoder(json.JSONEncoder):
    """Encodes as `publish` does without an encoder."""

    def default(self, o: Any) -> Any:
        """Return the tagged form of what JSON does not have."""
        return json.loads(codec.encode(o, "message"))


class RuntimeDecoder(json.JSONDecoder):
    """Decodes what RuntimeEncoder has encoded."""

    def decode(self, s: str, *arguments: Any) -> Any:
        """Return the value that a text stands for."""
        return codec.from_data(super().decode(s, *arguments), "value", trusted=True)


class ResultDecoder:
    """Base of a program's own decoders of results."""

    @classmethod
    def decode(cls, data: str) -> Any:
        """Return the value that a text stands for, or the text if it stands for none."""
        try:
            return json.loads(data, cls=RuntimeDecoder)
        except json.JSONDecodeError:
            return data


_NAMES: Final = {
    each.__name__: each for each in (UserMessenger, RuntimeEncoder, RuntimeDecoder, ResultDecoder)
}


class _Finder:
    """Finds the modules of the client; must be asked after all others."""

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None, _target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return what makes one of the client's modules, None for any other."""
        if fullname in _PACKAGES or fullname in _MODULES:
            is_package = fullname in _PACKAGES
            loader: Any = self  # without the base class, whose import takes longer than many a job
            return importlib.machinery.ModuleSpec(fullname, loader, is_package=is_package)
        return None

    def create_module(self, _spec: importlib.machinery.ModuleSpec) -> None:
        """Let Python make the module."""

    def exec_module(self, module: types.ModuleType) -> None:
        """Fill a module of the client."""

        def of_the_client(name: str) -> Any:
            if name == "ProgramBackend":
                from qiskit.providers import BackendV2

                return BackendV2
            if name.startswith("__"):
                raise AttributeError(name)
            what = f"{module.__name__} has no {name!r} in the sandbox"
            why = "IBM's client is not installed, and there is no network"
            todo = f"of it there are {', '.join([*_NAMES, 'ProgramBackend'])}"
            msg = f"{what}: {why}; {todo}; the package itself can be locked as a requirement"
            raise ImportError(msg, name=module.__name__)

        module.__getattr__ = of_the_client  # type: ignore[method-assign]
        vars(module).update(_NAMES)


def stand_in() -> None:
    """Let the client's modules be found from now on where nothing else is."""
    sys.meta_path.append(_Finder())
