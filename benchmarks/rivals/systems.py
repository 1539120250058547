"""The systems that people use today, each as its own documentation says, in the fastest way.

Runs in an environment of its own (`tools/setup-group bench`): nothing of the runner is imported.
What is chosen for them: an image that has everything, so that they install nothing; no network; an
`init` and a command that lets a container of llm-sandbox end at once instead of after ten seconds;
limits of epicbox that are no tighter than a sandbox's.  All else is their default, user root too.
"""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib import metadata
from typing import Any

WORKDIR = "/sandbox"
LIMITS = {"cputime": 120, "realtime": 120, "memory": 2048}


class System(ABC):
    """One rival, as it is asked to run the program of one image."""

    package: str

    def __init__(self, image: str, driver: str, labels: dict[str, str]) -> None:
        self.image = image
        self.driver = driver
        self.labels = labels

    def version(self) -> str:
        return metadata.version(self.package)

    def open(self) -> None:  # noqa: B027  nothing, for most
        """Make ready."""

    @abstractmethod
    def run(self, inputs: dict[str, Any]) -> tuple[str, float]:
        """Return what the driver wrote, and the seconds until it was in the caller's hands."""

    def close(self) -> None:  # noqa: B027
        """Leave nothing behind."""


class Epicbox(System):
    """A container for each job; its files are copied in, its output is read until it ends."""

    package = "epicbox"

    def open(self) -> None:
        import epicbox

        epicbox.configure(profiles=[epicbox.Profile("python", self.image)])

    def run(self, inputs: dict[str, Any]) -> tuple[str, float]:
        import epicbox

        began = time.perf_counter()
        answer = epicbox.run(
            "python",
            "python3 driver.py",
            files=[{"name": "driver.py", "content": self.driver.encode()}],
            stdin=json.dumps(inputs) + "\n",
            limits=dict(LIMITS),
        )
        seconds = time.perf_counter() - began
        return _output(answer["exit_code"], answer["stdout"].decode(), answer["stderr"]), seconds


class LlmSandbox(System):
    """A session for each job: a container is started, and the code is copied and executed in it."""

    package = "llm-sandbox"

    def options(self) -> dict[str, Any]:
        return {
            "image": self.image,
            "lang": "python",
            "workdir": WORKDIR,
            "skip_environment_setup": True,
            "runtime_configs": {
                "network_mode": "none",
                "init": True,
                "command": "sleep infinity",
                "labels": self.labels,
            },
        }

    def session(self) -> Any:
        from llm_sandbox import SandboxSession

        return SandboxSession(**self.options())

    def run(self, inputs: dict[str, Any]) -> tuple[str, float]:
        code = f"import os\nos.environ['INPUTS'] = {json.dumps(inputs)!r}\n{self.driver}"
        began = time.perf_counter()
        with self.session() as session:
            answer = session.run(code)
            seconds = time.perf_counter() - began
        return _output(answer.exit_code, answer.stdout, answer.stderr), seconds


class LlmSandboxPool(LlmSandbox):
    """Sessions in containers of a pool, which serve one caller after another."""

    size = 2

    def open(self) -> None:
        from llm_sandbox.pool import PoolConfig, create_pool_manager

        config = PoolConfig(min_pool_size=self.size, max_pool_size=self.size)
        self.pool = create_pool_manager(config=config, **self.options())
        deadline = time.monotonic() + 60
        while self.pool.get_stats()["state_counts"].get("idle", 0) < self.size:
            if time.monotonic() > deadline:
                msg = f"its pool is not full after a minute: {self.pool.get_stats()}"
                raise TimeoutError(msg)
            time.sleep(0.1)

    def session(self) -> Any:
        from llm_sandbox import SandboxSession

        return SandboxSession(pool=self.pool, lang="python", workdir=WORKDIR)

    def close(self) -> None:
        self.pool.close()


def _output(exit_code: int, output: str, errors: str | bytes) -> str:
    if exit_code:
        msg = f"exit code {exit_code}: {output[-200:]!r} {errors[-200:]!r}"
        raise RuntimeError(msg)
    return output


SYSTEMS: dict[str, Callable[..., System]] = {
    "epicbox": Epicbox,
    "llm-sandbox": LlmSandbox,
    "llm-sandbox-pooled": LlmSandboxPool,
}
