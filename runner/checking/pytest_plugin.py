"""The pytest plugin: `pytest --qrunner` collects the cases of programs as tests.

Without `--qrunner` it adds two options and a fixture, and imports nothing else.  pytest itself
executes a project's `conftest.py` on the host, so the plugin is for your own programs; use `qrunner
check` for those of others.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from runner.supervisor import Supervisor

_SUPERVISOR = pytest.StashKey["Supervisor"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that enable the plugin and set the isolation."""
    group = parser.getgroup("qrunner", "programs in sandboxes (qiskit-program-runner)")
    group.addoption(
        "--qrunner",
        action="store_true",
        help="collect the cases of programs (program.yaml, cases/*.json) as tests",
    )
    group.addoption(
        "--qrunner-isolation", choices=("runc", "runsc"), help="engine runtime (default: runc)"
    )
    group.addoption(
        "--qrunner-config", type=Path, metavar="FILE", help="the operator's qrunner.toml"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the collection of programs, if it was requested."""
    if config.getoption("--qrunner"):
        config.pluginmanager.register(_Collection(), "qrunner-collection")


@pytest.fixture(scope="session")
def supervisor(request: pytest.FixtureRequest) -> Supervisor:
    """Return a `runner.Supervisor` for the whole session, with the operator's limits.

    Skips the test without `--qrunner`.
    """
    if not request.config.getoption("--qrunner"):
        pytest.skip("the fixture supervisor runs sandboxes: enable it with --qrunner")
    return _supervisor(request.config)


def _supervisor(config: pytest.Config) -> Supervisor:
    """Return the session's supervisor, made on first use."""
    if _SUPERVISOR not in config.stash:
        from runner.policy.settings import load
        from runner.supervisor import Supervisor

        flags = {"isolation": config.getoption("--qrunner-isolation")}
        chosen = load(config.getoption("--qrunner-config")).replaced_by(flags)
        made = Supervisor(
            limits=chosen.limits,
            policy=chosen.policy,
            max_jobs=chosen.jobs,
            backends=chosen.backends,
        )
        config.stash[_SUPERVISOR] = made
        config.add_cleanup(made.close)
    return config.stash[_SUPERVISOR]


class _Collection:
    """The hook that finds programs; registered only with `--qrunner`."""

    def pytest_collect_file(
        self, file_path: Path, parent: pytest.Collector
    ) -> pytest.Collector | None:
        """Collect the cases of a program from its manifest."""
        from runner.programs.manifest import MANIFEST_NAMES

        if file_path.name not in MANIFEST_NAMES:
            return None
        found: pytest.Collector = ProgramFile.from_parent(parent, path=file_path)
        return found


class ProgramFile(pytest.File):
    """A program, whose cases are the tests."""

    def collect(self) -> Iterator[pytest.Item]:
        """Yield a test for each case, or one that fails if the program cannot be used."""
        from runner.checking.check import plan

        for each in plan([str(self.path.parent)]):
            yield CaseItem.from_parent(self, name=each.case, planned=each)


class CaseFailedError(Exception):
    """A case does not hold; contains its report."""


class CaseItem(pytest.Item):
    """One case, run in a sandbox of its own."""

    def __init__(self, *, planned: Any, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._planned = planned

    def runtest(self) -> None:
        """Run the case.  Raises CaseFailedError if it does not hold."""
        from runner.checking.check import Check

        checking = Check(_supervisor(self.config), [self._planned], jobs=1)
        (report,) = checking.run()
        if not report.holds:
            raise CaseFailedError(report)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Show the differences and the end of the log, escaped, instead of our own traceback."""
        if not isinstance(excinfo.value, CaseFailedError):
            return super().repr_failure(excinfo, style)
        from runner.checking.report import human_lines

        _, lines = human_lines(excinfo.value.args[0])
        return lines.rstrip("\n")

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Return the program and its case for the heading of a failure."""
        from runner.display import one_line

        return self.path, None, one_line(f"{self.path.parent.name} :: {self.name}")
