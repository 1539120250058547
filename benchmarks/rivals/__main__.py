"""A rival as a process: one request a line on stdin, one answer a line on stdout, both JSON.

    {"open": {"system": …, "image": …, "driver": …, "labels": …}}    → {"version": …}
    {"run": INPUTS}                                                  → {"output": …, "seconds": …}
    {"rate": INPUTS, "seconds": …, "callers": …}                     → {"count": …, "seconds": …}

An answer may be {"error": …} instead.  The end of stdin closes the rival and ends the process.
"""

from __future__ import annotations

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.rivals.systems import SYSTEMS, System


def rate(system: System, inputs: dict[str, Any], seconds: float, callers: int) -> dict[str, Any]:
    """Return how many jobs were done while so many callers asked all the time."""
    began = time.perf_counter()

    def ask_on(_: int) -> int:
        count = 0
        while time.perf_counter() - began < seconds:
            output, _seconds = system.run(inputs)
            if '{"result": ' not in output:
                msg = f"no result, but {output[-200:]!r}"
                raise RuntimeError(msg)
            count += 1
        return count

    with ThreadPoolExecutor(callers) as pool:
        count = sum(pool.map(ask_on, range(callers)))
    return {"count": count, "seconds": time.perf_counter() - began}


def main() -> None:
    """Answer until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the libraries print is no answer
    system: System | None = None
    try:
        for line in sys.stdin:
            request = json.loads(line)
            try:
                if "open" in request:
                    given = request["open"]
                    kind = SYSTEMS[given.pop("system")]
                    opening = kind(**given)
                    opening.open()
                    system = opening
                    answer: dict[str, Any] = {"version": system.version()}
                elif system is None:
                    answer = {"error": "not open"}
                elif "rate" in request:
                    answer = rate(system, request.pop("rate"), **request)
                else:
                    output, seconds = system.run(request["run"])
                    answer = {"output": output, "seconds": seconds}
            except Exception as error:  # noqa: BLE001  whatever a rival raises is its answer
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), file=answers, flush=True)
    finally:
        if system is not None:
            system.close()


if __name__ == "__main__":
    main()
