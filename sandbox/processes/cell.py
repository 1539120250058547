"""The place of one job: fresh namespaces around a fork of the zygote, and an init of its own.

`main` is called in a process that has just been cloned into new namespaces.  It builds the walls
that an engine builds around a container: file systems of its own, a masked `/proc`, no path to the
sockets of others, no capabilities, and no way to make namespaces.  Then it is what PID 1 is in a
container, and its worker runs the job.  Nothing of a program has run before that.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import stat
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

from sandbox.processes import confinement, init, kernel, randomness, worker
from sandbox.processes.kernel import Call
from sandbox.processes.rehearsal import rehearse
from sandbox.stack.warmup import Warmth
from sandbox.wire import channel, protocol
from sandbox.wire.options import Options

_UNUSABLE: Final = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
_SEALED: Final = _UNUSABLE | kernel.MS_RDONLY
_SEALED_DEVICE: Final = _SEALED & ~kernel.MS_NODEV
_DEV: Final = "/dev"
_TMP: Final = "/tmp"  # noqa: S108
_SHM: Final = "/dev/shm"  # noqa: S108

_ALL: Final = 1 << 20
"""Above the highest descriptor of a sandbox."""

_RLIMIT_SIGPENDING: Final = 11

_REST_S: Final = 0.05
"""How long a worker that is done waits for the host to end the cell, in seconds."""

SIGNALS: Final = 1024
"""Signals that may wait in one cell.  The zygote's own limit is for all of its cells together."""


@dataclass(frozen=True, slots=True)
class Walls:
    """The calls that build the walls of any cell of a zygote, in the order of their names here.

    `ids` map the user and the group, `files` are the file systems but for those that are the
    cell's own, `connection` leads to the host, `screens` hide the way to it, and `vows` give up
    what all of this took.
    """

    ids: Sequence[Call]
    files: Sequence[Call]
    connection: Sequence[Call]
    screens: Sequence[Call]
    vows: Sequence[Call]

    @classmethod
    def around(cls, options: Options) -> Walls:
        """Return the walls that these options describe; called once, by the zygote.

        Of the paths to mask and to make read-only, those count that exist here.  Cells share
        `/dev`, and each device that is mounted there, as rootless engines do with the host's:
        through their times one could leave words for another.
        """
        masked = [each for each in options.masked if os.path.lexists(each)]
        directories = [*filter(os.path.isdir, masked)]
        empty = os.path.dirname(options.socket)  # noqa: PTH120
        return cls(
            ids=_keep_ids(os.getuid(), os.getgid()),
            files=[
                kernel.call(f"enter {_TMP}", "chdir", _TMP.encode()),
                *(
                    kernel.mount("", each, "", kernel.MS_BIND | kernel.MS_REMOUNT | _SEALED_DEVICE)
                    for each, how in confinement.mounted().items()
                    if how.endswith(" rw") and (each == _DEV or _is_device(each))
                ),
                kernel.mount("proc", "/proc", "proc", _UNUSABLE),
                *(
                    kernel.mount("/dev/null", each, "", kernel.MS_BIND)
                    for each in masked
                    if each not in directories
                ),
                *itertools.chain(*map(_freeze, filter(os.path.lexists, options.readonly))),
            ],
            connection=kernel.connect(options.socket, channel.HIGH),
            screens=[
                kernel.mount("tmpfs", empty, "tmpfs", _SEALED, "mode=555,size=4k,nr_inodes=1"),
                *(kernel.mount(empty, each, "", kernel.MS_BIND) for each in directories),
            ],
            vows=[
                kernel.hide_groups(),
                kernel.limit(_RLIMIT_SIGPENDING, SIGNALS),
                *kernel.drop_capabilities(),
                kernel.refuse_for_good(),
                kernel.let_others_look(allowed=False),
            ],
        )

    def entrance(self, order: protocol.Cell, streams: Sequence[int], ready: bytes) -> list[Call]:
        """Return the calls with which a cell begins, up to its first word to the host."""
        return [
            *(kernel.call("take a stream", "dup2", each, at) for at, each in enumerate(streams)),
            kernel.call("close all others", "close_range", len(streams), _ALL, 0),
            *self.ids,
            kernel.mount("", "/", "", kernel.MS_PRIVATE | kernel.MS_REC),
            _scratch(_TMP, order.tmp_bytes, order.tmp_inodes),
            _scratch(_SHM, order.shm_bytes, order.shm_inodes),
            *self.files,
            *self.connection,
            kernel.call("say ready", "write", channel.HIGH, ready, ctypes.c_size_t(len(ready))),
        ]


def _is_device(path: str) -> bool:
    return path.startswith(f"{_DEV}/") and stat.S_ISCHR(os.stat(path).st_mode)  # noqa: PTH116


@dataclass(frozen=True, slots=True)
class Origin:
    """What a zygote gives to each of its cells."""

    options: Options
    walls: Walls
    warmth: Warmth
    renewals: Sequence[randomness.Renewal]


def main(entrance: Sequence[Call], ready: bytes, origin: Origin) -> NoReturn:
    """Become the first process of a cell; never returns.

    It says `ready`, by which the host knows it, and its worker says so again when it is.
    """
    kernel.perform(entrance)
    kernel.perform(origin.walls.screens)
    if os.read(channel.HIGH, 1) != protocol.ENTERED:
        os._exit(0)  # nobody wants this cell any more
    # From here on its memory counts as the job's, and that of the worker from its beginning.
    kernel.perform(origin.walls.vows)

    def fork() -> int:
        if child := kernel.fork():
            os.close(channel.HIGH)  # it ends with the worker
        return child

    def work(control: int, inbox: int) -> NoReturn:
        worker.leave_after(lambda: _work(ready, control, inbox, origin))

    init.stand_guard(fork, work, [], origin.options)


def _work(ready: bytes, control: int, inbox: int, origin: Origin) -> None:
    worker.be_first_to_die()
    # Here, since a state that the zygote made for one cell would stay in the memory of later ones.
    randomness.renew(origin.renewals)
    results, log = channel.take_output()
    messages = channel.FrameWriter(channel.HIGH)
    outlet = channel.Channel(messages=messages, results=results, log=log)
    replies = channel.move_up(inbox)
    rehearse(outlet, origin.warmth)
    messages.write(ready)
    worker.take_request(outlet, origin.options, control, origin.warmth, replies=replies)
    # The kernel takes a process apart without a break, on a core that the host needs just now.
    time.sleep(_REST_S)


def _keep_ids(uid: int, gid: int) -> list[Call]:
    """Return the calls that keep the ids: inside, there are no others."""
    return [
        kernel.let_others_look(allowed=True),  # else /proc/self belongs to root
        *kernel.write_file("/proc/self/setgroups", "deny"),
        *kernel.write_file("/proc/self/uid_map", f"{uid} {uid} 1"),
        *kernel.write_file("/proc/self/gid_map", f"{gid} {gid} 1"),
    ]


def _freeze(path: str) -> list[Call]:
    return [
        kernel.mount(path, path, "", kernel.MS_BIND | kernel.MS_REC),
        kernel.mount("", path, "", kernel.MS_BIND | kernel.MS_REMOUNT | _SEALED),
    ]


def _scratch(path: str, size: int, inodes: int) -> Call:
    options = f"mode=1777,size={size},nr_inodes={inodes}"
    return kernel.mount("tmpfs", path, "tmpfs", _UNUSABLE, options)
