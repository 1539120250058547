"""`qrunner doctor`: whether this machine can run programs in sandboxes, and what to change if not.

It judges what the engine and the host report (`runner.doctor.inspection`), then runs a program in a
sandbox of each isolation that tries what must be impossible (`runner.doctor.probe`).
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from runner.backends.holders import Holders
from runner.display import one_line
from runner.doctor.differences import OVERCROWDING, difference_at
from runner.doctor.inspection import Facts, Finding, Status, judge
from runner.engine import Engine
from runner.engine.facts import EngineInfo
from runner.errors import RunnerError
from runner.job.record import JobRecord, Outcome
from runner.policy import INODE_LIMIT, has_runtime
from runner.policy.held import HeldBackend
from runner.policy.isolation import Isolation
from runner.sandboxes import cgroup
from runner.supervisor import Supervisor

PROBE: Final = Path(__file__).with_name("probe.py")

_VERSION_S: Final = 10.0
_REPORT: Final = (
    "do not run programs that you do not trust under this isolation here, and report it as "
    "SECURITY.md says"
)


def examine(
    *, progress: Callable[[str], object], backends: Sequence[HeldBackend] = ()
) -> Iterator[Finding]:
    """Yield the findings, the quick ones first; an engine that fails ends the examination.

    `backends` are those that this host holds; each is started.
    """
    yield from _held(backends, progress)
    try:
        engine = Engine.connect()
    except RunnerError as error:
        reason, _, advice = str(error).partition("\n")
        yield Finding(
            what="engine", status=Status.FAIL, found=reason, advice=advice.replace("\n", " ")
        )
        return
    try:
        info = engine.info()
        yield from judge(_facts(engine, info))
        for isolation in Isolation:
            if has_runtime(isolation, info.raw):
                progress(f"probing a sandbox under {isolation}")
                yield from _probe(engine, isolation, progress)
        progress("probing a cell")
        yield from _probe_cell(engine, progress)
    except RunnerError as error:
        advice = "see that the engine is running and not overloaded, then try again"
        yield Finding(what="engine", status=Status.FAIL, found=one_line(str(error)), advice=advice)
    finally:
        engine.close()


def _held(backends: Sequence[HeldBackend], progress: Callable[[str], object]) -> Iterator[Finding]:
    """Start each held backend as a job's first call would."""
    with contextlib.closing(Holders(backends, os.environ)) as holders:
        for each in backends:
            progress(f"starting backend {each.name}")
            what = f"backend {each.name}"
            try:
                device = holders.find(each.name)
                assert device is not None
                yield Finding(what=what, status=Status.OK, found=device.try_out())
            except RunnerError as error:
                advice = "see its table in qrunner.toml; `log` there names a file for its output"
                found = one_line(str(error))
                yield Finding(what=what, status=Status.FAIL, found=found, advice=advice)


def _facts(engine: Engine, info: EngineInfo) -> Facts:
    versions = dict(_version(each) for each in engine.components())
    if engine.is_local and (version := _runsc_version(info)):
        versions[Isolation.RUNSC.value] = version
    driver, rootless = info.cgroup_driver, info.is_rootless
    return Facts(
        address=engine.address,
        info=info.raw,
        versions=versions,
        reads_groups=engine.is_local
        and (cgroup.is_usable(driver=driver) or cgroup.is_found(driver=driver, rootless=rootless)),
    )


def _version(component: Mapping[str, Any]) -> tuple[str, str]:
    """Return name and version, with the distribution's own revision if a distribution built it."""
    version = str(component.get("Version", ""))
    built = str((component.get("Details") or {}).get("GitCommit", ""))
    return str(component.get("Name", "")), built if built.startswith(version) else version


def _runsc_version(info: EngineInfo) -> str | None:
    """Return the version that the engine's runsc reports; None if it is missing or reports none."""
    runtime = (info.raw.get("Runtimes") or {}).get(Isolation.RUNSC.value) or {}
    path = Path(runtime.get("path") or "")
    if not path.is_absolute() or not path.is_file():
        return None
    try:
        done = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=_VERSION_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    first = done.stdout.splitlines()[:1]
    return first[0].removeprefix("runsc version ").strip() if first else None


def _probe(
    engine: Engine, isolation: Isolation, progress: Callable[[str], object]
) -> Iterator[Finding]:
    """Run the probe in an ordinary sandbox, and judge what it could do."""
    with Supervisor(engine=engine, isolation=isolation, progress=progress) as supervisor:
        record = supervisor.run(PROBE).wait()
    yield from _judge(f"sandbox {isolation}", isolation, record)


def _probe_cell(engine: Engine, progress: Callable[[str], object]) -> Iterator[Finding]:
    """Run the probe in a cell, or say why there are none."""
    with Supervisor(engine=engine, warm=True, progress=progress) as supervisor:
        record = supervisor.run(PROBE).wait()
        obstacle = supervisor.cell_obstacle()
    if obstacle:
        yield Finding(
            what="cells",
            status=Status.WARN,
            found=f"none are made here: {one_line(obstacle)}",
            advice="warm jobs take a container each, and sessions separate jobs less strictly: "
            "docs/sessions.md",
        )
        return
    yield from _judge("cells", Isolation.RUNC, record)


def _judge(what: str, isolation: Isolation, record: JobRecord) -> Iterator[Finding]:
    if record.outcome is not Outcome.COMPLETED or record.result is None:
        reason = one_line(record.error or record.evidence.detail or "")
        yield Finding(
            what=what,
            status=Status.FAIL,
            found=f"the probe ended as {record.outcome}: {reason}",
            advice="mend what the lines above say; then try: qrunner run hello_world",
        )
        return
    yield Finding(what=what, status=Status.OK, found=_working(record))
    yield from judge_probe(isolation, json.loads(record.result), missing=record.exceptions)


def _working(record: JobRecord) -> str:
    wall = f"{record.usage.wall_s:.1f} s" if record.usage.wall_s is not None else "some time"
    return f"ran a program for {wall}, frames carried by {record.carrier}"


def judge_probe(
    isolation: Isolation, rows: list[list[Any]], *, missing: Sequence[str] = ()
) -> Iterator[Finding]:
    """Judge the probe's attempts: success is a failure unless a known difference explains it.

    `missing` are the exceptions in the record of the probe's job.
    """
    what = f"probe {isolation}"
    worked = {str(name): str(seen) for name, success, seen in rows if success}
    known = {name: difference_at(isolation, name) for name in worked}
    if f"missing {INODE_LIMIT}" in missing:  # as under runsc
        crowded = (name for name in worked if name.startswith(OVERCROWDING))
        known |= {name: difference_at(Isolation.RUNSC, name) for name in crowded}
    for name, seen in worked.items():
        if known[name] is None:
            shown = f" ({one_line(seen)})" if seen else ""
            found = f"this must be impossible and is not: {one_line(name)}{shown}"
            yield Finding(what=what, status=Status.FAIL, found=found, advice=_REPORT)
    advised = {each for each in known.values() if each is not None and each.advice}
    for difference in sorted(advised, key=lambda each: each.option):
        count = sum(1 for each in known.values() if each is difference)
        found = f"{difference.option}: {count} attempts met nothing but {difference.bounded_by}"
        yield Finding(what=what, status=Status.WARN, found=found, advice=difference.advice)
    if not worked or all(each and not each.advice for each in known.values()):
        bounded = sorted({each.option for each in known.values() if each})
        also = f"; bounded otherwise: {', '.join(bounded)}" if bounded else ""
        found = f"{len(rows) - len(worked)} of {len(rows)} attempts refused{also}"
        yield Finding(what=what, status=Status.OK, found=found)
