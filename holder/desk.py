"""Answers the calls of programs with one backend: what is asked, what is refused, what it cost."""

from __future__ import annotations

import contextlib
import json
import math
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import qiskit
from qiskit import qpy
from qiskit.circuit import QuantumCircuit
from qiskit.primitives.containers.estimator_pub import EstimatorPub
from qiskit.primitives.containers.sampler_pub import SamplerPub
from qiskit.result import Result

from holder import costs, deviations, results, targets
from holder.refusals import Refused
from sandbox import codec
from sandbox.codec.decoding import MAX_UNPACKED_BYTES, Decoder
from sandbox.codec.rows import SAFE_QPY

OPTIONS: Final = ("shots", "memory", "seed_simulator")
"""What a program may always ask for; an operator may allow more."""

_PRIMITIVES: Final = {"sampler": SamplerPub, "estimator": EstimatorPub}
_CANCELLED: Final = "the job was cancelled"


@dataclass(kw_only=True)
class Held:
    """What a factory makes: a backend, and the provider's own primitives where there are any.

    Attributes:
        backend: a BackendV2.
        sampler, estimator: primitives of version 2, which programs may use with whole PUBs.
        runs_with_sampler: True if `backend.run` is not there, or not to be used, and the sampler
            stands behind `run`.
        max_shots: the most shots of one circuit that it takes, None if there is no bound.
        find: returns the job on the device that has an id, so that it can be cancelled after the
            process that submitted it has died; None for the backend's own `retrieve_job`.
    """

    backend: Any
    sampler: Any = None
    estimator: Any = None
    runs_with_sampler: bool = False
    max_shots: int | None = None
    find: Callable[[str], Any] | None = None


@dataclass
class Answer:
    """The text of an answer, and what it cost."""

    body: bytes
    used: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Call:
    """A call for a device, and who is told the id of its job there."""

    number: int
    submitted: Callable[[str], object]


def _ignore(_job: str) -> None:
    """Do nothing."""


class Desk:
    """One backend, and the jobs that run on it.  For any thread.

    Arguments:
        held: what a factory has made, or a backend alone.
        allowed: names of options that programs may set besides `OPTIONS`.
        max_shots: the most shots of one circuit, None for what the backend takes.

    Raises Refused for a backend that nothing can make right.
    """

    def __init__(
        self, held: Any, *, allowed: Sequence[str] = (), max_shots: int | None = None
    ) -> None:
        self._held = held if hasattr(held, "backend") else Held(backend=held)
        self._backend = self._held.backend
        deviations.check(self._backend)
        self._on_aer = deviations.is_on_aer(self._backend)
        self._find = self._held.find or getattr(self._backend, "retrieve_job", None)
        self._allowed = (*OPTIONS, *allowed)
        bounds = [max_shots, self._held.max_shots, deviations.max_shots(self._backend)]
        self._max_shots = min((each for each in bounds if each is not None), default=None)
        self._target = self._backend.target
        without = deviations.left_out(self._backend)
        self._described = targets.describe(self._target, without=without)
        self._fit = targets.Fit(self._target, self._described)
        self._submitting = threading.Lock()
        self._jobs: dict[int, Any] = {}

    def describe(self) -> dict[str, Any]:
        """Return what a sandbox needs to build its side of the backend, as JSON data."""
        backend = self._backend
        most, name = backend.max_circuits, str(backend.name)
        return {
            "name": name,
            "version": str(backend.backend_version or ""),
            "simulator": bool(getattr(backend, "simulator", False)) or "simulator" in name,
            "qiskit": qiskit.__version__,
            "qpy": qpy.QPY_VERSION,
            "options": [each for each in self._allowed if self._takes(each)],
            "max_circuits": most if isinstance(most, int) else None,
            "max_shots": self._max_shots,
            "primitives": [each for each in _PRIMITIVES if getattr(self._held, each) is not None],
            "target": self._described,
        }

    def _takes(self, option: str) -> bool:
        if option != "seed_simulator":
            return True
        return not self._held.runs_with_sampler and hasattr(self._backend.options, option)

    def answer(
        self,
        call: int,
        verb: str,
        body: bytes,
        cost: dict[str, int],
        submitted: Callable[[str], object] = _ignore,
    ) -> Answer:
        """Return the answer to a call; waits for the device.  Raises Refused, and what it raises.

        `body` was written by the reader, from what a program has sent, and `cost` is what was
        counted there and is within the budgets.  `submitted` is told the id of a job on the device
        that can be found again.
        """
        content = _content(body)
        if verb in costs.VERBS:
            found = costs.of(verb, content[costs.VERBS[verb]], content["options"])
            if any(found[each] > cost.get(each, 0) for each in found):
                msg = f"the call costs {found}, and was announced as {cost}"
                raise Refused(msg)
        if verb == "run":
            return self._run(_Call(call, submitted), content["circuits"], content["options"])
        if verb in _PRIMITIVES:
            pubs, options = content["pubs"], content["options"]
            return self._primitive(_Call(call, submitted), verb, pubs, options)
        if verb == "status":
            return self._status(content["of"])
        if verb == "cancel":
            self.cancel(content["of"])
            return Answer(b"null")
        if verb == "abandon":
            return Answer(json.dumps(self._abandon(content["jobs"])).encode())
        msg = f"a held backend does not know {verb!r:.40}"
        raise Refused(msg)

    def cancel(self, call: int) -> None:
        """Cancel what a call has on the device, if there is anything."""
        job = self._jobs.get(call)
        if job is not None:
            job.cancel()

    def cancel_all(self) -> None:
        """Cancel everything on the device."""
        for call in list(self._jobs):
            try:
                self.cancel(call)
            except Exception:  # noqa: BLE001  one that has just ended must not save the others
                traceback.print_exc()

    # --- run --------------------------------------------------------------------------------------

    def _run(self, call: _Call, circuits: list[QuantumCircuit], options: dict[str, Any]) -> Answer:
        self._check(circuits, options)
        shots = options.get("shots", costs.DEFAULT_SHOTS)
        memory = bool(options.get("memory", False))
        if self._held.runs_with_sampler:
            return self._run_with_sampler(call, circuits, shots, memory=memory)
        circuits = self._made_right(circuits, memory=memory)
        # None of a program's values gets through that it did not name: providers differ in what
        # their defaults are, and in what they make of None.
        given = {**options, "shots": shots}
        if not memory:
            given.pop("memory", None)
        result, device_s = self._wait(call, lambda: self._backend.run(circuits, **given))
        data = results.normal(result, circuits, shots=shots, memory=memory)
        used = {**costs.of("run", circuits, options), "device_s": device_s}
        return Answer(_text(Result.from_dict(data)), used)

    def _run_with_sampler(
        self, call: _Call, circuits: list[QuantumCircuit], shots: int, *, memory: bool
    ) -> Answer:
        circuits = self._made_right(circuits, memory=True)  # which samplers ask for
        pubs = [(circuit, None, shots) for circuit in circuits]
        found, device_s = self._wait(call, lambda: self._held.sampler.run(pubs))
        data = results.of_sampler(found, circuits, shots=shots, memory=memory)
        used = {**costs.of("run", circuits, {"shots": shots}), "device_s": device_s}
        return Answer(_text(Result.from_dict(data)), used)

    def _made_right(self, circuits: list[QuantumCircuit], *, memory: bool) -> list[QuantumCircuit]:
        """Return what Aer is to be given, where it is behind the backend, as in a sandbox."""
        return deviations.for_aer(circuits, memory=memory) if self._on_aer else circuits

    def _check(self, circuits: list[QuantumCircuit], options: dict[str, Any]) -> None:
        self._check_options(options)
        most = self._backend.max_circuits
        if isinstance(most, int) and len(circuits) > most:
            msg = f"{len(circuits)} circuits in one call, and the backend takes {most}"
            raise Refused(msg)
        shots = options.get("shots", costs.DEFAULT_SHOTS)
        if self._max_shots is not None and shots > self._max_shots:
            msg = f"{shots} shots, and the backend takes {self._max_shots}"
            raise Refused(msg)
        self._fit.check(circuits)

    def _check_options(self, options: dict[str, Any]) -> None:
        for name in options:
            if name not in self._allowed or not self._takes(name):
                known = ", ".join(each for each in self._allowed if self._takes(each))
                msg = f"the backend takes no option {name!r:.80}; it takes {known}"
                raise Refused(msg)
        for name, kind in (("memory", bool), ("seed_simulator", int)):
            if name in options and type(options[name]) is not kind:
                wanted = "True or False" if kind is bool else "a whole number"
                msg = f"{name} is {options[name]!r:.80}: it must be {wanted}"
                raise Refused(msg)

    # --- primitives -------------------------------------------------------------------------------

    def _primitive(
        self, call: _Call, verb: str, pubs: list[Any], options: dict[str, Any]
    ) -> Answer:
        primitive = getattr(self._held, verb)
        if primitive is None:
            name = f"Backend{verb.capitalize()}V2"
            msg = f"the device has no {verb} of its own: use {name}(backend=backend)"
            raise Refused(msg)
        if options:
            msg = f"the device's {verb} takes no options from a program; its operator sets them"
            raise Refused(msg)
        kind = _PRIMITIVES[verb]
        pubs = [kind.coerce(each) for each in pubs]
        circuits = [each.circuit for each in pubs]
        self._fit.check(circuits, bound=False)
        right = self._made_right(circuits, memory=True)
        for index, (one, other) in enumerate(zip(circuits, right, strict=True)):
            if one is not other:
                msg = f"pub {index}: this device's {verb} computes its conditions wrongly: use run"
                raise Refused(msg)
        found, device_s = self._wait(call, lambda: primitive.run(pubs))
        used = {**costs.of(verb, pubs, {}), "device_s": device_s}
        return Answer(_text(results.with_plain_metadata(found)), used)

    # --- jobs on the device -----------------------------------------------------------------------

    def _wait(self, call: _Call, submit: Any) -> tuple[Any, float | None]:
        """Return a job's result, and the seconds that the device says it took."""
        with self._submitting:
            job = self._jobs[call.number] = submit()
        try:
            if self._find is not None:
                call.submitted(str(job.job_id()))
            result = job.result()
            return result, _seconds(job, result)
        except Exception as error:
            if _name_of(job.status()) == "CANCELLED":
                raise Refused(_CANCELLED) from error
            raise
        finally:
            del self._jobs[call.number]

    def _abandon(self, ids: list[str]) -> list[str]:
        """Cancel jobs that a process before this one has left; return those that were found."""
        found = []
        for each in ids:
            try:
                job = self._find(each) if self._find is not None else None
            except Exception:  # noqa: BLE001  whatever a provider raises
                traceback.print_exc()
                continue
            found.append(each)
            with contextlib.suppress(Exception):  # it has ended
                job.cancel()  # type: ignore[union-attr]
        return found

    def _status(self, call: int) -> Answer:
        job = self._jobs.get(call)
        if job is None:  # not submitted yet, or its answer is on its way
            return Answer(_text({"status": "INITIALIZING", "job_id": None, "queue": None}))
        position = getattr(job, "queue_position", lambda: None)()
        content = {
            "status": _name_of(job.status()),
            "job_id": str(job.job_id())[:200],
            "queue": position if isinstance(position, int) else None,
        }
        return Answer(_text(content))


def _content(body: bytes) -> dict[str, Any]:
    """Return what the reader has written: as strictly as if a program had."""
    decoder = Decoder(every=True, oldest_qpy=SAFE_QPY, room=MAX_UNPACKED_BYTES, tries_out=False)
    return decoder.whole(json.loads(body), "call")  # type: ignore[no-any-return]


def _text(value: Any) -> bytes:
    return codec.encode(value, "answer").encode()


def _seconds(job: Any, result: Any) -> float | None:
    """Return what a device says that it took: Aer in its result, IBM's devices of their jobs."""
    seconds = getattr(result, "time_taken", None)
    if seconds is None and hasattr(job, "usage"):
        with contextlib.suppress(Exception):  # of the result that is there nothing must be lost
            seconds = job.usage() or None  # IBM's say 0 until they know
    if isinstance(seconds, int | float) and math.isfinite(seconds):
        return float(seconds)
    return None


def _name_of(status: Any) -> str:
    """Return the name of a status: an enumeration at most providers, text at IBM."""
    return str(getattr(status, "name", status)).upper()[:40]
