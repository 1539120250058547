"""Does a service's memory stay flat over many jobs?  Twenty users run one no-op after the other.

`--rounds` is the number of jobs.  The memory is that of the service's process; what it needs once,
for its caches and its store, is there after a tenth of the jobs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
import time
from pathlib import Path

from benchmarks.report import Row, arguments, report
from benchmarks.service import one_after_another, resident_kib, service, uploaded

GROWTH_MIB = 16.0
_LOOK_S = 20.0


async def run(
    address: str, tokens: list[str], body: bytes, pid: int, jobs: int
) -> dict[int, float]:
    """Run so many jobs; return the service's memory in MiB by the number that had ended."""
    done, seen = 0, {}
    while done < jobs:
        until = time.monotonic() + _LOOK_S
        work = [one_after_another(address, each, body, until) for each in tokens]
        done += sum(await asyncio.gather(*work))
        seen[done] = resident_kib(pid) / 1024
        print(json.dumps({"jobs": done, "mib": round(seen[done], 1)}), flush=True)
    return seen


def main() -> int:
    """Measure and report; 1 if the target is missed."""
    options = arguments(__doc__, rounds=100_000)
    with (
        tempfile.TemporaryDirectory() as name,
        contextlib.closing(asyncio.new_event_loop()) as loop,
        service(Path(name)) as (address, tokens, pid),
    ):
        body = uploaded(address, tokens[0])
        seen = loop.run_until_complete(run(address, tokens, body, pid, options.rounds))
    settled = next(mib for jobs, mib in seen.items() if jobs >= options.rounds / 10)
    rows = [
        Row("jobs", float(max(seen)), ""),
        Row("memory after a tenth of them", settled, "MiB"),
        Row("memory at the end", seen[max(seen)], "MiB"),
        Row("  more than after a tenth", seen[max(seen)] - settled, "MiB", at_most=GROWTH_MIB),
    ]
    return report("steady", rows, options)


if __name__ == "__main__":
    raise SystemExit(main())
