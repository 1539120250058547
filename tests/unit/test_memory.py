"""Where objects lie that a session's parent, and then its forks, make: a process for each look."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

POOL = 16 << 10
ARENA = 1 << 20
NEW = 100
SIZE = 128

GATHERED = """
from sandbox.processes import memory
kept = memory.gather() if {gathered} else [bytes(479) for _ in range(5)]
later = [bytes(400) for _ in range(40_000)]
places = [id(each) for each in kept[4:]]  # the first ones may lie in older arenas
low, high = min(places) - {arena}, max(places) + {arena}
print(sum(low < id(each) < high for each in later), max(places) - min(places))
"""


def look(code, **environment):
    command = [sys.executable, "-c", code]
    environment = {**os.environ, **environment}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return [int(word) for word in done.stdout.split()]


@pytest.mark.parametrize("settled", [True, False])
def test_what_is_made_after_it_has_settled_lies_together(settled):
    code = f"""
from sandbox.processes import memory
many = [bytes({SIZE} - 33) for _ in range(40_000)]
del many[::40]  # three in each pool
if {settled}:
    memory.settle()
new = [bytes({SIZE} - 33) for _ in range({NEW})]
print(len({{id(each) // {POOL} for each in new}}))
"""
    (pools,) = look(code)
    assert pools <= 3 if settled else pools > NEW // 6


def test_what_is_made_after_all_room_was_filled_is_in_memory_of_its_own():
    code = """
from sandbox.processes import memory
import collections
many = [(n, [n], {n: n}, str(n), float(n), object()) for n in range(40_000)]
del many[::40]
cold = memory.fill()
made = [(n, [n], {n: n}, str(n), float(n), object()) for n in range(1_000, 3_000)]
places = [id(part) for each in made for part in (each, *each)]
print(sum(place // (2 << 20) in cold for place in places), len(places))
"""
    # Where the kernel happens to put new memory right beside the old, a region holds both.
    mixed, all_ = min(look(code) for _ in range(8))
    assert mixed < all_ / 100


def test_what_is_made_after_it_was_gathered_lies_in_one_place():
    inside, width = look(GATHERED.format(gathered=True, arena=ARENA))
    assert inside > 36_000  # the first ones find room in older arenas
    assert width < 34 * ARENA
    assert look(GATHERED.format(gathered=False, arena=ARENA))[0] < 10_000


def test_another_allocator_pays_little_for_it():
    code = """
from sandbox.processes import memory
memory.settle()
print(len(memory._filling))
"""
    assert look(code, PYTHONMALLOC="malloc")[0] < 5_000
    assert 0 < look(code)[0] < 20_000


def test_it_settles_without_huge_pages():
    code = """
from sandbox.processes import guard, memory
guard.libc.madvise = lambda *_: -1  # as gVisor answers
memory.settle()
print(1)
"""
    assert look(code) == [1]
