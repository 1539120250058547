"""How a job ended: first what the host observed counts, and last what the guest reports.

Everything is decided from what has arrived (`Relay`), what the kernel counted (`Counters`) and what
its place knows; nothing is waited for here, except for what the engine says of a lost place.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from runner.job.record import Evidence, Outcome, Usage
from runner.policy import Limits
from runner.policy.isolation import host_tasks
from runner.running.relay import LimitReachedError, Relay
from runner.sandboxes.cgroup import Counters
from runner.sandboxes.place import Account, Place
from sandbox.wire.protocol import Fault, JsonText, ProtocolError


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How a job ended, known before its sandbox is removed."""

    outcome: Outcome
    evidence: Evidence = field(default_factory=Evidence)
    result: JsonText | None = None
    error: str | None = None
    traceback: str | None = None
    usage: Usage = field(default_factory=Usage)


def decide(
    ended: Verdict | None, relay: Relay, place: Place, limits: Limits, account: Account
) -> Verdict:
    """Apply the order: complete result, cancelled, host's limit, violation, guest's report.

    `ended` is the host's own reason to end the job, or None.  The verdict's usage is left empty.
    """
    counters = account.counters
    if relay.result is not None and not isinstance(relay.end, Fault):
        verdict = Verdict(outcome=Outcome.COMPLETED, evidence=_completed(ended, relay))
    else:
        verdict = (
            ended
            or _limit_in_cgroup(counters, account.source, limits)
            or _report(relay, place, counters, limits)
        )
    value = relay.result.value if relay.result else None
    return replace(verdict, evidence=_with_missing(verdict.evidence, relay), result=value)


def ended_by(error: LimitReachedError | ProtocolError) -> Verdict:
    """Return the verdict on a job whose output reached a limit, or broke the protocol."""
    if isinstance(error, LimitReachedError):
        return Verdict(outcome=error.outcome, evidence=error.evidence)
    evidence = Evidence(source="host", detail=str(error))
    return Verdict(outcome=Outcome.PROTOCOL_VIOLATION, evidence=evidence)


def time_limit(limit: str, value: float, observed: float, detail: str | None) -> Verdict:
    """Return the verdict on a job that took longer than a limit of seconds allows."""
    evidence = Evidence(
        limit=limit, value=value, observed=round(observed, 3), source="host", detail=detail
    )
    return Verdict(outcome=Outcome.TIME_LIMIT, evidence=evidence)


def _completed(ended: Verdict | None, relay: Relay) -> Evidence:
    """Describe what happened between a published final result and the end of `main`."""
    if ended is not None:
        return ended.evidence
    note = getattr(relay.end, "note", None)
    if note is None and relay.end is None and relay.exited is not None:
        note = f"main ended with status {relay.exited.status} after its final result"
    return Evidence(detail=note, source="guest") if note else Evidence()


def _with_missing(evidence: Evidence, relay: Relay) -> Evidence:
    """Add a note if fewer messages have arrived than the guest announced."""
    announced, arrived = relay.announced, relay.messages
    if arrived >= announced:
        return evidence
    missing = f"{announced} messages were announced, and {arrived} have arrived"
    detail = missing if evidence.detail is None else f"{evidence.detail}; {missing}"
    return replace(evidence, source=evidence.source or "host", detail=detail)


def _limit_in_cgroup(counters: Counters, source: str, limits: Limits) -> Verdict | None:
    if counters.oom_kills:
        return _memory_limit(limits, counters.memory_peak_bytes, source)
    if counters.process_limit_hits:
        refused = f"{counters.process_limit_hits} attempts to start one more were refused"
        return _process_limit(limits, source, refused)
    return None


def _report(relay: Relay, place: Place, counters: Counters, limits: Limits) -> Verdict:
    """Return the guest's report about its own program, or NO_RESULT if there is none."""
    if isinstance(relay.end, Fault):
        return _fault(relay.end, limits)
    exited = relay.exited
    status = exited.status if exited is not None else place.exit_status
    if status is None:
        return _lost_place(place, counters, limits)
    who = "the program's process" if exited is None else place.first_process
    how = f"exit code {status}" if status >= 0 else f"signal {-status}"
    detail = f"{who} ended with {how} before there was a result"
    return Verdict(outcome=Outcome.NO_RESULT, evidence=Evidence(source="guest", detail=detail))


def _fault(end: Fault, limits: Limits) -> Verdict:
    evidence = Evidence()
    if end.kind == Outcome.PROCESS_LIMIT:
        detail = "main failed because no more processes or threads could be started"
        evidence = _process_limit(limits, "guest", detail).evidence
    elif end.limit is not None:
        evidence = Evidence(limit=end.limit, value=end.value, observed=end.observed, source="guest")
    return Verdict(
        outcome=Outcome(end.kind), evidence=evidence, error=end.error, traceback=end.traceback
    )


def _lost_place(place: Place, counters: Counters, limits: Limits) -> Verdict:
    """Find out why the place ended without a report of its first process."""
    loss = place.loss()
    if loss.out_of_memory:
        return _memory_limit(limits, counters.memory_peak_bytes, "engine")
    if loss.exit_code is None:
        evidence = Evidence(source="engine", detail=loss.detail)
        return Verdict(outcome=Outcome.SANDBOX_ERROR, evidence=evidence, error=loss.detail)
    peak = counters.memory_peak_bytes
    if peak is not None and peak >= limits.memory_bytes:
        return _memory_limit(limits, peak, "cgroup")
    if (counters.tasks_peak or 0) >= host_tasks(place.isolation, limits.processes):
        return _process_limit(limits, "cgroup", "the kernel inside could not grow")
    # No limit was reached, so the program ended its whole sandbox.
    evidence = Evidence(source="engine", detail=loss.detail)
    return Verdict(outcome=Outcome.NO_RESULT, evidence=evidence)


def _process_limit(limits: Limits, source: str, detail: str) -> Verdict:
    limit = limits.processes
    evidence = Evidence(
        limit="processes", value=limit, observed=limit, source=source, detail=detail
    )
    return Verdict(outcome=Outcome.PROCESS_LIMIT, evidence=evidence)


def _memory_limit(limits: Limits, observed: float | None, source: str) -> Verdict:
    evidence = Evidence(
        limit="memory_bytes", value=limits.memory_bytes, observed=observed, source=source
    )
    return Verdict(outcome=Outcome.MEMORY_LIMIT, evidence=evidence)
