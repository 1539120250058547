"""A stack over a root from a registry, by digest; the registry is our own, on the loopback."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
import zipfile

import pytest

from runner import images
from runner.images import ImageStore
from tests.engine.inside import check_stack, run

pytestmark = pytest.mark.engine


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


def write_wheel(directory, name):
    """Write a wheel of one empty module; return the line that locks it."""
    version = "1.0+empty"  # which no index has
    path = directory / f"{name}-{version}-py3-none-any.whl"
    information = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    tags = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}/__init__.py", "")
        archive.writestr(f"{information}/METADATA", metadata)
        archive.writestr(f"{information}/WHEEL", tags)
        archive.writestr(f"{information}/RECORD", "")
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


@pytest.fixture(scope="module")
def stack_from_registry(client, engine, published_root, tmp_path_factory):
    """A guest image over the published root, and what was said while it was made.

    With empty modules in the place of Qiskit, whose wheels say nothing about the root.
    """
    directory = tmp_path_factory.mktemp("images")
    base = directory / "base"
    shutil.copytree(images.base_directory(), base)
    lock = json.loads((base / "root.lock").read_text())
    lock["official"]["reference"] = published_root
    (base / "root.lock").write_text(json.dumps(lock))
    pins = [write_wheel(directory, name) for name in ("qiskit", "qiskit_aer")]
    (base / "requirements.lock").write_text("".join([f"--find-links {directory}\n", *pins]))
    assert engine.image(published_root) is None
    said = []
    store = ImageStore(engine, base=base, progress=said.append)
    yield store.guest(), said
    for each in store.images():
        if each.build in {store._stack_digest, store._guest_digest}:  # not what others have built
            client.images.remove(each.tag, force=True)
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
