"""Run what decides on the machines that people have: `make test-machines`.

Each environment is a user and an engine on a machine of `tools/machine`; in each the same commands
run, and `build/machines.md` gets a line with what came of them.  Names as arguments choose some of
the environments.  The exit code is 1 if anything has failed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
TABLE: Final = ROOT / "build" / "machines.md"
COMMAND_S: Final = 3600.0
SLOWER: Final = 3
"""How many times slower such a machine is: each of its system calls is several of its host's."""

ROOTLESS_DOCKER: Final = (
    "systemd-run --user --quiet --unit qrunner-docker --setenv PATH=/usr/sbin:/usr/bin "
    "/usr/share/docker.io/contrib/dockerd-rootless.sh --iptables=false --ip6tables=false "
    "--bridge=none && sleep 10"
)
CONTAINERD_STORE: Final = (
    "mkdir -p /etc/docker && "
    """echo '{"features": {"containerd-snapshotter": true}}' >/etc/docker/daemon.json && """
    "systemctl restart docker"
)
CRUN: Final = (
    "rm -f /etc/docker/daemon.json && systemctl restart docker && "
    'mount --bind /usr/bin/crun "$(readlink -f "$(command -v runc)")"'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """A user and an engine; `prepare` starts the engine, `host` is its DOCKER_HOST."""

    name: str
    user: str = "root"
    prepare: str = "true"
    host: str = ""


ENVIRONMENTS: Final = (
    Environment(name="docker-root"),
    Environment(name="docker-group", user="dev"),
    Environment(
        name="docker-rootless",
        user="free",
        prepare=ROOTLESS_DOCKER,
        host="unix://$XDG_RUNTIME_DIR/docker.sock",
    ),
    Environment(
        name="podman-root",
        prepare="systemctl start podman.socket",
        host="unix:///run/podman/podman.sock",
    ),
    Environment(
        name="podman-rootless",
        user="free",
        prepare="systemctl --user start podman.socket",
        host="unix://$XDG_RUNTIME_DIR/podman/podman.sock",
    ),
    # They change the machine's Docker, so they come last.
    Environment(name="docker-containerd-store", prepare=CONTAINERD_STORE),
    Environment(name="docker-crun", prepare=CRUN),
)

_PYTEST: Final = ".venv/bin/python -m pytest -q -p no:cacheprovider"
COMMANDS: Final = {
    "doctor": ".venv/bin/qrunner doctor",
    "run": ".venv/bin/qrunner run random_circuits",
    "outcomes": f"{_PYTEST} -m outcomes -k 'not [stdio and not [runsc and not [user' tests/engine",
    "cells": f"{_PYTEST} tests/engine/test_cells.py",
    "corpus-in-cells": f"{_PYTEST} tests/security/test_cells.py",
    "corpus": f"{_PYTEST} tests/security/test_corpus.py -k 'not runsc'",
}


def main() -> int:
    chosen = set(sys.argv[1:]) or {each.name for each in ENVIRONMENTS}
    if unknown := chosen - {each.name for each in ENVIRONMENTS}:
        known = ", ".join(each.name for each in ENVIRONMENTS)
        print(f"no environment {', '.join(sorted(unknown))}: known are {known}", file=sys.stderr)
        return 2
    commands = os.environ.get("MACHINE_COMMANDS", " ".join(COMMANDS)).split()
    if unknown := set(commands) - COMMANDS.keys():
        print(f"no command {', '.join(sorted(unknown))}: known are {', '.join(COMMANDS)}")
        return 2
    TABLE.parent.mkdir(exist_ok=True)
    machine("start")
    try:
        machine("project")
        lines = [line_of(each, commands) for each in ENVIRONMENTS if each.name in chosen]
    finally:
        machine("stop")
    head = ["environment", "versions", *commands, "when"]
    table = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *lines]
    TABLE.write_text("\n".join(table) + "\n")
    print(TABLE.read_text())
    return int(any("FAILED" in each for each in lines))


def line_of(environment: Environment, commands: list[str]) -> str:
    """Return the environment's line of the table."""
    versions = inside(environment, f"{environment.prepare} && {LOAD} && {VERSIONS}")
    print(f"{environment.name}: {versions.stdout}{versions.stderr}", flush=True)
    found = [came_of(environment, each) for each in commands]
    shown = ", ".join(versions.stdout.split("\n")).strip(", ") or "FAILED"
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    return f"| {' | '.join([environment.name, shown, *found, day])} |"


LOAD: Final = "docker load --quiet --input /srv/stack.tar >/dev/null"
VERSIONS: Final = (
    "docker version --format '{{range .Server.Components}}{{.Name}} {{.Version}}, {{end}}' "
    "| sed 's/, docker-init.*//; s/Conmon.*unknown, //; s/, $//' | head -n 1 && python3 --version"
)


def came_of(environment: Environment, name: str) -> str:
    """Run one command; return in a few words what came of it, and keep its output."""
    began = time.monotonic()
    done = inside(environment, f"cd /srv/project && {COMMANDS[name]}")
    output = TABLE.with_name(f"machines-{environment.name}-{name}.log")
    output.write_text(done.stdout + done.stderr)
    counted = re.search(r"\d+ (?:passed|failed)[^\n]*?(?= in )", done.stdout)
    attempts = re.search(r"\d+ of \d+ attempts refused", done.stdout)
    what = (counted or attempts or re.search("", ""))[0]
    state = "ok" if done.returncode == 0 else f"FAILED ({done.returncode})"
    print(f"  {name}: {state} {what} after {time.monotonic() - began:.0f} s", flush=True)
    return f"{state} {what}".strip()


def inside(environment: Environment, command: str) -> subprocess.CompletedProcess[str]:
    """Run a shell command as the environment's user, with its engine."""
    settings = "export QRUNNER_ENGINE_MUST_WORK=1 PYTHONDONTWRITEBYTECODE=1"
    settings += f" QRUNNER_TEST_PATIENCE={SLOWER}"
    if environment.host:
        settings += f" DOCKER_HOST={environment.host}"
    return machine("sh", "-u", environment.user, f"{settings}; {command}", check=False)


def machine(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "tools" / "machine", *arguments],
        stdout=subprocess.PIPE if not check else None,
        stderr=subprocess.PIPE if not check else None,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=COMMAND_S,
        check=check,
    )


if __name__ == "__main__":
    sys.exit(main())
