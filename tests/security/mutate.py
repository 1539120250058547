"""Does the test that holds a promise fail when the promise is broken?  `make mutate [PROMISES=…]`.

`mutations.toml` breaks each promise of docs/threat-model.md in a line or two.  Each mutation is
made in a copy of the tree, where the tests that it names run with the copy's own packages, commands
and guest image.  Before that they run in a copy that is whole: a test that fails there, or is
skipped, is no evidence.  The exit code is 1 if a mutation survives a test, or says nothing.

`python -m tests.security.mutate [PROMISE…]`.  The mutations are harmless to the machine: what they
let a program do beyond a bound is little.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from runner.engine import Engine
from runner.sandboxes.sweep import sweep
from tests.engine.traces import LEFT_BEHIND

ROOT = Path(__file__).parents[2]
TABLE = Path(__file__).with_name("mutations.toml")
NOT_COPIED = (".git", ".venv", ".*_cache", ".hypothesis", "__pycache__", "build", "dist")
RUN_S = 300.0
"""How long the tests of one mutation may take; those of all promises, unbroken, six times that."""

ENDED = frozenset({0, 1, LEFT_BEHIND})
"""The exit codes of tests that were run; what is broken may leave something behind."""


class MutationError(Exception):
    """A mutation that says nothing: it cannot be made, or its tests cannot be run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """One way to break a promise: what stands in a file once, what is to stand there instead.

    `breaks` says in words what no longer holds.  `tests` are pytest's names of those that must
    fail, each of them; those `beside` them run before, for what they make.
    """

    promise: str
    breaks: str
    file: str
    old: str
    new: str
    tests: Sequence[str]
    beside: Sequence[str] = ()

    def apply(self, tree: Path) -> None:
        """Change the file in a tree.  Raises MutationError unless the old text is there once."""
        path = tree / self.file
        text = path.read_text() if path.is_file() else ""
        if (count := text.count(self.old)) != 1:
            msg = (
                f"{self.promise}, {self.breaks}: {self.old!r} stands {count} times in {self.file}, "
                f"not once: mend {TABLE.name}"
            )
            raise MutationError(msg)
        path.write_text(text.replace(self.old, self.new))


def mutations() -> list[Mutation]:
    """Return all mutations, in the order of their file."""
    table = tomllib.loads(TABLE.read_text())
    return [Mutation(promise=promise, **each) for promise, found in table.items() for each in found]


@contextlib.contextmanager
def copied() -> Iterator[Path]:
    """Make a copy of the tree, without what was made from it."""
    with tempfile.TemporaryDirectory(prefix="qrunner-mutate-") as directory:
        tree = Path(directory) / "tree"
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*NOT_COPIED), symlinks=True)
        yield tree


def failures(tree: Path, tests: Sequence[str], timeout_s: float = RUN_S) -> dict[str, str]:
    """Run tests of a tree with its own packages; return those that fail, with the reason.

    Raises MutationError if they do not come to an end, or if one of them says nothing.
    """
    report = tree.parent / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", f"--junitxml={report}", *tests]
    environment = {**os.environ, "PYTHONPATH": str(tree), "QRUNNER_ENGINE_MUST_WORK": "1"}
    with (
        tempfile.TemporaryFile() as output,  # and no pipe, which a child might hold open
        subprocess.Popen(
            command,
            cwd=tree,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process,
    ):
        try:
            status = process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            msg = f"its tests did not end within {timeout_s:g} s"
            raise MutationError(msg) from error
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        output.seek(0)
        said = output.read().decode(errors="replace")
    cases = list(ET.parse(report).iter("testcase")) if report.is_file() else []
    if not cases or status not in ENDED or any(each.find("skipped") is not None for each in cases):
        msg = f"its tests cannot be run, or not all of them (pytest: {status}):\n{said[-3000:]}"
        raise MutationError(msg)
    failing = {
        f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}": found
        for case in cases
        for found in (*case.iter("failure"), *case.iter("error"))
    }
    return {name: " ".join(each.get("message", "").split()) for name, each in failing.items()}


def survived(mutation: Mutation, failing: Mapping[str, str]) -> list[str]:
    """Return the tests that a mutation survives; of one with parameters, any may have failed."""
    names = {*failing, *(name.partition("[")[0] for name in failing)}
    return [each for each in mutation.tests if each not in names]


def verdict(mutation: Mutation) -> tuple[str, str]:
    """Make one mutation in a copy and run its tests; return a word, and what it rests on."""
    try:
        with copied() as tree:
            mutation.apply(tree)
            tests = [*mutation.beside, *mutation.tests]
            failing = failures(tree, tests)
            if any("sandbox_error" in reason for reason in failing.values()):
                failing = failures(tree, tests)  # once may have been the machine's fault
    except MutationError as error:
        return "ERROR", str(error)
    if missed := survived(mutation, failing):
        return "SURVIVED", " ".join(missed)
    return "caught", " ".join(
        f"{name.rpartition('::')[2]}: {failing[name]:.160}" for name in failing
    )


def say(line: str) -> None:
    """Write a line, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def run(chosen: Sequence[Mutation]) -> int:
    """Run the tests in a tree that is whole, then each mutation's; return the exit code."""
    with copied() as tree:
        tests = list(dict.fromkeys(test for each in chosen for test in (*each.beside, *each.tests)))
        say(f"the tests of {len(chosen)} mutations, in a tree that is whole …")
        if failing := failures(tree, tests, 6 * RUN_S):
            lines = [f"      {name}: {reason:.300}" for name, reason in failing.items()]
            say("\n".join(["they fail there, so they show nothing:", *lines]))
            return 1
    seen: Counter[str] = Counter()
    for each in chosen:
        word, ground = verdict(each)
        seen[word] += 1
        say(f"{word:<8}  {each.promise:<3}  {each.breaks}\n              {ground}")
    say(", ".join(f"{number} {word}" for word, number in seen.items()))
    return int(seen.total() > seen["caught"])


def main() -> int:
    """Take the promises from the command line, all if there are none."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("promises", nargs="*", metavar="PROMISE", help="P1, P2, … (default: all)")
    wanted = parser.parse_args().promises
    found = mutations()
    if unknown := set(wanted) - {each.promise for each in found}:
        parser.error(f"{TABLE.name} breaks no promise {', '.join(sorted(unknown))}")
    try:
        return run([each for each in found if not wanted or each.promise in wanted])
    finally:
        with contextlib.closing(Engine.connect()) as engine:
            sweep(engine)  # what is broken may leave something behind


if __name__ == "__main__":
    sys.exit(main())
