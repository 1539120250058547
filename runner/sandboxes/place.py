"""The place where one job runs, as its execution sees it: streams, start, stop, end and cost.

A `Place` is used for one job by one thread, and never blocks it: `watch` registers what to wait
for, and `exchange` handles what has become ready.  The place alone knows whose descriptors these
are, and how a job is stopped and its cost counted.  `Container` is a sandbox that is used once;
`runner.sandboxes.turn` is one job's turn in a sandbox that outlives the job.
"""

from __future__ import annotations

import itertools
import operator
import secrets
import selectors
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final, Protocol, TypeAlias

from runner.engine import Engine, attachment
from runner.errors import EngineError, NoSuchObjectError
from runner.job.record import Usage
from runner.job.request import Request, frame
from runner.policy.isolation import Isolation
from runner.sandboxes.cgroup import Counters
from runner.sandboxes.launcher import Sandbox
from runner.sandboxes.spec import Carrier
from sandbox.wire import protocol
from sandbox.wire.protocol import Order

SINGLE_USE_JOB: Final = 0
"""The job number that every frame of a single-use sandbox carries."""

_RECEIVE_BYTES: Final = 1 << 16
"""Small messages of this size take 10 ms to process; only then is the deadline looked at again."""
_EXIT_S: Final = 5.0
"""How long the engine may take to report the end of a container after its streams, in seconds."""


class Stream(Enum):
    """The streams of a job: frames of results, its log, and interim messages."""

    RESULTS = "results"
    LOG = "log"
    MESSAGES = "messages"


EVERYTHING: Final = frozenset(Stream)

Piece: TypeAlias = tuple[Stream, bytes]
"""Bytes of a stream; empty bytes mean its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The cost of a job: the kernel's counters, from `source`, as differences for this job alone.

    `usage` holds the figures of the job's usage that the place knows, with their sources.
    """

    counters: Counters
    source: str
    usage: Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Why a place ended without a report of its first process.

    `exit_code` is set only if the sandbox ended as a whole, which its program may have caused.
    """

    detail: str
    exit_code: int | None = None
    out_of_memory: bool = False


class Place(Protocol):
    """The place where one job runs; see the module's docstring."""

    number: int
    """The value of `job` in the job's frames."""

    log_end: str
    """The mark that the guest writes after the job's log."""

    outlives_job: bool
    """True if another job may follow: then `stop` ends this job, and `exit_status` confirms it."""

    exit_status: int | None
    """How the job's process ended, once nothing is left of it; None before, or if unknown."""

    first_process: str
    """Description of the process whose end PID 1 reports."""

    @property
    def has_ended(self) -> bool:
        """Return True if the place has ended, and its streams with it."""

    @property
    def carrier(self) -> Carrier:
        """The carrier of messages: a socket of their own, or the stream of results."""

    @property
    def isolation(self) -> Isolation:
        """The isolation between the job and the host."""

    @property
    def unsent_bytes(self) -> int:
        """Bytes that the guest has not taken yet."""

    def begin(self, request: Request) -> None:
        """Tell the guest to begin; the guest's clock starts when it reads that."""

    def stop(self) -> None:
        """Tell the guest to end the job; the place itself goes on."""

    def tell(self, *orders: Order) -> None:
        """Queue these orders, to be sent in order as soon as there is room."""

    def watch(self, selector: selectors.BaseSelector, wanted: Collection[Stream]) -> None:
        """Register what to wait for: room for unsent data, and input on these streams."""

    def exchange(self, source: Any, events: int) -> list[Piece]:
        """Send to and read from a source that `watch` registered and that is ready; never blocks.

        Raises EngineError, or ProtocolError for data that no stream of a job can contain.
        """

    def account(self) -> Account:
        """Return the cost of the job until now."""

    def loss(self) -> Loss:
        """Find out why the place has ended; may take a few seconds."""

    def answers(self, timeout_s: float) -> bool:
        """Return True if the carrier of the streams works, so that silence is the job's own."""


class Outgoing:
    """The bytes for a guest that it has not taken yet; its length is their number."""

    def __init__(self) -> None:
        self._left = memoryview(b"")

    def __len__(self) -> int:
        return len(self._left)

    def add(self, said: bytes) -> None:
        """Put bytes behind what there is."""
        self._left = memoryview(bytes(self._left) + said if self._left else said)

    def send(self, write: Callable[[memoryview], int]) -> None:
        """Write what fits, and drop everything if the guest is gone: its streams end by that."""
        try:
            self._left = self._left[write(self._left) :]
        except BlockingIOError:
            return
        except (EngineError, OSError):
            self._left = memoryview(b"")


class Container:
    """A complete sandbox, used for one job.  Destroying the sandbox ends it."""

    first_process = "the program's process"
    outlives_job = False

    def __init__(self, engine: Engine, sandbox: Sandbox) -> None:
        self.number = SINGLE_USE_JOB
        self.log_end = new_log_end()
        self.exit_status: int | None = None
        self._has_ended = False
        self._engine = engine
        self._sandbox = sandbox
        self._outgoing = Outgoing()
        self._messages_ended = sandbox.connection is None

    @property
    def has_ended(self) -> bool:
        return self._has_ended

    @property
    def carrier(self) -> Carrier:
        return self._sandbox.carrier

    @property
    def isolation(self) -> Isolation:
        return self._sandbox.spec.policy.isolation

    @property
    def unsent_bytes(self) -> int:
        return len(self._outgoing)

    def begin(self, request: Request) -> None:
        self._outgoing.add(frame(request, self.number, log_end=self.log_end))

    def stop(self) -> None:
        self.tell(protocol.Stop(job=self.number))

    def tell(self, *orders: Order) -> None:
        self._outgoing.add(b"".join(map(protocol.encode, orders)))

    # --- streams --------------------------------------------------------------------------------

    def watch(self, selector: selectors.BaseSelector, wanted: Collection[Stream]) -> None:
        reads = Stream.LOG in wanted or Stream.RESULTS in wanted
        events = selectors.EVENT_READ if reads and not self._has_ended else 0
        if self._outgoing:
            events |= selectors.EVENT_WRITE
        set_events(selector, self._sandbox.attachment, events)
        reads = Stream.MESSAGES in wanted and not self._messages_ended
        set_events(selector, self._sandbox.connection, selectors.EVENT_READ if reads else 0)

    def exchange(self, source: Any, events: int) -> list[Piece]:
        if source is not self._sandbox.attachment:
            return self._read_messages()
        if events & selectors.EVENT_WRITE:
            assert self._sandbox.attachment is not None
            self._outgoing.send(self._sandbox.attachment.send)
        return self._read_streams() if events & selectors.EVENT_READ else []

    def _read_streams(self) -> list[Piece]:
        assert self._sandbox.attachment is not None
        pieces = self._sandbox.attachment.receive()
        if pieces is None:
            self._has_ended = True
            return []
        # A program may write byte by byte, and the engine frames each write.
        found = []
        for stream, group in itertools.groupby(pieces, key=operator.itemgetter(0)):
            is_log = stream is attachment.Stream.STDERR
            data = b"".join(piece for _, piece in group)
            found.append((Stream.LOG if is_log else Stream.RESULTS, data))
        return found

    def _read_messages(self) -> list[Piece]:
        connection = self._sandbox.connection
        assert connection is not None
        try:
            data = connection.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return []
        except ConnectionError:
            data = b""
        self._messages_ended = not data
        return [(Stream.MESSAGES, data)]

    # --- its cost, and why it has ended -----------------------------------------------------------

    def account(self) -> Account:
        group = self._sandbox.cgroup
        if group is None:
            missing = "the engine's control groups cannot be read from this host"
            return Account(counters=Counters(), source="", usage=usage_of(Counters(), "", missing))
        counters = group.read()
        missing = "the kernel counts this only in the container's own group, which is gone"
        usage = usage_of(counters, "cgroup", missing)
        if usage.cpu_s is not None:
            usage = replace(usage, cpu_s=max(0.0, usage.cpu_s - self._sandbox.spent_s))
        return Account(counters=counters, source="cgroup", usage=usage)

    def loss(self) -> Loss:
        container = self._sandbox.container
        assert container is not None
        try:
            self._engine.wait(container, timeout_s=_EXIT_S)
            state = self._engine.inspect(container)
        except NoSuchObjectError:
            return Loss(detail="the container was removed from outside while the job ran")
        except EngineError as error:
            return Loss(detail=f"the engine was lost while the job ran: {error}")
        code = state.exit_code
        if state.oom_killed or self.isolation.program_can_end_sandbox:
            how = f"the sandbox ended as a whole (exit code {code}), its first process with it"
            return Loss(detail=how, exit_code=code, out_of_memory=state.oom_killed)
        # As far as we know nothing inside can end PID 1, but nothing says what did.
        how = f"exit code {code}" + (f", {state.error}" if state.error else "")
        return Loss(detail=f"the sandbox was stopped from outside, as far as can be told ({how})")

    def answers(self, timeout_s: float) -> bool:
        return self._engine.is_responsive(timeout_s=timeout_s)


def new_log_end() -> str:
    """Return a mark for the end of a log that no program can guess."""
    return f"\x1e{secrets.token_hex(8)}\n"


def set_events(selector: selectors.BaseSelector, source: Any, events: int) -> None:
    """Make the selector wait for exactly these events of a source; does nothing for None."""
    if source is None:
        return
    key = selector.get_map().get(source)
    if key is None:
        if events:
            selector.register(source, events)
    elif not events:
        selector.unregister(source)
    elif key.events != events:
        selector.modify(source, events)


def usage_of(counters: Counters, source: str, missing: str) -> Usage:
    """Return the usage in these counters, with their source, or `missing` where there is none."""
    measured = {
        "cpu_s": counters.cpu_s,
        "memory_peak_bytes": counters.memory_peak_bytes,
        "oom_kills": counters.oom_kills,
    }
    sources = {name: missing if value is None else source for name, value in measured.items()}
    return Usage(
        cpu_s=counters.cpu_s,
        memory_peak_bytes=counters.memory_peak_bytes,
        oom_kills=counters.oom_kills,
        sources=sources,
    )


def overlap(data: bytes, mark: bytes) -> int:
    """Return how many bytes at the end of `data` may be the beginning of `mark`."""
    start = data.rfind(mark[:1], max(0, len(data) - len(mark) + 1))
    return len(data) - start if start >= 0 and mark.startswith(data[start:]) else 0
