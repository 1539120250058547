"""`qrunner doctor`: can this machine run programs in sandboxes, and if not, what to change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from runner.engine import Engine, EngineInfo
from runner.errors import RunnerError
from runner.job import Outcome
from runner.policy import Isolation
from runner.supervisor import Supervisor

PROBE = "hello_world"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One examined thing; `detail` says what was found and, if it is not ok, what to change."""

    what: str
    ok: bool
    detail: str

    def as_dict(self) -> dict[str, Any]:
        """Return the keys of the JSON form."""
        return asdict(self)


def examine(*, progress: Callable[[str], object]) -> list[Finding]:
    """Look at the engine and run one program; later findings are left out if the engine fails."""
    try:
        engine = Engine.connect()
        info = engine.info()
    except RunnerError as error:
        return [Finding(what="engine", ok=False, detail=str(error).replace("\n", " "))]
    engine_detail = f"{info.version} at {engine.address}, {info.architecture}, {info.cpus} cores"
    engine.close()
    return [
        Finding(what="engine", ok=True, detail=engine_detail),
        _seccomp(info),
        _cgroups(info),
        _isolations(info),
        _probe(progress),
    ]


def _seccomp(info: EngineInfo) -> Finding:
    ok = any("seccomp" in option for option in info.security_options)
    detail = "on" if ok else "off: use an engine and a kernel with seccomp"
    return Finding(what="seccomp", ok=ok, detail=detail)


def _cgroups(info: EngineInfo) -> Finding:
    missing = [
        name
        for name in ("MemoryLimit", "SwapLimit", "PidsLimit", "CpuCfsQuota")
        if info.raw.get(name) is False
    ]
    detail = f"version {info.cgroup_version}, driver {info.cgroup_driver}"
    if missing:
        detail += f"; the engine cannot enforce {', '.join(missing)}: enable these controllers"
    return Finding(what="cgroups", ok=not missing, detail=detail)


def _isolations(info: EngineInfo) -> Finding:
    found = [each.value for each in Isolation if each in info.runtimes]
    detail = ", ".join(found) or "no runtime that is known to us"
    if Isolation.RUNSC not in found:
        detail += "; for --isolation runsc install gVisor and register it with the engine"
    return Finding(what="isolation", ok=Isolation.RUNC in found, detail=detail)


def _probe(progress: Callable[[str], object]) -> Finding:
    try:
        with Supervisor(progress=progress) as supervisor:
            record = supervisor.run(PROBE).wait()
    except RunnerError as error:
        return Finding(what="sandbox", ok=False, detail=str(error))
    ok = record.outcome is Outcome.COMPLETED
    detail = f"{PROBE} {record.outcome}, frames carried by {record.carrier}"
    return Finding(what="sandbox", ok=ok, detail=detail if ok else f"{detail}: {record.error}")
