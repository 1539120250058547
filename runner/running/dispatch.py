"""From a queued job to its verdict: find or start its sandbox, execute, clean up.

`Dispatcher` works in the threads of `Workers`.  Its seam is `acquire`: whoever wants a sandbox, for
one job or for a session of many, gets one there, and gives it back with `release`, whatever has
happened.  It knows no callers and delivers nothing; a `Supervisor` submits to it.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import threading
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Final, Protocol

from runner.host.interrupt import CancelledError, Interrupt, Waker, check
from runner.host.trace import Trace
from runner.images import ImageStore, build_id
from runner.policy import Limits, Policy
from runner.policy.isolation import Isolation
from runner.programs import Program
from runner.programs.imports import modules
from runner.running.execution import Execution, Verdict
from runner.running.holdings import Holdings
from runner.running.task import Task
from runner.sandboxes import cgroup
from runner.sandboxes.launcher import ImageGoneError, Sandbox
from runner.sandboxes.place import Container
from runner.sandboxes.pool import Pool, Warm
from runner.sandboxes.spec import Carrier, Mode, SandboxSpec
from runner.sandboxes.starts import Starts
from runner.sandboxes.sweep import sweep
from sandbox.wire import protocol

log = logging.getLogger(__name__)

_ARGUMENT_BYTES: Final = 1 << 16
"""The longest of a guest's arguments; the kernel takes twice as much."""

IDLE_SHARE: Final = 0.25
"""Of the machine's memory, what sandboxes may use that wait for jobs."""


class Claim(Protocol):
    """Who wants a sandbox: what for, how to interrupt the wait, and where to put it.

    `acquire` sets `policy`, and calls `hold` with a sandbox before it is started, so that it is
    known to whoever looks meanwhile, and with None when it is given back.  The thread that calls
    `acquire` does so inside the scope of `interrupt`, with `waker` open.
    """

    policy: Policy
    image: str | None
    """The one to use if it is not the program's own; `acquire` sets it to None if it is gone."""

    @property
    def program(self) -> Program: ...
    @property
    def request(self) -> protocol.Run: ...
    @property
    def limits(self) -> Limits: ...
    @property
    def mode(self) -> Mode: ...
    @property
    def interrupt(self) -> Interrupt: ...
    @property
    def waker(self) -> Waker: ...
    @property
    def sandbox(self) -> Sandbox | None: ...
    @property
    def trace(self) -> Trace: ...
    def hold(self, sandbox: Sandbox | None) -> None: ...


class Dispatcher:
    """Executes jobs for one supervisor; its methods are called by any number of threads."""

    def __init__(
        self, holdings: Holdings, images: ImageStore, policy: Policy, carrier: Carrier | None
    ) -> None:
        self._holdings = holdings
        self._engine = holdings.engine
        self._images = images
        self._policy = policy
        self._carrier = carrier
        self._build = build_id()
        self._starts = Starts()
        self._preparing = threading.Lock()
        self._is_prepared = False
        self._facts: Mapping[str, Any] = {}
        self._rootful = True
        self._own_cgroup = False

    # --- one job ------------------------------------------------------------------------------

    def work(
        self,
        task: Task,
        execute: Callable[[Task], Verdict] | None = None,
        release: Callable[[Task], None] | None = None,
    ) -> None:
        """Execute one job; whatever happens, it ends with a record and nothing is left.

        A session brings its own ways to execute it, and to release the sandbox.
        """
        task.job.trace.mark("queue")
        try:
            task.perform(execute or self._execute)
            task.job.trace.mark("record")
        finally:
            try:
                (release or self.release)(task)
            finally:
                task.waker.close()
                task.job.trace.mark("clean-up")

    def _execute(self, task: Task) -> Verdict:
        with task.interrupt.scope():
            check()
            task.waker.open()
            sandbox = self.acquire(task)
        if not task.job.start():
            raise CancelledError
        place = Container(self._engine, sandbox)
        return Execution(place, task.job, task.limits, task.waker).run(task.request)

    # --- sandboxes ----------------------------------------------------------------------------

    def acquire(self, claim: Claim) -> Sandbox:
        """Return a sandbox that is ready for its first request, and that `claim` holds.

        Raises RunnerError (CancelledError among them) or OSError; what there is by then is for
        `release` to take away, which is always called afterwards.
        """
        self._prepare()
        claim.policy = self._policy_for(claim.program)
        takes_any = claim.mode is not Mode.SESSION and claim.image is None
        if takes_any and self._holdings.pool is not None:
            waiting = self._holdings.pool.take(claim.program, claim.limits)
            if waiting is not None:
                claim.hold(waiting)
                claim.trace.mark("take")
                return waiting
        try:
            return self._start(claim)
        except ImageGoneError as error:
            log.warning("building an image again that is gone: %s", error)
            self.release(claim)
            claim.image = None
            return self._start(claim)

    def release(self, claim: Claim) -> None:
        """Remove the sandbox of a claim, now or as soon as the engine lets go of it."""
        sandbox = claim.sandbox
        claim.hold(None)
        if sandbox is not None:
            if sandbox.spec.mode is Mode.WARM and self._holdings.pool is not None:
                self._holdings.pool.job_over()
            self.discard(sandbox)

    def _start(self, claim: Claim) -> Sandbox:
        spec = self._spec(claim.program, claim.limits, claim.policy, claim.mode, claim.image)
        if claim.mode is Mode.SESSION:
            spec = dataclasses.replace(spec, backend=_expected(claim.request))
        claim.trace.mark("image")
        sandbox = Sandbox(self._engine, spec, claim.trace)
        claim.hold(sandbox)
        self._bring_up(sandbox, claim.waker, urgent=True)
        return sandbox

    def _spec(
        self,
        program: Program,
        limits: Limits,
        policy: Policy,
        mode: Mode,
        image: str | None = None,
    ) -> SandboxSpec:
        return SandboxSpec(
            image=image or self._images.program(program.files, program.name, program.pins).id,
            build=self._build,
            policy=policy,
            limits=limits.for_container(),
            rootful=self._rootful,
            own_cgroup=self._own_cgroup,
            carrier=self._carrier_now(),
            owner=self._holdings.owner,
            mode=mode,
            modules=() if mode is Mode.COLD else modules(program.files, program.manifest.entry),
        )

    def _bring_up(self, sandbox: Sandbox, waker: Waker, *, urgent: bool) -> None:
        with self._starts.slot(urgent=urgent):
            sandbox.start()
            sandbox.wait_ready(waker)
        if sandbox.spec.mode is Mode.WARM:
            sandbox.close_accounts()
        # The first sandbox was the probe: what carried its `ready` carries the later ones.
        self._carrier = self._carrier or sandbox.carrier

    # --- for the pool -------------------------------------------------------------------------

    def stock(self, program: Program, limits: Limits, size: Warm) -> None:
        """Keep sandboxes of this program waiting from now on."""
        if self._holdings.pool is None:
            self._holdings.pool = Pool(self)
        self._holdings.pool.stock(program, limits, size)

    def key(self, program: Program, limits: Limits) -> Hashable:
        """Return what two jobs have in common that can use the same sandbox."""
        digest = self._images.program_digest(program.files, program.pins)
        return digest, program.manifest.isolation, limits.for_container()

    def launch(self, program: Program, limits: Limits, waker: Waker) -> Sandbox:
        """Return a sandbox that has warmed up and waits; what fails is cleaned up here."""
        self._prepare()
        policy = self._policy_for(program)
        sandbox = Sandbox(self._engine, self._spec(program, limits, policy, Mode.WARM))
        try:
            self._bring_up(sandbox, waker, urgent=False)
        except BaseException:
            self.discard(sandbox)
            raise
        return sandbox

    def has_image(self, program: Program) -> bool:
        """Return whether the engine still has the program's image."""
        return self._images.has(program.files, program.name, program.pins)

    def discard(self, sandbox: Sandbox) -> None:
        """Remove a sandbox, now or as soon as the engine lets go of it."""
        if not sandbox.destroy():
            self._holdings.reaper.add(sandbox)

    def leave_to_reaper(self, sandbox: Sandbox) -> None:
        """Remove a sandbox in a thread that is there for it, where this one must not wait."""
        self._holdings.reaper.add(sandbox)

    def idle_memory_bytes(self) -> int:
        """Return what all waiting sandboxes may use together; 0 while that is not known."""
        return int(self._facts.get("MemTotal", 0) * IDLE_SHARE)

    def _carrier_now(self) -> Carrier:
        return self._carrier or (Carrier.SOCKET if self._engine.is_local else Carrier.STDIO)

    def _policy_for(self, program: Program) -> Policy:
        """Return the policy, with the stronger isolation if the program asks for one."""
        if program.manifest.isolation in {None, Isolation.RUNC, self._policy.isolation}:
            return self._policy
        stronger = dataclasses.replace(self._policy, isolation=Isolation.RUNSC)
        return stronger.fitted_to(self._facts)

    def _prepare(self) -> None:
        """Before the first sandbox: learn about the engine, sweep, and set the janitor waiting."""
        with self._preparing:
            if self._is_prepared:
                return
            info = self._engine.info()
            self._facts = info.raw
            self._policy = self._policy.fitted_to(info.raw)
            options = " ".join(info.security_options)
            self._rootful = "rootless" not in options and "userns" not in options
            self._own_cgroup = self._engine.is_local and cgroup.is_usable(driver=info.cgroup_driver)
            sweep(self._engine)
            self._holdings.move_in(own_cgroup=self._own_cgroup)
            self._is_prepared = True


def _expected(request: protocol.Run) -> str:
    """Return the backend of a request as a guest's argument; nothing if it is too long for one."""
    text = json.dumps({"backend": request.backend, "limits": request.limits}, separators=(",", ":"))
    return text if len(text) <= _ARGUMENT_BYTES else ""
