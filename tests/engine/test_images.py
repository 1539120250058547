"""Images on a real engine: what is in them, when they are built, and what failures leave."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
import uuid
from pathlib import Path

import docker
import pytest

from runner import images
from runner.errors import ImageError
from runner.images import ImageStore
from runner.images.builds import BUILD_LABEL, KIND_LABEL
from runner.images.roots import PACKAGES_LABEL, RootLock, bootstrap, machine

ROOT = Path(__file__).resolve().parents[2]
SOURCE = b"def main(backend, user_messenger):\n    return 1\n"


@pytest.fixture(scope="module")
def client():
    with contextlib.closing(docker.from_env(timeout=300)) as connection:
        yield connection


@pytest.fixture(scope="module")
def guest(engine):
    """The guest image on whatever root there is here; built first if it is missing."""
    return ImageStore(engine).guest()


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


def run(client, image, *command, user=None):
    """Return what the command prints in a container of the image."""
    # No network: the tests are not about it, and not every engine has a bridge.
    output = client.containers.run(
        image, list(command), user=user, remove=True, network_mode="none", stderr=True
    )
    return output.decode()


def our_untagged(client):
    return {
        image.id
        for image in client.images.list(filters={"dangling": True, "label": KIND_LABEL})
        if image.labels[KIND_LABEL] == "stage"
    }


def count_calls(engine):
    """Return a list that grows with each answer of the engine."""
    calls = []
    engine._client.hooks["response"] = [lambda response, **_: calls.append(response.url)]
    return calls


# --- when something is built ----------------------------------------------------------------------


def test_nothing_changed_nothing_built_and_one_question_asked(engine, guest, name):
    files = {"program.py": SOURCE, "data/table.csv": b"1,2\n"}
    first = ImageStore(engine).program(files, name)
    said = []
    calls = count_calls(engine)
    try:
        again = ImageStore(engine, progress=said.append).program(
            dict(reversed(files.items())), name
        )
    finally:
        engine._client.hooks["response"] = []
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


def test_a_failing_build_shows_step_and_reason_and_leaves_nothing(
    engine, client, guest, name, base
):
    dockerfile = base / "program.Dockerfile"
    extra = 'RUN ["sh", "-c", "echo one; echo all is lost >&2; exit 3"]\n'
    dockerfile.write_text(dockerfile.read_text() + extra)
    before = our_untagged(client)
    with pytest.raises(ImageError) as caught:
        ImageStore(engine, base=base).program({"program.py": SOURCE}, name)
    message = str(caught.value)
    assert "RUN [" in message
    assert "all is lost" in message
    assert "\x1b" not in message
    assert not client.images.list(f"qiskit-program-runner/{name}")
    assert our_untagged(client) <= before
    assert not client.containers.list(all=True, filters={"ancestor": guest, "status": "exited"})


def test_a_wheel_with_another_hash_is_refused(engine, client, base, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (base / "requirements.lock").write_text(f"typing-extensions==4.16.0 --hash=sha256:{'0' * 64}\n")
    tags = {tag for image in client.images.list() for tag in image.tags}
    with pytest.raises(ImageError, match=r"(?s)fetching the wheels failed.*HASHES"):
        ImageStore(engine, base=base).guest()
    left = {tag for image in client.images.list() for tag in image.tags} - tags
    assert not [tag for tag in left if "/stack:" in tag or "/guest:" in tag]
    assert not list(tmp_path.glob("qrunner-*"))


@pytest.mark.skipif(not shutil.which("mmdebstrap"), reason="needs mmdebstrap")
def test_a_root_that_the_keyring_did_not_sign_is_refused(engine, tmp_path):
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
    tags = []
    for number in range(3):
        tags.append(store.program({"program.py": SOURCE + b"#%d\n" % number}, name).tag)
        time.sleep(1.1)  # the engine's dates are in whole seconds
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


def check_stack(client, image):
    """Assert what holds for every image of ours, whatever root it stands on."""
    found = run(client, image, "find", "/", "-xdev", "-perm", "/6000", user="0")
    assert found == "", "setuid or setgid"
    everybody = ["find", "/", "-xdev", "-perm", "-o+w", "-not", "-type", "l"]
    writable = run(client, image, *everybody, user="0").split()
    assert [each for each in writable if not each.startswith("/dev/")] == ["/tmp"]
    tools = ["apt", "dpkg", "pip", "pip3", "perl", "gcc", "cc", "make", "su", "mount", "awk"]
    which = "import shutil, sys; print([n for n in sys.argv[1:] if shutil.which(n, path=P)])"
    path = "P='/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'\n"
    assert run(client, image, "python3", "-c", path + which, *tools) == "[]\n"
    script = "import importlib.util as u, sys; print([n for n in sys.argv[1:] if u.find_spec(n)])"
    assert run(client, image, "python3", "-c", script, "pip", "ensurepip", "setuptools") == "[]\n"


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


# --- the registry ---------------------------------------------------------------------------------


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def install_registry():
    """Return the path of Debian's docker-registry, installed now if that is possible here."""
    if found := shutil.which("docker-registry"):
        return found
    if os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(
            ["apt-get", "install", "-y", "-q", "--no-install-recommends", "docker-registry"],
            env=environment,
            capture_output=True,
            timeout=180,
        )
    return shutil.which("docker-registry")


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """The address of a registry of our own on the loopback interface."""
    program = install_registry()
    if program is None:
        pytest.skip("needs Debian's docker-registry")
    directory = tmp_path_factory.mktemp("registry")
    address = f"localhost:{free_port()}"
    config = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(directory / "storage")}},
        "http": {"addr": address},
        "log": {"level": "error"},
    }
    (directory / "config.json").write_text(json.dumps(config))  # JSON is YAML
    with (directory / "log").open("wb") as log:
        server = subprocess.Popen(
            [program, "serve", str(directory / "config.json")], stdout=log, stderr=log
        )
        try:
            deadline = time.monotonic() + 30
            while True:
                try:
                    urllib.request.urlopen(f"http://{address}/v2/", timeout=5).close()
                    break
                except OSError:
                    assert server.poll() is None, (directory / "log").read_text()
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
            yield address
        finally:
            server.terminate()
            server.wait(30)


@pytest.fixture(scope="module")
def published_root(client, registry, engine, tmp_path_factory):
    """A root in the registry and not on the engine, by digest; with things that must not get out.

    Built on the root that the stack here stands on, as the official image cannot be had everywhere.
    """
    ImageStore(engine).guest()
    roots = [each for each in ImageStore(engine).images() if each.kind == "root"]
    if not roots:
        pytest.skip("the stack stands on the official image already")
    context = tmp_path_factory.mktemp("root")
    (context / "Dockerfile").write_text(
        f"FROM {roots[0].tag}\n"
        "ENV LEAKED=yes LD_PRELOAD= PYTHONSTARTUP=/leaked.py\n"
        "LABEL leaked=yes\n"
        "RUN cp /usr/bin/env /usr/bin/sudo && chmod 4755 /usr/bin/sudo && chmod 777 /opt \\\n"
        "    && cp /usr/bin/env /usr/bin/gcc-12 && echo root:secret > /etc/shadow\n"
        'ENTRYPOINT ["/bin/false"]\n'
    )
    tag = f"{registry}/python:3.11-slim-bookworm"
    image, _ = client.images.build(path=str(context), tag=tag, network_mode="none", rm=True)
    answers = client.api.push(tag, stream=True, decode=True)
    digests = [each["aux"]["Digest"] for each in answers if "aux" in each]
    client.images.remove(image.id, force=True)
    return f"{tag}@{digests[-1]}"


@pytest.fixture(scope="module")
def stack_from_registry(client, engine, published_root, tmp_path_factory):
    """A guest image over the published root, and what was said while it was made."""
    base = tmp_path_factory.mktemp("images") / "base"
    shutil.copytree(images.base_directory(), base)
    lock = json.loads((base / "root.lock").read_text())
    lock["official"]["reference"] = published_root
    (base / "root.lock").write_text(json.dumps(lock))
    assert engine.image(published_root) is None
    tags = {tag for image in client.images.list() for tag in image.tags}
    said = []
    yield ImageStore(engine, base=base, progress=said.append).guest(), said
    for tag in {tag for image in client.images.list() for tag in image.tags} - tags:
        if "/guest:" in tag or "/stack:" in tag:
            client.images.remove(tag, force=True)
    client.images.remove(published_root, force=True)


def test_the_pinned_root_comes_from_the_registry_by_digest(
    client, engine, stack_from_registry, published_root
):
    _, said = stack_from_registry
    assert any(published_root in line for line in said)
    assert any("root (official)" in line for line in said), said
    assert not any("bootstrapping" in line for line in said), said
    assert published_root in {
        f"{published_root.partition('@')[0]}@{each.partition('@')[2]}"
        for each in client.images.get(engine.image_id(published_root)).attrs["RepoDigests"]
    }


def test_nothing_of_the_root_s_configuration_gets_out(client, guest, stack_from_registry):
    image, _ = stack_from_registry
    ours, theirs = (client.images.get(each).attrs["Config"] for each in (guest, image))
    assert "LEAKED=yes" not in theirs["Env"]
    assert "leaked" not in theirs["Labels"]
    assert sorted(theirs["Env"]) == sorted(ours["Env"])
    assert not theirs["Entrypoint"]
    assert run(client, image, "python3", "-c", "import qiskit_aer; print('fine')") == "fine\n"


def test_what_the_root_had_too_much_is_removed(client, stack_from_registry):
    image, _ = stack_from_registry
    check_stack(client, image)
    assert "shadow" not in run(client, image, "ls", "/etc")


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
