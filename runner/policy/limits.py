"""The limits of a job: what it may use, as frozen values, and sizes written as text."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from runner.errors import RequestError
from sandbox.wire import protocol
from sandbox.wire.protocol import KIB, MIB

GIB: Final = 1024 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of one job.  Reaching any of them is an outcome of its own.

    Times are in seconds, sizes in bytes.  `timeout_s` runs from hand-out and includes the program's
    import; `startup_s` is for the guest's own code before that.  While a held backend has calls to
    answer, `device_wait_s` runs instead, over all calls together.  Manifests and callers may lower
    the operator's limits, never raise them: see `lowered_by`.
    """

    timeout_s: float = 300.0
    startup_s: float = 60.0
    device_wait_s: float = 3600.0
    memory_bytes: int = 2 * GIB
    cpus: float = 1.0
    processes: int = 128
    tmp_bytes: int = 64 * MIB
    tmp_inodes: int = 4096
    inputs_bytes: int = protocol.MAX_INPUTS_BYTES
    message_bytes: int = protocol.MAX_MESSAGE_BYTES
    messages_bytes: int = protocol.MAX_MESSAGES_BYTES
    messages: int = protocol.MAX_MESSAGES
    result_bytes: int = protocol.MAX_RESULT_BYTES
    log_kept_bytes: int = 10 * MIB
    log_bytes: int = GIB

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):
            value = getattr(self, each.name)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            is_within = is_number and _LEAST.get(each.name, 0) <= value <= most(each.name)
            is_whole = isinstance(value, int) or (is_number and value.is_integer())
            if not is_within or value == 0 or not (is_whole or _is_fractional(each)):
                msg = f"limit {each.name} is {value!r}: it must be {_meaning_of(each)}"
                raise RequestError(msg)
            if isinstance(value, float) and not _is_fractional(each):
                object.__setattr__(
                    self, each.name, int(value)
                )  # the engine does not accept 2e9 as a number

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """Return the JSON Schema of a table of wishes for lower limits, as manifests have it."""
        return {
            "type": "object",
            "properties": {
                each.name: {
                    "description": _meaning_of(each),
                    "type": "number" if _is_fractional(each) else "integer",
                    **({"minimum": _LEAST[each.name]} if each.name in _LEAST else _ABOVE_0),
                    "default": each.default,
                }
                for each in dataclasses.fields(cls)
            },
            "additionalProperties": False,
        }

    def lowered_by(self, wanted: Mapping[str, float] | Limits) -> Limits:
        """Return these limits, each lowered to the value in `wanted` if that is smaller.

        `wanted` holds some limits by name, or all of them.  Raises RequestError for an unknown name
        and for an impossible value.
        """
        if isinstance(wanted, Limits):
            wanted = dataclasses.asdict(wanted)
        if not wanted:
            return self
        known = {each.name for each in dataclasses.fields(self)}
        if unknown := sorted(set(wanted) - known):
            msg = f"unknown limit {unknown[0]!r}: known are {', '.join(sorted(known))}"
            raise RequestError(msg)
        asked = dataclasses.replace(self, **{name: _capped(name, wanted[name]) for name in wanted})
        lower: dict[str, Any] = {
            name: min(getattr(asked, name), getattr(self, name)) for name in wanted
        }
        return dataclasses.replace(self, **lower)

    def for_container(self) -> Limits:
        """Return the limits that a container is created with; all others have their default.

        Jobs that differ only in the other limits can use the same sandbox.
        """
        return Limits(**{name: getattr(self, name) for name in _OF_THE_CONTAINER})

    def for_guest(self) -> dict[str, float]:
        """Return the limits that the guest also checks, so that a program sees them as errors."""
        return {
            "wall_s": self.timeout_s,
            "memory_bytes": self.memory_bytes,
            "cpus": self.cpus,
            "message_bytes": self.message_bytes,
            "messages_bytes": self.messages_bytes,
            "messages": self.messages,
            "result_bytes": self.result_bytes,
        }


_LEAST: Final = {"cpus": 0.01, "memory_bytes": 6 * MIB}
"""Engines refuse smaller values, and take less than a billionth of a CPU to mean no limit."""

_MOST: Final = {"processes": 1 << 22}
"""The most processes that a kernel can count."""

_MOST_S: Final = 1_000_000
"""Eleven days, in seconds: the kernel waits for at most twice as long at a time."""

_MOST_WHOLE: Final = 1 << 53
"""Beyond it not every reader of JSON has the same whole number."""

_ABOVE_0: Final = {"exclusiveMinimum": 0}


def most(limit: str) -> int:
    """Return the largest value that a limit may have; a wish may be any number."""
    return _MOST.get(limit, _MOST_S if limit.endswith("_s") else _MOST_WHOLE)


def _capped(limit: str, wish: Any) -> Any:
    """Return a wish for a limit; one beyond all that is possible may be any number."""
    is_beyond = isinstance(wish, int | float) and most(limit) < wish < math.inf
    return most(limit) if is_beyond else wish


def _is_fractional(limit: dataclasses.Field[Any]) -> bool:
    return isinstance(limit.default, float)


def _meaning_of(limit: dataclasses.Field[Any]) -> str:
    """Return the values that a limit accepts, in words."""
    number = "a number" if _is_fractional(limit) else "a whole number"
    units = {"s": " of seconds", "bytes": " of bytes"}
    unit = units.get(limit.name.rpartition("_")[2], "")
    least = f"of at least {_LEAST[limit.name]}" if limit.name in _LEAST else "above 0"
    return f"{number}{unit} {least} and at most {most(limit.name)}"


_OF_THE_CONTAINER: Final = (
    "startup_s",
    "memory_bytes",
    "cpus",
    "processes",
    "tmp_bytes",
    "tmp_inodes",
)


_UNITS: Final = {"": 1, "k": KIB, "m": MIB, "g": GIB}
_SIZE: Final = re.compile(r"(?P<number>\d{1,15}(\.\d{1,15})?)(?P<unit>[kmg]?)(i?b)?")


def parse_size(text: str) -> int:
    """Return the number of bytes that "512m", "2GiB", "1.5g" or "1048576" mean (powers of 1024).

    Raises RequestError for anything else.
    """
    match = _SIZE.fullmatch(text.strip().lower())
    number = int(float(match["number"]) * _UNITS[match["unit"]]) if match else 0
    if number <= 0:
        msg = f"size {text!r} is not understood: write it like 512m, 2g or a number of bytes"
        raise RequestError(msg)
    return number


def size(number: int) -> str:
    """Return a number of bytes as people write it, in GiB, MiB, KiB or bytes."""
    if number >= GIB:
        return f"{number / GIB:.3g} GiB"
    if number >= MIB:
        return f"{number / MIB:.0f} MiB"
    return f"{number / KIB:.0f} KiB" if number >= 10 * KIB else f"{number} bytes"
