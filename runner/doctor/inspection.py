"""Findings from what an engine and its host report about themselves, each with advice.

All functions are pure functions of `Facts`.  `runner.doctor.examination` gathers the facts, and
adds the findings that need a real sandbox.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

from runner.doctor import flaws
from runner.doctor.flaws import Component
from runner.policy import GIB, REQUIREMENTS, has_runtime, is_met, is_podman
from runner.policy.isolation import GET_RUNSC, Isolation

OLDEST_KERNEL: Final = (5, 10)
"""The oldest kernel series that is still maintained."""

_MEMORY_PEAK_KERNEL: Final = (5, 19)
_CGROUP_KILL_KERNEL: Final = (5, 14)
_SLOW_STORAGE: Final = {"vfs", "devicemapper", "aufs", "overlay"}


class Status(StrEnum):
    """The judgement of a finding; only FAIL makes the examination fail."""

    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The finding about one subject, `what`; `advice` says what to change, empty if it is ok."""

    what: str
    status: Status
    found: str
    advice: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the keys of the JSON form."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known without starting a sandbox.

    `info` is the engine's own description.  `versions` has the version of each of its components,
    by name.  `reads_groups` is True if the supervisor can read and kill the control groups of
    sandboxes.
    """

    address: str
    info: Mapping[str, Any]
    versions: Mapping[str, str]
    reads_groups: bool

    @property
    def kernel(self) -> tuple[int, ...]:
        return flaws.parse_version(str(self.info.get("KernelVersion", ""))) or ()

    @property
    def cgroup_version(self) -> str:
        return str(self.info.get("CgroupVersion", "1"))


def judge(facts: Facts) -> Iterator[Finding]:
    """Yield the findings that follow from the facts."""
    yield _engine(facts)
    yield from _versions(facts)
    yield _kernel(facts)
    yield _cgroups(facts)
    yield from _requirements(facts)
    yield _figures(facts)
    yield _last_resort(facts)
    yield _mandatory_access(facts)
    yield _users(facts)
    yield _storage(facts)
    yield _live_restore(facts)
    yield _runsc(facts)


def _engine(facts: Facts) -> Finding:
    info = facts.info
    memory = int(info.get("MemTotal", 0)) / GIB
    found = (
        f"{info.get('ServerVersion')} at {facts.address}, {info.get('Architecture')}, "
        f"{info.get('NCPU')} cores, {memory:.1f} GiB"
    )
    return Finding(what="engine", status=Status.OK, found=found)


def _versions(facts: Facts) -> Iterator[Finding]:
    for component in Component:
        version = facts.versions.get(component.value)
        if version is None:
            continue
        what = f"{component.value.lower()} version"
        known = flaws.flaws_of(component, version)
        if not known:
            yield Finding(what=what, status=Status.OK, found=f"{version}, no flaw known to us")
            continue
        listed = "; ".join(f"{each.name}: {each.allows}" for each in known)
        wanted = " or ".join(known[-1].fixed_in)
        if flaws.is_packaged(version):
            advice = (
                "the distribution may have mended these without a new number: keep its security "
                f"updates installed and compare its tracker; else upgrade to {wanted}"
            )
            status = Status.WARN
        else:
            advice = f"upgrade it to {wanted}, or newer"
            status = Status.FAIL
        yield Finding(what=what, status=status, found=f"{version}: {listed}", advice=advice)


def _kernel(facts: Facts) -> Finding:
    found = str(facts.info.get("KernelVersion", "unknown"))
    if not facts.kernel or facts.kernel >= OLDEST_KERNEL:
        return Finding(what="kernel", status=Status.OK, found=found)
    oldest = ".".join(map(str, OLDEST_KERNEL))
    advice = f"under runc programs share this kernel: use one that is maintained, {oldest} or newer"
    return Finding(what="kernel", status=Status.WARN, found=found, advice=advice)


def _cgroups(facts: Facts) -> Finding:
    found = f"version {facts.cgroup_version}, driver {facts.info.get('CgroupDriver')}"
    if facts.cgroup_version != "1" and facts.kernel < _MEMORY_PEAK_KERNEL:
        return Finding(
            what="cgroups",
            status=Status.WARN,
            found=f"{found}, without memory.peak",
            advice="use Linux 5.19 or newer to learn the peak memory of jobs",
        )
    return Finding(what="cgroups", status=Status.OK, found=found)


def _requirements(facts: Facts) -> Iterator[Finding]:
    for name, each in REQUIREMENTS.items():
        if is_met(name, facts.info):
            yield Finding(what=name, status=Status.OK, found="on")
        else:
            advice = f"{each.remedy}, or do without by name: --allow-missing {name}"
            yield Finding(
                what=name, status=Status.FAIL, found=f"missing: {each.lost}", advice=advice
            )


def _figures(facts: Facts) -> Finding:
    if facts.reads_groups:
        return Finding(what="figures", status=Status.OK, found="read from control groups here")
    found = "read inside each sandbox from its own control group, by a process of ours"
    return Finding(what="figures", status=Status.OK, found=found)


def _last_resort(facts: Facts) -> Finding:
    """Return the finding about what ends a sandbox that the engine cannot end."""
    what = "last resort"
    if not facts.reads_groups:
        return Finding(
            what=what,
            status=Status.WARN,
            found="only the engine, and the sandbox itself at its deadline, can end a sandbox",
            advice="run as root on the engine's machine",
        )
    if facts.cgroup_version != "1" and facts.kernel >= _CGROUP_KILL_KERNEL:
        return Finding(what=what, status=Status.OK, found="cgroup.kill")
    return Finding(what=what, status=Status.OK, found="SIGKILL to the processes of its group")


def _options(facts: Facts) -> set[str]:
    """Return the names in the engine's security options, such as "name=seccomp,profile=default"."""
    options = facts.info.get("SecurityOptions") or ()
    return {str(each).split(",")[0].removeprefix("name=") for each in options}


def _mandatory_access(facts: Facts) -> Finding:
    found = sorted({"apparmor", "selinux"} & _options(facts))
    if found:
        return Finding(what="AppArmor, SELinux", status=Status.OK, found=", ".join(found))
    advice = "where the kernel has one of them, enable it: a second line behind all others"
    return Finding(what="AppArmor, SELinux", status=Status.WARN, found="neither", advice=advice)


def _users(facts: Facts) -> Finding:
    if "rootless" in _options(facts):
        return Finding(what="user ids", status=Status.OK, found="the engine is rootless")
    if "userns" in _options(facts):
        return Finding(what="user ids", status=Status.OK, found="remapped by the engine")
    return Finding(
        what="user ids",
        status=Status.WARN,
        found="the engine runs as root and maps none; each sandbox has its own, above 2^21",
        advice="against flaws of runc and engine: a rootless engine, or userns-remap",
    )


def _storage(facts: Facts) -> Finding:
    driver = str(facts.info.get("Driver", "unknown"))
    # Podman calls its overlay2 so; Docker's "overlay" is an older driver.
    is_slow = driver in _SLOW_STORAGE - ({"overlay"} if is_podman(facts.info) else set())
    if is_slow:
        advice = "use overlay2: this driver copies images, or is no longer maintained"
        return Finding(what="storage", status=Status.WARN, found=driver, advice=advice)
    return Finding(what="storage", status=Status.OK, found=driver)


def _live_restore(facts: Facts) -> Finding:
    if not facts.info.get("LiveRestoreEnabled"):
        return Finding(what="live-restore", status=Status.OK, found="off")
    return Finding(
        what="live-restore",
        status=Status.WARN,
        found="on: a sandbox may outlive the engine that it was started by, until its deadline",
        advice='unless other containers need it, set "live-restore": false for the engine',
    )


def _runsc(facts: Facts) -> Finding:
    what = "runsc flags"
    runtimes = facts.info.get("Runtimes") or {}
    runtime = runtimes.get(Isolation.RUNSC.value)
    if runtime is None or not has_runtime(Isolation.RUNSC, facts.info):
        found = "no runtime runsc: --isolation runsc is not available"
        return Finding(what=what, status=Status.WARN, found=found, advice=GET_RUNSC)
    flags = " ".join(runtime.get("runtimeArgs") or ())
    lacking = []
    if "oci-seccomp" not in flags:
        lacking.append("--oci-seccomp (our filter of system calls is ignored)")
    if "host-uds" not in flags:
        lacking.append("--host-uds=open (messages share the result's stream)")
    if lacking:
        advice = f"register it with {' and '.join(lacking)}: {GET_RUNSC}"
        return Finding(what=what, status=Status.WARN, found=flags or "none", advice=advice)
    return Finding(what=what, status=Status.OK, found=flags)
