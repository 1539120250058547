"""Where objects lie that a session's parent, and then its forks, make: a process for each look."""

from __future__ import annotations

import subprocess
import sys

import pytest

POOL = 16 << 10
ARENA = 1 << 20
NEW = 100
SIZE = 128

GATHERED = """
from sandbox import memory
kept = memory.gather() if {gathered} else [bytes(479)]
places = [id(each) for each in kept]
low, high = min(places) - {arena}, max(places) + {arena}
later = [bytes(400) for _ in range(40_000)]
print(sum(low < id(each) < high for each in later), max(places) - min(places))
"""


def look(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [int(word) for word in done.stdout.split()]


@pytest.mark.parametrize("settled", [True, False])
def test_what_is_made_after_it_has_settled_lies_together(settled):
    code = f"""
from sandbox import memory
many = [bytes({SIZE} - 33) for _ in range(40_000)]
del many[::40]  # three in each pool
if {settled}:
    memory.settle()
new = [bytes({SIZE} - 33) for _ in range({NEW})]
print(len({{id(each) // {POOL} for each in new}}))
"""
    (pools,) = look(code)
    assert pools <= 3 if settled else pools > NEW // 6


@pytest.mark.parametrize("gathered", [True, False])
def test_what_is_made_after_it_was_gathered_lies_in_one_place(gathered):
    inside, width = look(GATHERED.format(gathered=gathered, arena=ARENA))
    if gathered:
        assert inside == 40_000
        assert width < 36 * ARENA
    else:
        assert inside < 40_000


def test_it_settles_without_huge_pages_and_without_a_trace_of_an_error():
    code = """
import os
from sandbox import guard, memory
before = len(os.listdir("/proc/self/fd"))
guard.libc.madvise = lambda *_: -1  # as gVisor answers
memory.settle()
print(len(os.listdir("/proc/self/fd")) - before)
"""
    assert look(code) == [0]
