"""The part on a node: one job run by an ordinary `Supervisor`, its events as lines of JSON.

An engine passes on `NodeJob.batches`.  The supervisor's own thread owns sandbox, deadline and
cancellation, and waits for no consumer.  A second thread reads the job's events into a bounded
buffer. If the buffer is not emptied, the sandbox's channel is no longer read, but the time limit
keeps running.

As a process (`python -m runner.nodes.node`) it reads the specification from stdin, which is also
its lifeline: the job is cancelled at the end of stdin, or at a line that says `cancel`.  Other
lines are what the caller's held backend has answered.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Generator, Iterator
from typing import Final

from runner.engine import Engine
from runner.errors import RunnerError
from runner.images.transfer import missing_base
from runner.job import Job
from runner.job.record import Event, MessageEvent
from runner.nodes.held import DistantDevice
from runner.sandboxes.sweep import Janitor
from runner.sites.cluster import HEARTBEAT_S, identity, longest_s, node_name
from runner.sites.wire import (
    MAX_LINE_BYTES,
    Asked,
    End,
    Ended,
    Finished,
    Heartbeat,
    Hello,
    JobSpec,
    WireError,
    is_held,
    line_of,
    reply_of,
    version_of,
)
from runner.supervisor import Supervisor

log = logging.getLogger(__name__)

MAX_BATCH: Final = 64
MAX_BATCH_BYTES: Final = 1 << 20

_BUFFERED: Final = 256
_CLOSE_S: Final = 10.0
_POLL_S: Final = 0.1

_supervisors: Final[dict[tuple[object, ...], tuple[Supervisor, Engine]]] = {}
_supervisors_lock: Final = threading.Lock()
_watchers: Final[list[Janitor]] = []


class _UnfitError(RunnerError):
    """This node cannot run any job of this caller."""


class NodeJob:
    """One attempt of one job on this node.  Used once; any thread may call `cancel`."""

    def __init__(self, line: bytes, name: str | None = None) -> None:
        self._line = line
        self._name = name or node_name()
        self._queue: queue.Queue[Event | Asked | Finished | Ended] = queue.Queue(_BUFFERED)
        self._device = DistantDevice(self._ask)
        self._passed = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._job: Job | None = None
        self._cancelled = False
        self._overdue_at = math.inf
        self._abandoned = threading.Event()

    def batches(self) -> Generator[bytes, None, None]:
        """Yield whole lines until the last, `finished` or `ended`; a heartbeat when there are none.

        A consumer that stops early must `close` the iterator, which removes the sandbox.
        """
        yield line_of(Hello(node=self._name, version=identity()))
        thread = threading.Thread(target=self._work, name="qrunner-node", daemon=True)
        thread.start()
        try:
            is_over = False
            while not is_over:
                batch = self._batch()
                if not batch and time.monotonic() > self._overdue_at:
                    # Otherwise a node part whose job never ends would send heartbeats for ever.
                    batch = [Ended(how=End.LOST, reason="its supervisor does not end the job")]
                is_over = bool(batch) and isinstance(batch[-1], Finished | Ended)
                yield b"".join(map(line_of, batch)) or line_of(Heartbeat())
                for each in batch:
                    if isinstance(each, MessageEvent):
                        self._passed.release()
        finally:
            self._abandon()
            thread.join(_CLOSE_S)

    def obey(self, line: bytes) -> None:
        """Do what a line of the caller says: pass an answer on, or cancel."""
        try:
            reply = reply_of(line)
        except WireError:
            reply = None  # no caller of this version sends such a line
        if reply is None:
            self.cancel()
        else:
            self._device.answer(*reply)

    def cancel(self) -> None:
        """Request the end, which `batches` then reports."""
        with self._lock:
            self._cancelled = True
            job = self._job
        if job is not None:
            job.cancel()

    def _batch(self) -> list[Event | Asked | Finished | Ended]:
        """Return the events present, at least one unless none arrive for a heartbeat's interval."""
        deadline = time.monotonic() + HEARTBEAT_S
        found: list[Event | Asked | Finished | Ended] = []
        while not found and time.monotonic() < deadline:
            # In short waits, so that an exception raised from outside is handled between them.
            with contextlib.suppress(queue.Empty):
                found.append(self._queue.get(timeout=_POLL_S))
        size = 0
        with contextlib.suppress(queue.Empty):
            while found and len(found) < MAX_BATCH and size < MAX_BATCH_BYTES:
                found.append(each := self._queue.get_nowait())
                size += len(each.body) if isinstance(each, MessageEvent | Asked) else 0
        return found

    def _abandon(self) -> None:
        self._abandoned.set()
        self._passed.release()
        self.cancel()

    # --- in a thread of its own -----------------------------------------------------------------

    def _work(self) -> None:
        try:
            last = self._run()
        except _UnfitError as error:
            last = Ended(how=End.REFUSED, reason=f"node {self._name} {error}")
        except (RunnerError, WireError) as error:
            last = Ended(how=End.REFUSED, reason=f"node {self._name} refuses the job: {error}")
        except Exception as error:
            log.exception("the node part failed")
            reason = f"node {self._name}: {type(error).__name__}: {error}"
            last = Ended(how=End.REFUSED, reason=reason)
        self._put(last)

    def _run(self) -> Finished | Ended:
        asked = version_of(self._line)
        if asked != identity():
            msg = (
                f"has qiskit-program-runner {identity()}, the caller {asked}: they must be the same"
            )
            raise _UnfitError(msg)
        spec = JobSpec.from_line(self._line)
        self._overdue_at = time.monotonic() + longest_s(spec.request)
        supervisor = _supervisor_for(spec)
        device = self._device if is_held(spec.request) else None
        job = supervisor.accept(spec.program, spec.request, callback=self._pace, device=device)
        with self._lock:
            self._job = job
            cancelled = self._cancelled
        if cancelled:
            job.cancel()
        for event in job.events():
            self._put(event)
        return Finished(record=job.wait())

    def _pace(self, _job_id: str, _message: object) -> None:
        """Act as a callback at the consumer's pace; if that is too slow, `publish` waits."""
        while not self._passed.acquire(timeout=1.0):
            if self._abandoned.is_set():
                break

    def _ask(self, asked: Asked) -> None:
        """Pass a call on; the job's thread must not wait for the caller.

        There are at most `MAX_CALLS` without an answer, so this thread ends.
        """
        threading.Thread(target=self._put, args=(asked,), name="qrunner-asked", daemon=True).start()

    def _put(self, event: Event | Asked | Finished | Ended) -> None:
        while not self._abandoned.is_set():
            with contextlib.suppress(queue.Full):
                self._queue.put(event, timeout=_POLL_S)
                return


def _supervisor_for(spec: JobSpec) -> Supervisor:
    """Return this process's supervisor with the policy of the job."""
    key = (spec.isolation, spec.allow_missing)
    with _supervisors_lock:
        if key not in _supervisors:
            engine = Engine.connect()
            if missing := missing_base(engine):
                engine.close()
                msg = (
                    f"has no base image {missing}: run `qrunner build --base` there, or "
                    "`qrunner build --load FILE` with what `--save FILE` wrote elsewhere"
                )
                raise _UnfitError(msg)
            supervisor = Supervisor(policy=spec.policy, progress=_progress, engine=engine)
            _supervisors[key] = (supervisor, engine)
        return _supervisors[key][0]


def _progress(line: str) -> None:
    log.warning("node %s: %s", node_name(), line)


def outlive() -> None:
    """Ensure a sweep after this process even where its children are killed with it, as by Ray."""
    with _supervisors_lock:
        if not _watchers:
            _watchers.append(Janitor(orphaned=True))


def close_supervisors() -> None:
    """Close this process's supervisors, which ends their jobs and cleans up."""
    with _supervisors_lock:
        while _supervisors:
            supervisor, engine = _supervisors.popitem()[1]
            supervisor.close()
            engine.close()


# --- as a process -------------------------------------------------------------------------------


def main() -> int:
    """Run the job specified on stdin; write its events to stdout.  Ignore the exit code."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    # Output of a library must never mix with our lines.
    outlet = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    lines = _lines(sys.stdin.fileno())
    node = NodeJob(next(lines, b""))
    signal.signal(signal.SIGTERM, lambda *_: node.cancel())
    signal.signal(signal.SIGINT, lambda *_: node.cancel())
    threading.Thread(target=_obey, args=(lines, node), name="qrunner-stdin", daemon=True).start()
    try:
        with contextlib.closing(node.batches()) as batches:
            for batch in batches:
                _write(outlet, batch)
    except BrokenPipeError:
        log.warning("the caller has gone: the job is cancelled")
    finally:
        close_supervisors()
    return 0


def _obey(lines: Iterator[bytes], node: NodeJob) -> None:
    """Do what further lines say; cancel at the end of stdin, when the job is no longer wanted."""
    for line in lines:
        node.obey(line)
    node.cancel()


def _lines(descriptor: int) -> Iterator[bytes]:
    """Yield whole lines; drops lines that are too long, and an incomplete last one."""
    unfinished = bytearray()
    while (data := os.read(descriptor, 1 << 20)) and len(unfinished) < MAX_LINE_BYTES:
        first, *others = data.split(b"\n")
        unfinished += first
        for other in others:
            yield bytes(unfinished)
            unfinished = bytearray(other)


def _write(descriptor: int, data: bytes) -> None:
    """Write all of the data: a signal may cut any single write short."""
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


if __name__ == "__main__":
    sys.exit(main())
