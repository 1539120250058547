"""Sandboxes for jobs: started or taken from the pool, and always removed.

`Supply` works in the threads of its callers.  A task that needs a sandbox, for itself or for a
session, gets one from `acquire` and gives it back with `release`.  What is to be warm is a cell
wherever cells can be made, and else a container.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import platform
import threading
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from runner.backends import describe
from runner.engine import Engine
from runner.errors import EngineError, RequestError
from runner.host.interrupt import Waker
from runner.host.processes import HostProcess
from runner.images import ImageStore, build_id
from runner.policy import Limits, Policy, is_podman
from runner.policy.isolation import Isolation
from runner.programs import Program
from runner.programs.imports import modules
from runner.running.task import Task
from runner.running.verdict import Verdict
from runner.sandboxes import cgroup, residence
from runner.sandboxes.cell import Cell
from runner.sandboxes.launcher import ImageGoneError, Sandbox
from runner.sandboxes.place import Container, Place
from runner.sandboxes.pool import Pool, Warm
from runner.sandboxes.reaper import Reaper
from runner.sandboxes.spec import (
    Carrier,
    Holding,
    SandboxSpec,
    session_arguments,
    warm_arguments,
    zygote_arguments,
)
from runner.sandboxes.starts import CORES, Starts
from runner.sandboxes.sweep import Janitor, sweep
from runner.sandboxes.zygote import CellError, Zygote
from runner.sandboxes.zygotes import ZYGOTE_BYTES, Zygotes

log = logging.getLogger(__name__)

_ARGUMENT_BYTES: Final = 1 << 16
"""The longest argument of a guest in bytes; the kernel's limit is twice as much."""

IDLE_SHARE: Final = 0.25
"""The share of the machine's memory that sandboxes waiting for jobs may use."""


_ZYGOTE_LIMITS: Final = Limits(memory_bytes=4 << 30, cpus=CORES, processes=1024)
"""Generous: a zygote runs no program.  What the kernel needs for its cells counts as its memory."""


_ZYGOTES_TRIED: Final = 2
"""One may have died, or have been stopped, without any fault of the job that needs a cell."""


class Cells(Enum):
    """Which jobs have a cell, where cells can be made.

    `ON_DEMAND` is for all but the first of a program: that one has a container, and leaves a zygote
    for those that follow.
    """

    OFF = "none"
    WARM = "warm jobs and those of sessions"
    ON_DEMAND = "all for which there is a zygote"


@dataclass(frozen=True, slots=True)
class _ZygoteOrder:
    """What a zygote is for: jobs of a program, or of an image that it had, under a policy.

    `cpus` are the whole ones of a job's limit, for which native libraries prepare their threads.
    """

    program: Program
    policy: Policy
    backend: str
    cpus: int
    image: str | None = None


class Supply:
    """The sandboxes of one supervisor; any number of threads may call its methods.

    With `warm`, each sandbox is warmed up before it is handed out.
    """

    def __init__(
        self,
        engine: Engine,
        images: ImageStore,
        policy: Policy,
        carrier: Carrier | None,
        *,
        warm: bool,
        cells: Cells,
    ) -> None:
        self.process = HostProcess.current()
        self.pool: Pool | None = None
        self._engine = engine
        self._images = images
        self._policy = policy
        self._carrier = carrier
        self._warm = warm
        self._on_demand = cells is Cells.ON_DEMAND
        self._zygotes = Zygotes(lambda zygote: self.discard(zygote.sandbox))
        self._cell_obstacle = "they are switched off" if cells is Cells.OFF else ""
        self._has_made_cells = False
        self._build = build_id()
        self._starts = Starts()
        self._reaper = Reaper()
        self._janitor: Janitor | None = None
        self._is_resident = False
        self._preparing = threading.Lock()
        self._is_prepared = False
        self._facts: Mapping[str, Any] = {}
        self._rootful = True
        self._own_cgroup = False
        self._engine_cgroup = False
        self._home = ""

    def work(
        self,
        task: Task,
        execute: Callable[[Task], Verdict],
        release: Callable[[Task], None] | None = None,
    ) -> None:
        """Execute one job; it always ends with a record, and leaves nothing behind.

        `release` gives the sandbox back; a session passes its own.
        """
        task.job.trace.mark("queue")
        try:
            task.perform(execute)
            task.job.trace.mark("record")
        finally:
            try:
                (release or self.release)(task)
            finally:
                task.waker.close()
                task.job.trace.mark("clean-up")

    def close(self) -> None:
        """Hand out no more waiting sandboxes, and begin to remove them."""
        if self.pool is not None:
            self.pool.close()
        self._zygotes.close()

    def join(self, patience_s: float | None) -> bool:
        """Wait until all sandboxes are gone, then remove this process's traces; return True if so.

        Gives up when there was no progress for `patience_s` seconds.
        """
        if self.pool is not None and not self.pool.join(patience_s):
            return False
        if not self._zygotes.join(patience_s):
            return False
        if not self._reaper.join(patience_s):
            return False
        if self._is_resident:
            self._is_resident = False
            residence.move_out(self.process)
        if self._janitor is not None:
            self._janitor.close()
        return True

    def package(self, program: Program) -> str:
        """Build the image of a program if it is missing, and return its id."""
        self._prepare()
        return self._images.program(program.files, program.name, program.pins).id

    # --- sandboxes ----------------------------------------------------------------------------

    def acquire(self, task: Task, *, for_session: bool = False) -> Holding:
        """Return a sandbox that is ready for its first request, and that the task holds.

        Raises RunnerError (including CancelledError) or OSError.  `release` removes whatever exists
        by then, and is always called afterwards.
        """
        self._prepare()
        _check_room(task.limits, self._facts)
        task.policy = self._policy_for(task.program)
        if self.pool is not None and not for_session and task.image is None:
            waiting = self.pool.take(task.program, task.limits)
            if waiting is not None:
                task.hold(waiting)
                task.trace.mark("take")
                return waiting
        must_be_warm = for_session or self._warm or self._is_stocked(task)
        if must_be_warm or self._on_demand:
            cell = self.new_cell(task, for_session=for_session, waits=must_be_warm)
            if cell is not None:
                task.hold(cell)
                task.trace.mark("take")
                return cell
        try:
            return self._start(task, for_session=for_session)
        except ImageGoneError as error:
            log.warning("rebuilding an image that is gone: %s", error)
            self.release(task)
            task.image = None
            return self._start(task, for_session=for_session)

    def new_cell(self, task: Task, *, for_session: bool, waits: bool = True) -> Cell | None:
        """Return a cell for a job like this one, None where cells cannot be made.

        Without `waits`, None also if no zygote is ready for it.  The errors are those of `acquire`.
        """
        backend = _USUAL
        if for_session and task.request.backend != describe(None):
            backend = _expected(task.request.backend, task.limits)
        return self._cell(_order_for(task, backend), task.limits, task.waker if waits else None)

    def _is_stocked(self, task: Task) -> bool:
        return self.pool is not None and task.image is None and self.pool.keeps(task.program)

    def release(self, task: Task) -> None:
        """Remove the sandbox of a task, now or as soon as the engine releases it."""
        sandbox = task.sandbox
        task.hold(None)
        if sandbox is not None:
            if self.pool is not None:
                self.pool.job_over()
            self.discard(sandbox)
            if self._on_demand and isinstance(sandbox, Sandbox):
                self._begin_zygote(task)

    def _start(self, task: Task, *, for_session: bool) -> Sandbox:
        spec = self._spec(task.program, task.limits, task.policy, task.image)
        if for_session:
            arguments = session_arguments(
                _modules(task.program), _expected(task.request.backend, task.limits)
            )
            spec = dataclasses.replace(spec, serves_many=True, arguments=arguments)
        elif self._warm:
            spec = dataclasses.replace(spec, arguments=warm_arguments(_modules(task.program)))
        task.trace.mark("image")
        sandbox = Sandbox(self._engine, spec, task.trace)
        task.hold(sandbox)
        self._bring_up(sandbox, task.waker, urgent=True)
        return sandbox

    def _spec(
        self, program: Program, limits: Limits, policy: Policy, image: str | None = None
    ) -> SandboxSpec:
        return SandboxSpec(
            image=image or self._images.program(program.files, program.name, program.pins).id,
            build=self._build,
            policy=policy,
            limits=limits.for_container(),
            rootful=self._rootful,
            own_cgroup=self._own_cgroup,
            engine_cgroup=self._engine_cgroup,
            podman=is_podman(self._facts),
            carrier=self._carrier_now(),
            process=self.process,
            kernel=str(self._facts.get("KernelVersion", "")),
        )

    def _bring_up(self, sandbox: Sandbox, waker: Waker, *, urgent: bool) -> None:
        with self._starts.slot(urgent=urgent):
            sandbox.start()
            sandbox.wait_ready(waker)
        if sandbox.spec.arguments:  # it has warmed up, for any job
            sandbox.close_accounts()
        # The first sandbox was the probe: the carrier of its `ready` is used from now on.
        if self._carrier is None and sandbox.unreachable:
            log.warning(
                "the engine has another file system than this process (it finds no %s there): "
                "messages go over stdio, as the result does",
                sandbox.unreachable,
            )
        self._carrier = self._carrier or sandbox.carrier

    # --- cells --------------------------------------------------------------------------------

    def zygotes(self) -> tuple[int, int]:
        """Return how many zygotes there are, and how many cells they have together."""
        return self._zygotes.count()

    def cell_obstacle(self, policy: Policy | None = None) -> str:
        """Return why no cells are made for jobs with this policy; empty if they are.

        None is the policy of most.  Known after the engine was asked for the first time.
        """
        policy = policy or self._policy
        if policy.isolation is not Isolation.RUNC:
            return f"there are none under {policy.isolation}"
        if self._carrier_now() is not Carrier.SOCKET:
            return "they need a socket that can be mounted, and frames go over stdio here"
        if not (self._own_cgroup or self._engine_cgroup):
            return (
                "this process may not make control groups: it takes root on the engine's machine, "
                "or a rootless engine under systemd"
            )
        return self._cell_obstacle

    def _cell(self, order: _ZygoteOrder, limits: Limits, waker: Waker | None) -> Cell | None:
        """Return a cell, None where cells cannot be made; without `waker`, no zygote is started."""
        if self.cell_obstacle(order.policy) or not self._has_home():
            return None
        problem = ""
        for _ in range(_ZYGOTES_TRIED):
            if waker is None:
                zygote = self._zygotes.find(self._key_of(order))
            else:
                start = functools.partial(self._start_zygote, order, waker)
                zygote = self._zygotes.get(self._key_of(order), start, room=self._room())
            if zygote is None:
                return None
            try:
                cell = zygote.cell(limits.for_container())
            except (CellError, OSError) as error:
                problem = str(error)
                self._zygotes.retire(zygote)
                log.warning("a zygote of %s is given up: %s", order.program.name, problem)
                if not self._has_made_cells:
                    self._cell_obstacle = problem
                    return None
            else:
                self._has_made_cells = True
                return cell
        raise EngineError(problem)

    def _begin_zygote(self, task: Task) -> None:
        """Start a zygote for jobs like this one, which had to do without."""
        order = _order_for(task, _USUAL)
        if not self.cell_obstacle(order.policy) and self._has_home():
            start = functools.partial(self._start_zygote, order)
            self._zygotes.begin(self._key_of(order), start, room=self._room())

    def _has_home(self) -> bool:
        """Return True if there is a control group for those of cells; makes it if needed."""
        with self._preparing:
            if not self._home:
                assert self._janitor is not None
                try:
                    self._home = cgroup.delegated(self.process, self._janitor.pid)
                except OSError as error:
                    self._cell_obstacle = f"systemd delegates no control group: {error}"
                    log.warning("no cells are made: %s", self._cell_obstacle)
        return bool(self._home)

    def _key_of(self, order: _ZygoteOrder) -> Hashable:
        program = order.program
        digest = order.image or self._images.program_digest(program.files, program.pins)
        return digest, order.policy, order.backend, order.cpus

    def _room(self) -> int:
        """Return how many zygotes there may be."""
        return self.idle_memory_bytes() // ZYGOTE_BYTES

    def _start_zygote(self, order: _ZygoteOrder, waker: Waker) -> Zygote:
        program, policy = order.program, order.policy
        spec = dataclasses.replace(
            self._spec(program, Limits(), policy, order.image),
            policy=policy.for_zygote(),
            limits=_ZYGOTE_LIMITS,
            arguments=zygote_arguments(policy, _modules(program), order.backend),
            serves_many=True,
            job_cpus=order.cpus,
        )
        sandbox = Sandbox(self._engine, spec)
        try:
            self._bring_up(sandbox, waker, urgent=True)
        except BaseException:
            self.discard(sandbox)
            raise
        return Zygote(sandbox, policy, self._home)

    # --- for the pool -------------------------------------------------------------------------

    def stock(self, program: Program, limits: Limits, size: Warm) -> None:
        """Keep a pool of warm sandboxes of this program from now on."""
        if self.pool is None:
            self.pool = Pool(self)
        self.pool.stock(program, limits, size)

    def key(self, program: Program, limits: Limits) -> Hashable:
        """Return a key that is equal for jobs that can use the same sandbox."""
        digest = self._images.program_digest(program.files, program.pins)
        return digest, program.manifest.isolation, limits.for_container()

    def launch(self, program: Program, limits: Limits, waker: Waker) -> Holding:
        """Return a sandbox that has warmed up and waits; cleans up if that fails."""
        self._prepare()
        policy = self._policy_for(program)
        order = _ZygoteOrder(program, policy, _USUAL, int(limits.cpus))
        cell = self._cell(order, limits, waker)
        if cell is not None:
            return cell
        spec = self._spec(program, limits, policy)
        arguments = warm_arguments(_modules(program))
        sandbox = Sandbox(self._engine, dataclasses.replace(spec, arguments=arguments))
        try:
            self._bring_up(sandbox, waker, urgent=False)
        except BaseException:
            self.discard(sandbox)
            raise
        return sandbox

    def has_image(self, program: Program) -> bool:
        """Return True if the engine still has the program's image."""
        return self._images.has(program.files, program.name, program.pins)

    def discard(self, sandbox: Holding) -> None:
        """Remove a sandbox, now or as soon as the engine releases it."""
        if not sandbox.destroy():
            self._reaper.add(sandbox)

    def leave_to_reaper(self, sandbox: Holding) -> None:
        """Remove a sandbox in the reaper's thread, since the calling thread must not wait."""
        self._reaper.add(sandbox)

    def idle_memory_bytes(self) -> int:
        """Return the memory that all waiting sandboxes may use together; 0 while unknown."""
        return int(self._facts.get("MemTotal", 0) * IDLE_SHARE)

    def _carrier_now(self) -> Carrier:
        if self._carrier is not None:
            return self._carrier
        # On a Mac, engines run in a virtual machine, into which no socket of the host reaches.
        is_here = self._engine.is_local and platform.system() != "Darwin"
        return Carrier.SOCKET if is_here else Carrier.STDIO

    def _policy_for(self, program: Program) -> Policy:
        """Return the policy, with the stronger isolation if the program demands it."""
        if program.manifest.isolation in {None, Isolation.RUNC, self._policy.isolation}:
            return self._policy
        stronger = dataclasses.replace(self._policy, isolation=Isolation.RUNSC)
        return stronger.fitted_to(self._facts)

    def _prepare(self) -> None:
        """Prepare for the first sandbox: query the engine, sweep, and start the janitor."""
        with self._preparing:
            if self._is_prepared:
                return
            info = self._engine.info()
            self._facts = info.raw
            self._policy = self._policy.fitted_to(info.raw)
            self._rootful = not info.maps_ids
            driver = info.cgroup_driver if self._engine.is_local else ""
            self._own_cgroup = cgroup.is_usable(driver=driver)
            self._engine_cgroup = cgroup.is_found(driver=driver, rootless=info.is_rootless)
            self._home = cgroup.home_of(self.process) if self._own_cgroup else ""
            sweep(self._engine)
            self._move_in()
            self._is_prepared = True

    def _move_in(self) -> None:
        if self._janitor is None:
            self._janitor = Janitor()
        if not self._is_resident:
            residence.move_in(self.process, own_cgroup=self._own_cgroup)
            self._is_resident = True


def place_of(engine: Engine, held: Holding) -> Place:
    """Return the place for one job in what a task holds."""
    if isinstance(held, Cell):
        return held
    assert isinstance(held, Sandbox)
    return Container(engine, held)


def _order_for(task: Task, backend: str) -> _ZygoteOrder:
    return _ZygoteOrder(task.program, task.policy, backend, int(task.limits.cpus), task.image)


def _modules(program: Program) -> tuple[str, ...]:
    return modules(program.files, program.manifest.entry)


def _check_room(limits: Limits, facts: Mapping[str, Any]) -> None:
    """Refuse chosen limits that exceed the engine's machine.

    Raises RequestError with both numbers.
    """
    usual, cpus, memory = Limits(), facts.get("NCPU", 0), facts.get("MemTotal", 0)
    if limits.cpus > cpus > 0 and limits.cpus != usual.cpus:
        msg = f"cpus is {limits.cpus:g}, and the engine's machine has {cpus}: ask for fewer"
        raise RequestError(msg)
    if limits.memory_bytes > memory > 0 and limits.memory_bytes != usual.memory_bytes:
        msg = (
            f"memory_bytes is {limits.memory_bytes} ({limits.memory_bytes >> 20} MiB), and the "
            f"engine's machine has {memory} ({memory >> 20} MiB): ask for less"
        )
        raise RequestError(msg)


def _expected(backend: Mapping[str, Any], limits: Limits) -> str:
    """Return a backend as an argument of a guest; empty if it is too long."""
    sizes = {"memory_bytes": limits.memory_bytes, "cpus": limits.cpus}
    text = json.dumps({"backend": dict(backend), "limits": sizes}, separators=(",", ":"))
    return text if len(text) <= _ARGUMENT_BYTES else ""


_USUAL: Final = _expected(describe(None), Limits())
"""What zygotes build whose jobs may ask for anything: others build their own."""
