"""Whether a sandbox is confined as it was asked for, judged by what it sees from inside.

Engines ignore options that they do not know, some without a word: Podman's API ignores the runtime
and masked paths, and what an engine says of itself is not what it does.  So the guest reports what
the kernel tells it (`sandbox.processes.confinement`) before there is any program code in the
sandbox, and a sandbox of which an option cannot be proved is not used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from runner.policy.isolation import Isolation, host_tasks
from runner.policy.limits import Limits
from runner.policy.policy import Policy

_CAPABILITIES: Final = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
_MASKS: Final = frozenset({"tmpfs", "devtmpfs"})
"""What covers a masked path: an empty directory, or the null device."""

_CPU_SHARE: Final = 1.01
"""Engines round quotas: how much more than the limit is still the limit."""


def unproved(policy: Policy, limits: Limits, *, kernel: str, seen: str) -> list[str]:
    """Return one phrase for each option that the sandbox does not have, or does not show to have.

    Arguments:
        policy, limits: what was asked for.  What `policy` allows to be missing is not looked at.
        kernel: the release of the kernel that the engine itself runs on.
        seen: the guest's report.
    """
    facts = dict(line.split(" ", 1) for line in seen.splitlines() if " " in line)
    return [
        *_isolation(policy.isolation, kernel, facts),
        *_privileges(policy, facts),
        *_ulimits(policy, limits, facts),
        # gVisor's control groups and masks are the sentry's: runner.doctor.differences.
        *(_limits(policy, limits, facts) if policy.isolation is Isolation.RUNC else ()),
        *(_paths(policy, facts) if policy.isolation is Isolation.RUNC else ()),
    ]


def _isolation(isolation: Isolation, kernel: str, facts: Mapping[str, str]) -> Iterator[str]:
    """Compare the kernels: `runc` shares the engine's, `runsc` brings one of its own."""
    inside, outside = _release(facts.get("kernel", "")), _release(kernel)
    if not inside or not outside:
        yield f"isolation {isolation}: the kernel of engine or sandbox is unknown"
    elif (inside == outside) is not (isolation is Isolation.RUNC):
        yield f"isolation {isolation}: the engine's kernel is {outside}, the sandbox's {inside}"


def _release(text: str) -> str:
    """Return a kernel's release in the form of Docker, which always writes three numbers."""
    return re.sub(r"^(\d+\.\d+)(?!\.?\d)", r"\1.0", text)


def _privileges(policy: Policy, facts: Mapping[str, str]) -> Iterator[str]:
    if facts.get("NoNewPrivs") != "1":
        yield f"no-new-privileges: NoNewPrivs is {facts.get('NoNewPrivs', 'not shown')}"
    # gVisor has no ambient capabilities, and does not show any.
    shown = _CAPABILITIES[: -1 if policy.isolation is Isolation.RUNSC else None]
    for name in shown:
        if facts.get(name, "").strip("0") or name not in facts:
            yield f"no capabilities: {name} is {facts.get(name, 'not shown')}"
    is_filtered = facts.get("Seccomp") == "2" or policy.isolation is Isolation.RUNSC
    if not is_filtered and "seccomp" not in policy.allow_missing:
        yield f"seccomp: mode {facts.get('Seccomp', 'not shown')} instead of 2"


def _ulimits(policy: Policy, limits: Limits, facts: Mapping[str, str]) -> Iterator[str]:
    for name, most in policy.ulimits(limits).items():
        found = _number(facts.get(f"ulimit-{name}"))
        if found is None or found > most:
            shown = "none is shown" if found is None else f"{found:g} is allowed"
            yield f"ulimit {name}: {shown} instead of {most}"


def _limits(policy: Policy, limits: Limits, facts: Mapping[str, str]) -> Iterator[str]:
    wanted: dict[str, tuple[float, float | None]] = {
        "memory-limit": (limits.memory_bytes, _number(facts.get("memory"))),
        "swap-limit": (0, _swap(facts)),
        "process-limit": (
            host_tasks(policy.isolation, limits.processes),
            _number(facts.get("processes")),
        ),
        "cpu-limit": (limits.cpus * _CPU_SHARE, _cpus(facts)),
    }
    for name, (most, found) in wanted.items():
        if name not in policy.allow_missing and (found is None or found > most):
            shown = "none is shown" if found is None else f"{found:g} is allowed"
            yield f"{name}: {shown} instead of {most:g}"


def _number(text: str | None) -> float | None:
    """Return a limit: infinite for "max" and for v1's -1, None if it is not shown."""
    if text is None:
        return None
    try:
        return float("inf") if text in {"max", "-1"} else float(text)
    except ValueError:
        return None


def _swap(facts: Mapping[str, str]) -> float | None:
    """Return how much swap may be used; version 1 has one limit for memory and swap together."""
    both, memory = _number(facts.get("memory+swap")), _number(facts.get("memory"))
    if both is not None and memory is not None:
        return both - memory
    return _number(facts.get("swap"))


def _cpus(facts: Mapping[str, str]) -> float | None:
    """Return how many processors may be used: the quota of each period, by that period."""
    together = facts.get("cpu", "").split()
    quota, period = (
        together if len(together) == 2 else (facts.get("cpu-quota"), facts.get("cpu-period"))
    )
    number, length = _number(quota), _number(period)
    return number / length if number is not None and length else None


def _paths(policy: Policy, facts: Mapping[str, str]) -> Iterator[str]:
    # A path that does not exist in this kernel has no line, and needs no cover.
    mounts = {path: facts.get(path, "tmpfs ro").split(" ") for path in policy.masked_paths}
    if bare := [path for path, (kind, *_) in mounts.items() if kind not in _MASKS]:
        yield f"masked paths: nothing covers {_listed(bare)}"
    mounts = {path: facts.get(path, "tmpfs ro").split(" ") for path in policy.readonly_paths}
    if writable := [path for path, (_, *mode) in mounts.items() if mode != ["ro"]]:
        yield f"read-only paths: {_listed(writable)} can be written"


def _listed(paths: list[str]) -> str:
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return ", ".join(paths[:3]) + more
