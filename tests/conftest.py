"""What every test shares: whether there is an engine, and that nothing is left behind."""

import contextlib
import functools
import gc
import os
import tempfile
import time
import warnings
from pathlib import Path

import hypothesis
import pytest

from runner.engine import OWN_LABEL, Engine
from runner.errors import EngineUnavailableError, RunnerError
from runner.host.processes import HostProcess
from runner.images import ImageStore
from runner.sandboxes import cgroup
from runner.sandboxes.residence import channel_root
from tests.engine.traces import LEFT_BEHIND
from tests.scheduling import in_order, pytest_xdist_make_scheduler

__all__ = ["pytest_xdist_make_scheduler"]  # a hook

ENGINE_DIRECTORIES = {"cluster", "engine", "page", "programs", "security", "service"}
MUST_WORK = "QRUNNER_ENGINE_MUST_WORK"
RUNSC_MUST_WORK = "QRUNNER_RUNSC_MUST_WORK"
GONE_WITHIN_S = 10.0

ROOT = Path(__file__).parents[1]
SHARED = (ROOT / "images" / "programs", ROOT / "tests" / "security" / "corpus")

# Jobs of tests are kept apart from the user's own; a test may name a store of its own.
STORE = tempfile.TemporaryDirectory(prefix="qrunner-test-store-")
os.environ["QRUNNER_STORE"] = STORE.name

# A shared or busy machine makes single examples slow without anything being wrong.
hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "default")


@functools.cache
def why_no_engine():
    """Return the reason that no engine answers, None if one does."""
    reason = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # docker-py forgets its socket on failure
        try:
            Engine.connect(timeout_s=10).close()
        except EngineUnavailableError as error:
            reason = str(error).splitlines()[0]
        gc.collect()
    return reason


@pytest.hookimpl(tryfirst=True)  # before -m looks at the marks
def pytest_collection_modifyitems(config, items):
    """Without an engine, skip the tests that need one, saying why; or stop if it must work."""
    for item in items:
        if ENGINE_DIRECTORIES & {parent.name for parent in item.path.parents}:
            item.add_marker(pytest.mark.engine)
    in_order(items)
    marked = [item for item in items if item.get_closest_marker("engine")]
    if not marked or config.option.collectonly or not (reason := why_no_engine()):
        return
    if os.environ.get(MUST_WORK) == "1":
        msg = f"{len(marked)} tests need an engine, and {MUST_WORK}=1 says there is one: {reason}"
        raise pytest.UsageError(msg)
    for item in marked:
        item.add_marker(pytest.mark.skip(reason=reason))


@functools.cache
def why_no_base():
    """Build the base image if the engine has none; return why that fails, None if all is well."""
    connection = Engine.connect()
    try:
        ImageStore(connection).guest()
    except RunnerError as error:
        return str(error)
    finally:
        connection.close()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Have the base image there before the first test that may need it: no test waits for that."""
    if item.get_closest_marker("engine") and not why_no_engine() and (reason := why_no_base()):
        pytest.fail(reason)


def left_behind(engine):
    """Return what no living process but this one owns: containers, directories, control groups."""
    me = HostProcess.current()

    def is_left(text):
        process = HostProcess.parse(text)
        return process is None or process == me or process.is_dead()

    # Not `engine.containers()`: one that was started past us from an image of ours counts too.
    containers = {
        f"container {each['Id'][:12]} {each['Names']} {each['Labels']}"
        for each in engine._client.containers(all=True)
        if any(key.startswith(OWN_LABEL) for key in each["Labels"] or {})
        and is_left(each["Labels"].get(f"{OWN_LABEL}.owner", ""))
    }
    root = channel_root()
    directories = {str(path) for path in root.iterdir() if is_left(path.name)}
    with contextlib.suppress(OSError):
        root.rmdir()  # looking has made it; somebody else may be using it
    groups = {
        f"control groups of {process}" for process in cgroup.processes() if is_left(str(process))
    }
    return containers | directories | groups


def passing_images(engine):
    """Return the tags of all images but those that runs share: the bases, examples, the corpus."""
    shared = {path.parent.name for each in SHARED for path in each.glob("*/program.yaml")}
    return {
        each.tag
        for each in ImageStore(engine).images()
        if each.kind in {"program", "packages"} and each.repository.rpartition("/")[2] not in shared
    }


def is_alone(engine):
    """Return whether nobody else has a sandbox here: images may be theirs then."""
    names = [each.get(f"{OWN_LABEL}.owner", "") for each in engine.containers().values()]
    processes = {HostProcess.parse(each) for each in names} | cgroup.processes()
    return all(each is not None and each.is_dead() for each in processes - {HostProcess.current()})


def pytest_sessionstart(session):
    """Note what is there before the tests; in the process that started the others, if any."""
    is_worker = hasattr(session.config, "workerinput")
    if is_worker or session.config.option.collectonly or why_no_engine():
        session.config.left_before = None
        return
    connection = Engine.connect()
    session.config.left_before = left_behind(connection)
    session.config.images_before = passing_images(connection)
    connection.close()


def pytest_sessionfinish(session):
    """Fail the session if its tests left a container, a directory or a control group of ours.

    Their images are removed only here, as many tests use the same, and where nobody else may.
    """
    before = session.config.left_before
    if before is None or why_no_engine():
        return
    connection = Engine.connect()
    deadline = time.monotonic() + GONE_WITHIN_S
    while (left := left_behind(connection) - before) and time.monotonic() < deadline:
        time.sleep(0.2)
    if is_alone(connection):
        for tag in passing_images(connection) - session.config.images_before:
            connection.remove_image(tag)
    connection.close()
    if left:
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        reporter.write_line("\nleft behind:\n" + "\n".join(sorted(left)), red=True)
        session.exitstatus = LEFT_BEHIND


@pytest.fixture(scope="session")
def engine():
    """A connection to the engine, for tests marked `engine`."""
    connection = Engine.connect()
    yield connection
    connection.close()


@pytest.fixture(scope="session")
def runsc(engine):
    """Skip what needs the isolation runsc where the engine has none; or fail if it must work."""
    if "runsc" not in engine.info().runtimes:
        reason = "the engine knows no runtime runsc: tools/setup-runsc says how to get it"
        (pytest.fail if os.environ.get(RUNSC_MUST_WORK) == "1" else pytest.skip)(reason)
