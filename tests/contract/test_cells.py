"""What makes a cell, as far as it needs no engine: the filter, the orders, the arguments."""

from __future__ import annotations

import errno
import os
import platform
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from runner.policy import Policy
from runner.policy.isolation import ZYGOTE_CALLS
from runner.sandboxes import zygote
from runner.sandboxes.spec import zygote_arguments
from sandbox.processes import kernel
from sandbox.wire import protocol
from sandbox.wire.options import parse
from sandbox.wire.protocol import FrameReader, Ready

ROOT = Path(__file__).parents[2]
MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
OTHER_ARCHITECTURE = 0x40000003
ALLOW, EPERM = 0x7FFF0000, 0x00050000 | errno.EPERM
SIGCHLD = 17
FORBIDDEN_FLAGS = {
    "mount": 0x00020000,
    "cgroup": 0x02000000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "user": 0x10000000,
    "pid": 0x20000000,
    "net": 0x40000000,
    "parent": 0x00008000,
}
# What glibc gives to `clone` for a thread.
THREAD = 0x003D0F00


def run(program, number, architecture, argument=0):
    """Interpret a filter as the kernel does; return its verdict."""
    data = struct.pack("<IIQ6Q", number, architecture, 0, argument, *[0] * 5)
    lines = [struct.unpack_from("<HBBI", program, at) for at in range(0, len(program), 8)]
    at = accumulator = 0
    while True:
        code, then, otherwise, k = lines[at]
        at += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, k)
        elif code == 0x15:
            at += then if accumulator == k else otherwise
        elif code == 0x45:
            at += then if accumulator & k else otherwise
        else:
            assert code == 0x06
            return k


@pytest.mark.parametrize("machine", MACHINES)
def test_the_filter_of_a_cell_takes_away_what_only_a_zygote_may_do(machine):
    architecture, numbers = MACHINES[machine], kernel._NUMBERS[machine]
    program = kernel._filter(architecture, numbers)
    assert set(numbers) == set(ZYGOTE_CALLS)  # all that a zygote has beyond a container
    clone = numbers["clone"]
    verdicts = {number: run(program, number, architecture, SIGCHLD) for number in range(1000)}
    assert {number for number, each in verdicts.items() if each == EPERM} == {
        number for name, number in numbers.items() if name != "clone"
    }
    assert {*verdicts.values()} == {ALLOW, EPERM}
    for flag in FORBIDDEN_FLAGS.values():
        assert run(program, clone, architecture, flag | SIGCHLD) == EPERM
        assert run(program, clone, architecture, flag | THREAD) == EPERM
    assert run(program, clone, architecture, THREAD) == ALLOW


@pytest.mark.parametrize("machine", MACHINES)
def test_the_filter_refuses_every_call_of_another_architecture(machine):
    program = kernel._filter(MACHINES[machine], kernel._NUMBERS[machine])
    assert {run(program, number, OTHER_ARCHITECTURE) for number in range(500)} == {EPERM}


TRIED = """
import ctypes, errno, os, signal, sys, threading
from sandbox.processes import kernel
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(38, 1, 0, 0, 0)  # no new privileges, as in a container
kernel.perform([kernel.refuse_for_good()])
def refused(call, *arguments):
    ctypes.set_errno(0)
    return libc.syscall(call, *arguments) == -1 and ctypes.get_errno() == errno.EPERM
numbers = dict(kernel._NUMBERS[os.uname().machine])
clone = numbers.pop("clone")
for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
    assert refused(clone, ctypes.c_ulong(flag | signal.SIGCHLD), None, None, None, None), hex(flag)
for name, number in numbers.items():
    assert refused(number, 0, 0, 0, 0, 0), name
child = os.fork()
if child == 0: os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
thread = threading.Thread(target=lambda: None); thread.start(); thread.join()
print("held")
"""


@pytest.mark.skipif(platform.machine() not in MACHINES, reason="no cells on this machine")
def test_the_kernel_takes_the_filter_and_threads_and_forks_still_work():
    done = subprocess.run(
        [sys.executable, "-c", TRIED],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.returncode) == ("held\n", 0), done.stderr


def test_a_ready_frame_names_its_cell_and_that_of_a_container_none():
    (plain,) = FrameReader(4096).feed(protocol.encode(Ready(protocol=3, build="b")))
    (of_cell,) = FrameReader(4096).feed(protocol.encode(Ready(protocol=3, build="b", cell=7)))
    assert (plain.cell, of_cell.cell) == (0, 7)


@pytest.mark.parametrize("cell", ['"7"', "null", "true", "7.5", "[]"])
def test_a_ready_frame_with_another_kind_of_number_is_refused(cell):
    line = f'{{"type":"ready","protocol":3,"build":"b","cell":{cell}}}\n'.encode()
    with pytest.raises(protocol.ProtocolError):
        list(FrameReader(4096).feed(line))


def test_the_order_for_a_cell_comes_back():
    order = protocol.Cell(number=3, tmp_bytes=1, tmp_inodes=2, shm_bytes=4, shm_inodes=5)
    assert protocol.decode_cell(protocol.encode(order)) == order


def test_the_arguments_of_a_zygote_are_what_the_guest_takes():
    policy = Policy()
    options = parse([*zygote_arguments(policy, ("numpy", "scipy"), '{"backend": 1}')])
    assert options.zygote
    assert not options.session
    assert options.modules == ("numpy", "scipy")
    assert options.backend == '{"backend": 1}'
    in_proc = {each for each in policy.masked_paths if each.startswith("/proc/")}
    assert {*options.masked} == {*in_proc, "/sys/fs/cgroup"}
    assert {*options.readonly} == {
        each for each in policy.readonly_paths if each.startswith("/proc/")
    }


def test_what_a_zygotes_container_does_not_mask_its_cells_do():
    policy = Policy()
    of_zygote = policy.for_zygote()
    options = parse([*zygote_arguments(policy, (), "")])
    assert {*policy.masked_paths} <= {*of_zygote.masked_paths, *options.masked}
    assert {*policy.readonly_paths} <= {*of_zygote.readonly_paths, *options.readonly}
    assert not [each for each in of_zygote.masked_paths if each.startswith("/proc")]


def open_descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_process_that_ended_before_it_was_held_is_not_taken_for_the_cell():
    ours, theirs = socket.socketpair()
    with ours:
        theirs.close()
        before = open_descriptors()
        with pytest.raises(zygote.CellError, match="ended as soon as it was ready"):
            zygote._open(os.getpid(), ours)
        assert open_descriptors() == before


def test_a_process_that_still_holds_its_connection_is_the_one_that_has_connected():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        pid = zygote._peer(ours)
        assert pid == os.getpid()
        held = zygote._open(pid, ours)
        try:
            told = Path(f"/proc/self/fdinfo/{held}").read_text().splitlines()
            assert f"Pid:\t{pid}" in told
        finally:
            os.close(held)
