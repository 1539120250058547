"""The second process of a sandbox: it prepares, reads the request, runs the program, and exits."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, Final, NoReturn

from sandbox import DIRECTORY
from sandbox.processes import confinement, guard
from sandbox.program import faults
from sandbox.program.caller import Caller
from sandbox.program.job import Job
from sandbox.program.messenger import Outbox
from sandbox.stack.warmup import Warmth, warm_up
from sandbox.wire import channel, protocol
from sandbox.wire.options import Options

DEFAULT_WALL_S: Final = 300.0
FLUSH_S: Final = 1.0
"""How long a program's own streams may take to flush before they are abandoned, in seconds."""

OUR_FAULT: Final = 70
"""Exit code for an error of the guest itself; its traceback is in the log."""

_TEXT, _BUFFER, _RAW = io.TextIOWrapper, io.BufferedWriter, io.FileIO
_OWN: Final = {"mode", "name"}
"""The attributes that the interpreter gives to its streams."""

_BUILD_FILE: Final = os.path.join(os.path.dirname(DIRECTORY), "BUILD")  # noqa: PTH118, PTH120


def main(options: Options, control: int, inbox: int) -> NoReturn:
    """Run one job and exit; `control` is the pipe to PID 1, `inbox` the one from it."""
    leave_after(lambda: _work(options, control, inbox))


def leave_after(work: Callable[[], None]) -> NoReturn:
    """Do the work and end this process; an error of the guest goes to the log."""
    status = OUR_FAULT
    try:
        work()
        status = 0
    except BaseException:  # noqa: BLE001 (nothing may return into the code that forked us)
        with contextlib.suppress(BaseException):
            os.write(2, traceback.format_exc().encode("utf-8", "backslashreplace"))
    finally:
        os._exit(status)


def _work(options: Options, control: int, inbox: int) -> None:
    be_first_to_die()
    outlet = channel.open_channel(options)
    replies = channel.move_up(inbox)
    warmth = warm_up(options.modules) if options.warm else Warmth()
    say_ready(outlet, options)
    take_request(outlet, options, control, warmth, replies=replies)


def take_request(
    outlet: channel.Channel, options: Options, control: int, warmth: Warmth, *, replies: int
) -> None:
    """Wait for the request, leave the host's stream to PID 1, and run the job."""
    outbox = Outbox(outlet)
    request = channel.read_run_line()
    if request is None:
        return
    line, rest = request
    run = protocol.decode_run(line)
    del request, line
    wall_s = run.limits.get("wall_s", DEFAULT_WALL_S)
    # From here on, only PID 1 holds the host's stream.
    os.write(control, protocol.encode(protocol.Next(job=run.job, wall_s=wall_s, token="")) + rest)
    os.close(control)
    perform(outlet, outbox, run, options, warmth, replies=replies)


def say_ready(outlet: channel.Channel, options: Options) -> None:
    """Tell the host that it may send a request, and how this process is confined."""
    seen = confinement.describe(options.covered, options.ulimits)
    outlet.messages.write(protocol.encode(ready(seen=seen)))


def ready(*, cell: int = 0, seen: str = "") -> protocol.Ready:
    """Return the frame that says so; `cell` is the number of the cell, 0 for a container."""
    version = protocol.PROTOCOL_VERSION
    return protocol.Ready(protocol=version, build=_read_build(), seen=seen, cell=cell)


def perform(
    outlet: channel.Channel,
    outbox: Outbox,
    run: protocol.Run,
    options: Options,
    warmth: Warmth,
    *,
    replies: int,
) -> None:
    """Run one job, from its request to its last frame; `replies` is where calls are answered."""
    ours = (sys.stdout, sys.stderr)
    outbox.begin(run.job, run.limits)
    caller = Caller(outbox, replies)
    send_last_frame = Job(run, outbox, caller, options.program, warmth).execute()
    conclude(outlet, run.log_end, ours, send_last_frame)


def conclude(
    outlet: channel.Channel, log_end: str, ours: tuple[Any, Any], send: Callable[[], object]
) -> None:
    """Complete the log, and then `send` the last frame; `ours` are the streams of before."""
    # The log first: once the host has the last frame, it need not wait for anything else.
    theirs = (getattr(sys, "stdout", None), getattr(sys, "stderr", None))
    # Ours are flushed before the program's, whose flush may never end, and again after them, since
    # that flush may write to ours.
    are_ours = theirs[0] is ours[0] and theirs[1] is ours[1]  # theirs may answer `==` in any way
    streams = [*ours] if are_ours else [*ours, *theirs, *ours]
    if all(_is_plain(each, outlet.log) for each in streams):
        _flush(streams)
    else:
        faults.within(FLUSH_S, lambda: _flush(streams), None)
    with contextlib.suppress(OSError):  # the program may have closed everything
        outlet.end_log(log_end)
    send()


def _is_plain(stream: Any, log: int) -> bool:
    """Return True if flushing it runs only the interpreter's code, and waits only for the host.

    Nearly every program leaves such streams, which then need no thread.
    """
    try:
        buffer = getattr(stream, "buffer", None) if type(stream) is _TEXT else None
        raw = getattr(buffer, "raw", None) if type(buffer) is _BUFFER else None
        if type(raw) is not _RAW or any(vars(each).keys() - _OWN for each in (stream, buffer, raw)):
            return False
        return os.path.samestat(os.fstat(raw.fileno()), os.fstat(log))
    except (OSError, ValueError):  # the stream is closed, or without its buffer
        return False


def _flush(streams: list[Any]) -> None:
    for stream in streams:
        with contextlib.suppress(BaseException):  # the program may have put any object there
            stream.flush()
    guard.libc.fflush(None)


def be_first_to_die() -> None:
    """Offer this process to the OOM killer, so that PID 1 survives to report."""
    with contextlib.suppress(OSError):
        file = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
        try:
            os.write(file, b"1000")
        finally:
            os.close(file)


@functools.cache
def _read_build() -> str:
    """Return the digest of the guest's code with which the image was built."""
    try:
        with open(_BUILD_FILE, encoding="utf-8") as file:  # noqa: PTH123
            return file.read().strip()
    except OSError:
        return "unbuilt"
