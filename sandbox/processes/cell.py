"""The place of one job: fresh namespaces around a fork of the zygote, and an init of its own.

`main` is called in a process that has just been cloned into new namespaces.  It builds the walls
that an engine builds around a container: file systems of its own, a masked `/proc`, no path to the
sockets of others, no capabilities, and no way to make namespaces.  Then it is what PID 1 is in a
container, and its worker runs the job.  Nothing of a program has run before that.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from sandbox.processes import guard, init, kernel, randomness, worker
from sandbox.processes.rehearsal import rehearse
from sandbox.stack.warmup import Warmth
from sandbox.wire import channel, protocol
from sandbox.wire.options import Options

_UNUSABLE: Final = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
_SEALED: Final = _UNUSABLE | kernel.MS_RDONLY
_TMP: Final = "/tmp"  # noqa: S108
_SHM: Final = "/dev/shm"  # noqa: S108

_ALL: Final = 1 << 20
"""Above the highest descriptor of a sandbox."""

_REST_S: Final = 0.05
"""How long a worker that is done waits for the host to end the cell, in seconds."""

SIGNALS: Final = 1024
"""Signals that may wait in one cell.  The zygote's own limit is for all of its cells together."""


@dataclass(frozen=True, slots=True)
class Walls:
    """What a cell hides of its own `/proc` and its surroundings: what there is of it here."""

    directories: tuple[str, ...]
    files: tuple[str, ...]
    readonly: tuple[str, ...]

    @classmethod
    def around(cls, options: Options) -> Walls:
        """Return those of the options that exist; looked up once, by the zygote."""
        there = [each for each in options.masked if os.path.lexists(each)]
        directories = tuple(filter(os.path.isdir, there))
        return cls(
            directories=directories,
            files=tuple(each for each in there if each not in directories),
            readonly=tuple(filter(os.path.lexists, options.readonly)),
        )


@dataclass(frozen=True, slots=True)
class Origin:
    """What a zygote gives to each of its cells."""

    uid: int
    gid: int
    options: Options
    walls: Walls
    warmth: Warmth
    renewals: Sequence[randomness.Renewal]
    resource: Any


def main(order: protocol.Cell, streams: Sequence[int], ready: bytes, origin: Origin) -> NoReturn:
    """Become the first process of a cell; never returns.

    It says `ready`, by which the host knows it, and its worker says so again when it is.

    Each page that is written to here is copied, so what can be computed by the zygote is.
    """
    for target, each in enumerate(streams):
        os.dup2(each, target)
    os.closerange(len(streams), _ALL)
    _map_ids(origin.uid, origin.gid)
    _build_file_systems(order, origin.walls)
    connection = channel.connected(origin.options.socket)
    os.write(connection, ready)
    _hide(origin)
    origin.resource.setrlimit(origin.resource.RLIMIT_SIGPENDING, (SIGNALS, SIGNALS))
    if os.read(connection, 1) != protocol.ENTERED:
        os._exit(0)  # nobody wants this cell any more
    # From here on its memory counts as the job's, and that of the worker from its beginning.
    kernel.hide_groups()
    kernel.drop_capabilities()
    kernel.refuse_for_good()
    guard.be_closed()

    def fork() -> int:
        if child := kernel.fork():
            os.close(connection)  # it ends with the worker
        return child

    def work(control: int, inbox: int) -> NoReturn:
        worker.leave_after(lambda: _work(connection, ready, control, inbox, origin))

    init.stand_guard(fork, work, [], origin.options)


def _work(connection: int, ready: bytes, control: int, inbox: int, origin: Origin) -> None:
    worker.be_first_to_die()
    # Here, since a state that the zygote made for one cell would stay in the memory of later ones.
    randomness.renew(origin.renewals)
    results, log = channel.take_output()
    messages = channel.FrameWriter(connection)
    outlet = channel.Channel(messages=messages, results=results, log=log)
    replies = channel.move_up(inbox)
    rehearse(outlet, origin.warmth)
    messages.write(ready)
    worker.take_request(outlet, origin.options, control, origin.warmth, replies=replies)
    # The kernel takes a process apart without a break, on a core that the host needs just now.
    time.sleep(_REST_S)


def _map_ids(uid: int, gid: int) -> None:
    """Keep the ids: inside, there are no others."""
    guard.be_open()  # else /proc/self belongs to root
    for name, content in (
        ("setgroups", "deny"),
        ("uid_map", f"{uid} {uid} 1"),
        ("gid_map", f"{gid} {gid} 1"),
    ):
        descriptor = os.open(f"/proc/self/{name}", os.O_WRONLY)
        os.write(descriptor, content.encode())
        os.close(descriptor)


def _build_file_systems(order: protocol.Cell, walls: Walls) -> None:
    kernel.mount("", "/", "", kernel.MS_PRIVATE | kernel.MS_REC)
    _mount_scratch(_TMP, order.tmp_bytes, order.tmp_inodes)
    _mount_scratch(_SHM, order.shm_bytes, order.shm_inodes)
    os.chdir(_TMP)
    kernel.mount("proc", "/proc", "proc", _UNUSABLE)
    for each in walls.files:
        kernel.mount("/dev/null", each, "", kernel.MS_BIND)
    for each in walls.readonly:
        kernel.mount(each, each, "", kernel.MS_BIND | kernel.MS_REC)
        kernel.mount("", each, "", kernel.MS_BIND | kernel.MS_REMOUNT | _SEALED)


def _mount_scratch(path: str, size: int, inodes: int) -> None:
    kernel.mount("tmpfs", path, "tmpfs", _UNUSABLE, f"mode=1777,size={size},nr_inodes={inodes}")


def _hide(origin: Origin) -> None:
    """Cover the way to the host's socket, and what is masked, with an empty directory."""
    empty = os.path.dirname(origin.options.socket)  # noqa: PTH120
    kernel.mount("tmpfs", empty, "tmpfs", _SEALED, "mode=555,size=4k,nr_inodes=1")
    for each in origin.walls.directories:
        kernel.mount(empty, each, "", kernel.MS_BIND)
