"""What a call costs in circuits and shots, counted the same wherever it is looked at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

DEFAULT_SHOTS: Final = 1024

VERBS: Final = {"run": "circuits", "sampler": "pubs", "estimator": "pubs"}
"""The calls that cost something, and the name of what they bring."""


def of(verb: str, items: Sequence[Any], options: dict[str, Any]) -> dict[str, int]:
    """Return the circuits and shots of a call; an estimator's shots follow from its precision."""
    if verb == "run":
        return {"circuits": len(items), "shots": len(items) * shots_of(options)}
    runs = [math.prod(each.shape) for each in items]
    shots = [getattr(each, "shots", 0) or 0 for each in items]
    return {
        "circuits": sum(runs),
        "shots": sum(count * each for count, each in zip(runs, shots, strict=True)),
    }


def shots_of(options: dict[str, Any]) -> int:
    """Return the shots of each circuit.  Raises ValueError for what is no number of shots."""
    shots = options.get("shots", DEFAULT_SHOTS)
    if type(shots) is not int or shots < 1:
        msg = f"shots is {shots!r:.80}: it must be a whole number above 0"
        raise ValueError(msg)
    return shots
