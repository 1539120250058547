"""What every test shares: whether there is an engine, and that nothing is left behind."""

import contextlib
import functools
import gc
import os
import time
import warnings

import hypothesis
import pytest

from runner import cgroup
from runner.engine import OWN_LABEL, Engine
from runner.errors import EngineUnavailableError
from runner.owner import Owner
from runner.sweep import channel_root

ENGINE_DIRECTORIES = {"engine", "programs", "security"}
MUST_WORK = "QRUNNER_ENGINE_MUST_WORK"
RUNSC_MUST_WORK = "QRUNNER_RUNSC_MUST_WORK"
GONE_WITHIN_S = 10.0

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
    marked = [item for item in items if item.get_closest_marker("engine")]
    if not marked or config.option.collectonly or not (reason := why_no_engine()):
        return
    if os.environ.get(MUST_WORK) == "1":
        msg = f"{len(marked)} tests need an engine, and {MUST_WORK}=1 says there is one: {reason}"
        raise pytest.UsageError(msg)
    for item in marked:
        item.add_marker(pytest.mark.skip(reason=reason))


def left_behind(engine):
    """Return what no living process but this one owns: containers, directories, control groups."""
    me = Owner.current()

    def is_left(text):
        owner = Owner.parse(text)
        return owner is None or owner == me or owner.is_dead()

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
    groups = {f"control groups of {owner}" for owner in cgroup.owners() if is_left(str(owner))}
    return containers | directories | groups


@pytest.fixture(scope="session", autouse=True)
def nothing_left_behind(request):
    """Fail the session if its tests leave a container or a channel directory of ours."""
    marked = any(item.get_closest_marker("engine") for item in request.session.items)
    if not marked or why_no_engine():
        yield
        return
    engine = Engine.connect()
    before = left_behind(engine)
    yield
    deadline = time.monotonic() + GONE_WITHIN_S
    while (left := left_behind(engine) - before) and time.monotonic() < deadline:
        time.sleep(0.2)
    engine.close()
    assert not left, "left behind:\n" + "\n".join(sorted(left))


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
