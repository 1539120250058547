"""Images on a real engine: what is in them, when they are built, and what failures leave."""

import contextlib
import dataclasses
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import uuid
from pathlib import Path

import pytest

from runner import images
from runner.errors import ImageError
from runner.images import ImageStore, roots
from runner.images.archive import Addition
from runner.images.builds import BUILD_LABEL, KIND_LABEL
from runner.images.roots import PACKAGES_LABEL, RootLock, bootstrap, machine
from tests.engine.inside import check_stack, run
from tests.waiting import within

ROOT = Path(__file__).resolve().parents[2]
SOURCE = b"def main(backend, user_messenger):\n    return 1\n"


@pytest.fixture
def name(client):
    """A program name that nobody else uses; its images are removed afterwards."""
    unique = f"tried-{uuid.uuid4().hex[:8]}"
    yield unique
    for image in client.images.list(f"qiskit-program-runner/{unique}"):
        client.images.remove(image.id, force=True)


@pytest.fixture
def base(tmp_path):
    """A copy of images/base to spoil."""
    return Path(shutil.copytree(images.base_directory(), tmp_path / "base"))


def our_untagged(client):
    filters = {"dangling": True, "label": f"{KIND_LABEL}=stage"}
    return {each["Id"] for each in client.api.images(filters=filters)}


def all_tags(client):
    """Not `client.images.list`, which fails when another test removes one of them meanwhile."""
    return {tag for each in client.api.images() for tag in each["RepoTags"] or ()}


@contextlib.contextmanager
def counted_calls(engine):
    """Yield a list that grows with each answer of the engine."""
    calls, usual = [], engine._client.hooks["response"]
    engine._client.hooks["response"] = [lambda response, **_: calls.append(response.url)]
    yield calls
    engine._client.hooks["response"] = usual


# --- when something is built ----------------------------------------------------------------------


def test_nothing_changed_nothing_built_and_one_question_asked(engine, guest, name):
    files = {"program.py": SOURCE, "data/table.csv": b"1,2\n"}
    first = ImageStore(engine).program(files, name)
    said = []
    store = ImageStore(engine, progress=said.append)
    with counted_calls(engine) as calls:
        again = store.program(dict(reversed(files.items())), name)
    assert again == first
    assert said == []
    assert len(calls) == 1, calls


def test_an_edit_gives_another_image_and_the_old_one_stays(engine, client, guest, name):
    store = ImageStore(engine)
    before = store.program({"program.py": SOURCE}, name)
    after = store.program({"program.py": SOURCE + b"# edited\n"}, name)
    assert before.tag != after.tag
    assert run(client, before.id, "cat", "/program/program.py").encode() == SOURCE
    assert run(client, after.id, "tail", "-1", "/program/program.py") == "# edited\n"


def test_a_program_adds_its_files_and_nothing_else(engine, client, guest, name):
    files = {"program.py": SOURCE, "data/table.csv": b"1,2\n", ".dockerignore": b"*\n"}
    image = ImageStore(engine).program(files, name)
    found = run(client, image.id, "find", "/program", "-type", "f").split()
    assert set(found) == {f"/program/{each}" for each in files}
    layers = client.images.get(image.id).attrs["RootFS"]["Layers"]
    assert len(layers) == len(client.images.get(guest).attrs["RootFS"]["Layers"]) + 1
    config = client.images.get(image.id).attrs["Config"]
    assert not config["Entrypoint"]
    assert not config["Cmd"]
    assert config["Labels"][KIND_LABEL] == "program"


def test_the_same_files_are_the_same_image_to_the_byte(engine, client, guest, name):
    files = {"program.py": SOURCE, "data/table.csv": b"1,2\n"}
    first = ImageStore(engine).program(files, name)
    client.images.remove(first.tag)
    assert engine.image(first.id) is None
    assert ImageStore(engine).program(files, name) == first


def test_an_archive_on_layers_that_the_engine_has_not_is_refused(engine, client, guest, name):
    parent = dataclasses.replace(engine.image(guest), layers=(f"sha256:{'0' * 64}",))
    tag = f"qiskit-program-runner/{name}:1"
    with tempfile.TemporaryFile() as archive:
        Addition(parent=parent, files={"a": b""}, labels={}).write(archive, tag=tag)
        archive.seek(0)
        with pytest.raises(ImageError, match="cannot load"):
            engine.load(archive)
    assert engine.image(tag) is None


def test_two_processes_build_a_program_once(engine, guest, name):
    script = f"""if True:
        from runner.engine import Engine
        from runner.images import ImageStore
        store = ImageStore(Engine.connect(), progress=lambda line: print(line, flush=True))
        print("id", store.program({{"program.py": b"# {name}"}}, {name!r}).id)
    """
    both = [
        subprocess.Popen(
            [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    outputs = [each.communicate(timeout=120)[0] for each in both]
    assert [each.returncode for each in both] == [0, 0]
    assert "".join(outputs).count("built qiskit-program-runner/") == 1, outputs
    assert len({output.split()[-1] for output in outputs}) == 1


def test_an_image_that_somebody_else_tagged_is_not_taken_for_ours(engine, client, guest, name):
    image = ImageStore(engine).program({"program.py": SOURCE}, name)
    client.images.remove(image.id, force=True)
    client.images.get(guest).tag(*image.tag.split(":"))
    again = ImageStore(engine).program({"program.py": SOURCE}, name)
    assert again.id != guest
    assert client.images.get(image.tag).labels[BUILD_LABEL] == image.digest


# --- failures -------------------------------------------------------------------------------------


def test_a_failing_build_shows_step_and_reason_and_leaves_nothing(engine, client, guest, base):
    dockerfile = base / "guest.Dockerfile"
    extra = 'RUN ["sh", "-c", "echo one; echo all is lost >&2; exit 3"]\n'
    dockerfile.write_text(dockerfile.read_text() + extra)
    before = our_untagged(client)
    with pytest.raises(ImageError) as caught:
        ImageStore(engine, base=base).guest()
    message = str(caught.value)
    assert "RUN [" in message
    assert "all is lost" in message
    assert "\x1b" not in message
    assert engine.image(ImageStore(engine, base=base).guest_tag) is None
    # What another test is just building will be gone as well.
    after = our_untagged(client) - before
    assert within(60, lambda: not after & our_untagged(client))
    exited = client.api.containers(all=True, filters={"status": "exited"})
    assert not [each for each in exited if "all is lost" in each["Command"]]  # not a neighbour's


def test_a_wheel_with_another_hash_is_refused(engine, client, base, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (base / "requirements.lock").write_text(f"typing-extensions==4.16.0 --hash=sha256:{'0' * 64}\n")
    tags = all_tags(client)
    with pytest.raises(ImageError, match=r"(?s)fetching the wheels failed.*HASHES"):
        ImageStore(engine, base=base).guest()
    left = all_tags(client) - tags
    assert not [tag for tag in left if "/stack:" in tag or "/guest:" in tag]
    assert not list(tmp_path.glob("qrunner-*"))


@pytest.mark.skipif(not shutil.which("mmdebstrap"), reason="needs mmdebstrap")
@pytest.mark.parametrize("mirror", ["the host's", "Debian's"])
def test_a_root_that_the_keyring_did_not_sign_is_refused(engine, tmp_path, monkeypatch, mirror):
    if mirror == "Debian's":
        output_of = roots._output_of

        def without_targets(*command):
            return [] if "indextargets" in command else output_of(*command)

        monkeypatch.setattr(roots, "_output_of", without_targets)
    lock = RootLock.from_text((images.base_directory() / "root.lock").read_text())
    keyring = tmp_path / "nobody.gpg"
    keyring.write_bytes(b"")
    with tempfile.TemporaryFile() as archive, pytest.raises(ImageError) as caught:
        bootstrap(lock, machine(engine), archive, keyring=keyring)
    assert "not signed" in str(caught.value) or "NO_PUBKEY" in str(caught.value), caught.value


def test_a_root_that_cannot_be_had_is_said_with_its_variable(engine):
    environment = {**os.environ, "QRUNNER_ROOT_IMAGE": "localhost:1/nothing:there"}
    with pytest.raises(ImageError, match=r"(?s)localhost:1/nothing:there.*QRUNNER_ROOT_IMAGE"):
        ImageStore(engine, environment=environment).guest()


# --- pruning --------------------------------------------------------------------------------------


def test_pruning_keeps_the_newest_and_what_is_not_ours(engine, client, guest, name):
    class OnlyTheseImages(ImageStore):
        def images(self):
            return [each for each in super().images() if name in each.tag]

    store = OnlyTheseImages(engine)
    sources = [SOURCE + b"#%d\n" % number for number in range(3)]
    tags = [store.program({"program.py": each}, name).tag for each in sources]
    with tempfile.TemporaryFile() as empty:
        tarfile.open(fileobj=empty, mode="w").close()
        empty.seek(0)
        client.api.import_image(empty, repository=f"{name}-foreign")
    foreign = client.images.get(f"{name}-foreign")
    try:
        assert store.prune(keep=2) == tags[:1]
        assert [bool(client.images.list(tag)) for tag in tags] == [False, True, True]
        assert client.images.get(foreign.id)
    finally:
        client.images.remove(foreign.id, force=True)


def test_an_image_in_use_is_not_pruned(engine, client, guest, name):
    image = ImageStore(engine).program({"program.py": SOURCE}, name)

    class OnlyThisImage(ImageStore):
        def images(self):
            return [each for each in super().images() if each.tag == image.tag]

    container = client.containers.create(image.id, ["true"], network_mode="none")
    try:
        assert OnlyThisImage(engine).prune(keep=0) == []
        assert engine.image(image.tag)
    finally:
        container.remove(force=True)
    assert OnlyThisImage(engine).prune(keep=0) == [image.tag]


# --- what is in the image -------------------------------------------------------------------------


def test_qiskit_can_be_imported_without_flags(client, guest):
    script = "import qiskit, qiskit_aer, os; print(qiskit.__version__, os.getuid() > 60000)"
    output = run(client, guest, "python3", "-c", script).split()
    assert output[1] == "True"
    assert f"qiskit=={output[0]} " in (images.base_directory() / "requirements.lock").read_text()


def test_the_image_holds_no_tools_and_no_setuid_files(client, guest):
    check_stack(client, guest)


def test_everything_is_compiled_and_never_checked_again(client, guest):
    script = """if True:
        import importlib.util, pathlib, sys
        bad = []
        import qiskit, numpy, json, sandbox
        for module in list(sys.modules.values()):
            cached, file = getattr(module, "__cached__", None), getattr(module, "__file__", None)
            if cached and file and file.endswith(".py"):
                data = pathlib.Path(cached)
                if not data.exists() or data.read_bytes()[4:8] != bytes([1, 0, 0, 0]):
                    bad.append(file)
        print(bad)
    """
    output = run(client, guest, "env", "PYTHONPATH=/opt/qrunner", "python3", "-c", script)
    assert output == "[]\n"


def test_the_guest_knows_its_build_and_its_packages(client, guest):
    # With a newline: engines may lose the last line of a log that has none.
    build = run(client, guest, "sh", "-c", "cat /opt/qrunner/BUILD; echo")
    assert build == f"{images.build_id()}\n"
    packages = run(client, guest, "cat", "/opt/qrunner/packages.txt")
    assert "libc6" in packages
    assert "libssl3" in packages


def test_the_environment_is_ours_alone(client, guest):
    config = client.images.get(guest).attrs["Config"]
    environment = dict(each.split("=", 1) for each in config["Env"])
    assert environment["QISKIT_IN_PARALLEL"] == "TRUE"
    assert environment["OMP_NUM_THREADS"] == "1"
    assert environment["PATH"] == "/usr/local/bin:/usr/bin:/bin"
    assert config["User"] == "65532:65532"
    assert config["WorkingDir"] == "/tmp"


def test_nothing_of_this_host_is_in_the_image(client, guest):
    names = ("/etc/apt", "/build", "/var/lib/apt", "/var/lib/dpkg")
    script = "import os, sys; print([n for n in sys.argv[1:] if os.path.exists(n)])"
    assert run(client, guest, "python3", "-c", script, *names) == "[]\n"


# --- the root -------------------------------------------------------------------------------------


def test_a_bootstrapped_root_says_which_packages_it_has(client, engine, guest):
    [stack] = [
        each
        for each in ImageStore(engine).images()
        if each.kind == "stack" and each.id in ancestors(client, guest)
    ]
    labels = client.images.get(stack.id).labels
    if labels["io.qiskit-program-runner.root"] != "bootstrapped":
        pytest.skip("the root is not a bootstrapped one")
    assert len(labels[PACKAGES_LABEL]) == 64


def ancestors(client, image):
    return {each["Id"] for each in client.api.history(image)}
