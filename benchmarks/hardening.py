"""What the hardening costs: cold start of a sandbox against a bare container of the same image.

Both go through the same calls: create, attach, start, wait until the guest says `ready`, remove.
They differ in the configuration only: all of `runner.policy` on one side, the engine's defaults and
no network on the other, as `docker run --network=none -i IMAGE` would have it.  A third is bare
but for one option of ours, `NetworkDisabled`, which saves the engine work: against that one the
rest is measured without this gain.  Interleaved, so that a busy moment of the machine hits all.
"""

from __future__ import annotations

import time
from typing import Any

from benchmarks.report import Row, arguments, median, report
from runner.engine import Engine
from runner.host.processes import HostProcess
from runner.images import ImageStore
from runner.policy import Limits, Policy
from runner.sandboxes.container import container_config

TARGET = 1.05
FIRST_UID = (1 << 21) + (1 << 20)  # above those of supervisors


SAME = ("Image", "Entrypoint", "Cmd", "Env", "WorkingDir", "OpenStdin", "StdinOnce", "Tty")
SAME += ("AttachStdin", "AttachStdout", "AttachStderr")


def bare(image: str, number: int) -> dict[str, Any]:
    """Return what `docker run --network=none -i` with the same command and environment sends."""
    config = {name: hardened(image, number)[name] for name in SAME}
    return {**config, "HostConfig": {"NetworkMode": "none"}, "Labels": labels("bare")}


def hardened(image: str, number: int) -> dict[str, Any]:
    """Return what a supervisor sends for a sandbox of this image."""
    return container_config(
        Policy(),
        Limits(),
        image=image,
        uid=FIRST_UID + number,
        labels=labels("hardened"),
        channel_directory=None,
        cgroup_parent=None,
    )


def labels(name: str) -> dict[str, str]:
    """Return labels by which a sweep finds what a killed benchmark leaves."""
    prefix = "io.qiskit-program-runner"
    return {f"{prefix}.sandbox": name, f"{prefix}.owner": str(HostProcess.current())}


def measure(engine: Engine, config: dict[str, Any], name: str) -> tuple[float, float]:
    """Return the seconds until the container runs our code, and until it is removed."""
    began = time.perf_counter()
    container = engine.create(config, name=name, warnings_pass=True)
    try:
        attachment = engine.attach(container)
        try:
            engine.start(container)
            while not (pieces := attachment.receive()):
                if pieces is None:
                    msg = f"{name} ended before it was ready"
                    raise SystemExit(msg)
                time.sleep(0.0005)
            ready = time.perf_counter() - began
        finally:
            attachment.close()
    finally:
        engine.remove(container)
    return ready, time.perf_counter() - began


def main() -> int:
    """Measure and report; 1 if the hardening costs more than it may."""
    options = arguments(__doc__, rounds=30)
    engine = Engine.connect()
    image = ImageStore(engine, progress=print).guest()
    times: dict[str, list[tuple[float, float]]] = {"bare": [], "offline": [], "hardened": []}
    for number in range(options.rounds + 2):
        configs = {
            "bare": bare(image, number),
            "offline": {**bare(image, number), "NetworkDisabled": True},
            "hardened": hardened(image, number),
        }
        order = list(configs.items())
        for kind, config in order if number % 2 else reversed(order):
            times[kind].append(measure(engine, config, f"qrunner-bench-{kind}-{number}"))
    engine.close()
    ready, whole = (
        {kind: median([each[index] for each in pairs[2:]]) for kind, pairs in times.items()}
        for index in (0, 1)
    )
    rows = [
        Row("create → ready, bare container", ready["bare"] * 1e3, "ms"),
        Row("create → ready, sandbox", ready["hardened"] * 1e3, "ms"),
        Row("  ratio", ready["hardened"] / ready["bare"], "times", at_most=TARGET),
        Row("create → ready, bare with NetworkDisabled", ready["offline"] * 1e3, "ms"),
        Row("  ratio to it", ready["hardened"] / ready["offline"], "times", at_most=TARGET),
        Row("create → removed, bare container", whole["bare"] * 1e3, "ms"),
        Row("create → removed, sandbox", whole["hardened"] * 1e3, "ms"),
        Row("  ratio", whole["hardened"] / whole["bare"], "times"),
    ]
    return report("hardening", rows, options)


if __name__ == "__main__":
    raise SystemExit(main())
