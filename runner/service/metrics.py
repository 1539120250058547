"""Counters and gauges of a service, in the text form that Prometheus reads."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

_BUCKETS_S: Final = (0.005, 0.025, 0.1, 0.5, 2.5, 10.0)


class Metrics:
    """What a service has counted since its start; every method may be called from any thread.

    The labels are routes, methods and statuses, so their number is bounded; no user or id is one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._within: Counter[float] = Counter()
        self._seconds = 0.0

    def answered(self, method: str, path: str, status: int, took_s: float) -> None:
        """Count one answer."""
        with self._lock:
            self._requests[method, path, status] += 1
            self._seconds += took_s
            for bound in _BUCKETS_S:
                if took_s <= bound:
                    self._within[bound] += 1

    def text(self, gauges: Mapping[str, tuple[str, float]]) -> str:
        """Return all metrics; `gauges` are further ones: name → (what it is, value)."""
        return "".join(f"{line}\n" for line in self._lines(gauges))

    def _lines(self, gauges: Mapping[str, tuple[str, float]]) -> Iterator[str]:
        for name, (meaning, value) in gauges.items():
            yield f"# HELP qrunner_{name} {meaning}"
            yield f"# TYPE qrunner_{name} gauge"
            yield f"qrunner_{name} {value:g}"
        with self._lock:
            requests, within = dict(self._requests), dict(self._within)
            count, seconds = sum(self._requests.values()), self._seconds
        yield "# HELP qrunner_requests_total Answered requests."
        yield "# TYPE qrunner_requests_total counter"
        for (method, path, status), number in sorted(requests.items()):
            labels = f'method="{method}",route="{path}",status="{status}"'
            yield f"qrunner_requests_total{{{labels}}} {number}"
        yield "# HELP qrunner_request_seconds Time from a request's head to its answer."
        yield "# TYPE qrunner_request_seconds histogram"
        for bound in _BUCKETS_S:
            yield f'qrunner_request_seconds_bucket{{le="{bound:g}"}} {within.get(bound, 0)}'
        yield f'qrunner_request_seconds_bucket{{le="+Inf"}} {count}'
        yield f"qrunner_request_seconds_sum {seconds:.6f}"
        yield f"qrunner_request_seconds_count {count}"
