"""Decoding a result holds up nothing else, whatever is in it."""

from __future__ import annotations

import pytest

from runner import Limits
from tests.engine.bare import Supervisor
from tests.waiting import within

pytestmark = pytest.mark.engine

WHOLE = Limits(memory_bytes=1 << 30, timeout_s=120)
LIMITS_S = (1.5, 2.5)
"""Two, since what holds up the one may have just ended."""
LATE_S = 0.3
RESULTS = {
    "digits": "[10**4299 + n for n in range((63 << 20) // 4301)]",
    "numbers": "[0.1234567890123456 + n for n in range(1_600_000)]",
    "keys": "{f'{n:x}': 0 for n in range(1_200_000)}",
    "bytes": "bytes(47 << 20)",
}


@pytest.fixture(scope="module")
def supervisor():
    with Supervisor(max_jobs=2) as running:
        yield running


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", RESULTS)
def test_a_result_that_is_decoded_delays_no_other_jobs_deadline(supervisor, program, kind):
    path = program(f"def main(b, m):\n    return {RESULTS[kind]}\n")
    large = supervisor.run(path, limits=WHOLE)
    assert large.wait(120).outcome == "completed", large.record.error
    endless = program("import time\ndef main(b, m):\n    time.sleep(60)\n", "endless.py")
    others = [supervisor.run(endless, limits={"timeout_s": limit_s}) for limit_s in LIMITS_S]
    for other in others:
        assert within(60, other.running)
    count = 0
    while not all(other.in_final_state() for other in others):
        large.result()
        count += 1
    assert count
    for limit_s, record in zip(LIMITS_S, (other.wait() for other in others), strict=True):
        assert record.outcome == "time_limit"
        assert limit_s <= record.evidence.observed < limit_s + LATE_S
