"""A confined process computes, answers, and can do nothing else."""

import subprocess
import sys

import pytest

from holder import confinement

pytestmark = pytest.mark.skipif(
    not confinement.is_possible(), reason="needs Linux on x86-64 or arm64"
)

TRIED = """
import os, socket, sys
import ctypes
from holder import confinement
confinement.confine(1 << 30)
def attempt():
    {attempt}
try:
    attempt()
except BaseException as error:
    os.write(1, type(error).__name__.encode())
else:
    os.write(1, b"worked")
os._exit(0)
"""


def tried(attempt):
    done = subprocess.run(
        [sys.executable, "-c", TRIED.format(attempt=attempt)], capture_output=True, text=True
    )
    return done.stdout or done.returncode


@pytest.mark.parametrize(
    "attempt",
    [
        "open('/etc/hostname')",
        "open('/tmp/x', 'w')",
        "os.listdir('/')",
        "socket.socket()",
        "socket.socketpair()",
        "os.fork()",
        "os.execv('/bin/true', ['true'])",
        "os.kill(os.getppid(), 0)",
        "os.pidfd_open(os.getppid())",
        "os.memfd_create('x')",
        "os.setuid(0)",
        "os.unlink('/tmp/nothing')",
        "os.pipe()",
        "__import__('json.tool')",
    ],
)
def test_nothing_outside_can_be_reached(attempt):
    assert tried(attempt) in {"PermissionError", "ModuleNotFoundError", "OSError"}


@pytest.mark.parametrize(
    "attempt",
    ["sum(range(10**6))", "bytearray(1 << 28)", "os.write(1, b'')", "os.urandom(8)"],
)
def test_computing_works(attempt):
    assert tried(attempt) == "worked"


def test_memory_is_bounded():
    assert tried("bytearray(2 << 30)") == "MemoryError"


def test_the_filter_kills_another_architecture_and_ends_with_what_it_allows():
    program = confinement._program(7, (1, 2))
    steps = [program[start : start + 8] for start in range(0, len(program), 8)]
    assert len(steps) == 5 + 2 + 2
    assert int.from_bytes(steps[2][4:], "little") == 0x80000000
    assert int.from_bytes(steps[-1][4:], "little") == 0x7FFF0000
    assert int.from_bytes(steps[-2][4:], "little") == 0x00050001
