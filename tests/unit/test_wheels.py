"""Wheels: asked for the sandbox, pinned with hashes, and no other word of pip's is obeyed."""

from __future__ import annotations

import base64
import hashlib
import sys
import tarfile
import time
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner import programs
from runner.errors import ImageError, ManifestError
from runner.programs import resolving, wheels
from runner.programs.wheels import Pin

HASH = "--hash=sha256:" + "a" * 64


@pytest.mark.parametrize("machine", wheels.MACHINES)
def test_wheels_are_asked_for_the_sandbox_not_for_this_host(machine):
    arguments = wheels.target_arguments(machine)
    assert "--only-binary=:all:" in arguments
    assert arguments[arguments.index("--python-version") + 1] == "3.11"
    assert f"--platform=manylinux_2_28_{machine}" in arguments
    assert f"--platform=manylinux_2_37_{machine}" not in arguments  # newer than the root's glibc
    assert all(machine in each for each in arguments if each.startswith("--platform"))


def test_what_pip_leaves_when_it_is_killed_goes_with_the_wheels(tmp_path, monkeypatch):
    pip = tmp_path / "python"
    pip.write_text('#!/bin/sh\ntouch "$TMPDIR/left"\n')
    pip.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(pip))
    directory = tmp_path / "wheels"
    directory.mkdir()
    with wheels.download([], directory, "x86_64") as command:
        command.finish("touching", timeout_s=10)
    assert [each.name for each in directory.iterdir()] == ["left"]


def test_no_module_of_the_working_directory_is_executed(tmp_path, monkeypatch):
    for name in ("pip/__init__.py", "pip/__main__.py", "json/__init__.py"):
        path = tmp_path / "checkout" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"open({str(tmp_path / 'executed')!r}, 'w').close()\n")
    monkeypatch.chdir(tmp_path / "checkout")
    with (
        pytest.raises(ImageError, match="requirement"),  # by pip itself, because there are no locks
        wheels.download([], tmp_path, "x86_64") as command,
    ):
        command.finish("fetching", timeout_s=60)
    assert not (tmp_path / "executed").exists()


def test_a_lock_is_read_back_as_it_was_written():
    pins = [
        Pin(name="b-pack", version="1.0+local", hashes=("b" * 64, "c" * 64)),
        Pin(name="A.pack", version="2", hashes=("a" * 64,)),
    ]
    text = wheels.lock_text(pins)
    assert wheels.read_lock(text, "x") == sorted(pins, key=lambda pin: pin.name.lower())
    assert wheels.lock_text(wheels.read_lock(text, "x")) == text


@pytest.mark.parametrize(
    "line",
    [
        "numpy",
        "numpy>=2",
        "numpy==2",
        f"numpy==2 {HASH}0",
        f"numpy==2 --hash=md5:{'a' * 32}",
        f"--index-url=http://example.org/ numpy==2 {HASH}",
        "--extra-index-url http://example.org",
        "-r other.txt",
        "-e .",
        "./local.whl",
        f"numpy @ http://example.org/numpy.whl {HASH}",
        f"numpy==2 {HASH} --global-option=x",
        f"../../x==2 {HASH}",
    ],
)
def test_a_lock_holds_pins_and_nothing_that_pip_would_obey(line):
    with pytest.raises(ManifestError, match="program.lock: .* is not name==version"):
        wheels.read_lock(f"a==1 {HASH}\n{line}\n", "program.lock")


@given(st.text(max_size=200))
def test_any_text_is_a_lock_or_a_manifest_error(text):
    try:
        pins = wheels.read_lock(text, "x")
    except ManifestError:
        return
    assert all(pin.hashes for pin in pins)


@pytest.mark.parametrize(
    "line", ["-e .", "numpy @ http://example.org/x.whl", "./x", "git+https://x/y", "--pre"]
)
def test_requirements_name_packages_only(line):
    with pytest.raises(ManifestError, match="requirements.txt"):
        resolving.resolve(f"# fine\n{line}\n", "requirements.txt", [], print)


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """An index of made-up packages: call it with a name, a version and what that requires."""
    directory = tmp_path / "index"
    directory.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(directory))

    def put(name, version, *requires):
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        metadata += "".join(f"Requires-Dist: {each}\n" for each in requires)
        with zipfile.ZipFile(directory / f"{name}-{version}-py3-none-any.whl", "w") as archive:
            inside = f"{name}-{version}.dist-info"
            archive.writestr(f"{inside}/METADATA", metadata)
            archive.writestr(f"{inside}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
            archive.writestr(f"{inside}/RECORD", "")
        return Pin(name=name, version=version, hashes=("a" * 64,))

    return put


def lock_of(text, stack, said=None):
    said = [] if said is None else said
    return resolving.resolve(text, "requirements.txt", stack, said.append)


def test_versions_are_chosen_to_go_with_the_stack_and_said_while_they_are(publish):
    publish("stacked", "2")
    pin = publish("stacked", "1")
    publish("needy", "1", "stacked<3", "below")
    publish("needy", "2", "stacked>=2")
    publish("below", "1")
    said = []
    found = lock_of("needy\n", [pin], said)
    assert [(each.name, each.version) for each in found] == [("needy", "1"), ("below", "1")]
    assert {"  for x86_64: needy", "  for aarch64: below"} < set(said)
    assert not any("stacked" in each for each in said)


def test_pins_of_the_stack_that_are_in_the_way_are_named_with_who_minds(publish):
    publish("stacked", "1")
    pin = publish("stacked", "4")
    publish("needy", "1", "between")
    publish("between", "3", "stacked<2")
    with pytest.raises(ManifestError) as caught:
        lock_of("needy\n", [pin])
    assert "nothing goes with the stack's stacked 4: between 3 needs stacked<2" in str(caught.value)
    assert "lock again" in str(caught.value)
    with pytest.raises(ManifestError, match="stacked 4: the program needs stacked==1"):
        lock_of("stacked==1\n", [pin])


def test_a_search_for_older_versions_that_fit_is_ended(publish, monkeypatch):
    monkeypatch.setattr(resolving, "MAX_SEARCH_S", 0.0)
    publish("stacked", "1")
    pin = publish("stacked", "4")
    for version in range(1, 200):
        publish("needy", str(version), "stacked<2")
    with pytest.raises(ManifestError, match="stack's stacked 4: needy 199 needs stacked<2"):
        lock_of("needy\n", [pin])


@pytest.mark.parametrize("requirement", ["sourced\n", "needy\n"])
def test_a_package_without_a_wheel_is_named(publish, tmp_path, requirement):
    with tarfile.open(tmp_path / "index" / "sourced-1.tar.gz", "w:gz"):
        pass
    for version in ("1", "2"):
        publish("needy", version, "sourced")
    with pytest.raises(ManifestError, match="sourced is there as source only, without a wheel"):
        lock_of(requirement, [])


def test_a_package_that_no_index_has_is_the_users_mistake(publish):
    with pytest.raises(ManifestError, match="there is no package absent in the index"):
        lock_of("absent>=2\n", [])


def test_an_index_that_does_not_answer_is_not(monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(ImageError, match="absent"):
        lock_of("absent>=2\n", [])


def test_a_lock_must_be_made_from_the_requirements_beside_it(tmp_path):
    (tmp_path / "program.yaml").write_text("name: mine\nrequirements: requirements.txt\n")
    (tmp_path / "program.py").write_text("def main(b, m): ...\n")
    with pytest.raises(ManifestError, match=r"no file 'requirements.txt'"):
        programs.find(tmp_path)
    (tmp_path / "requirements.txt").write_text("networkx\n")
    with pytest.raises(ManifestError, match=r"requirements.lock is missing .*qrunner lock"):
        programs.find(tmp_path)
    lock = f"{wheels.digest(b'networkx' + bytes([10]))}\nnetworkx==3 {HASH}\n"
    (tmp_path / "requirements.lock").write_text(lock)
    assert [pin.name for pin in programs.find(tmp_path).pins] == ["networkx"]
    (tmp_path / "requirements.txt").write_text("networkx>3\n")
    with pytest.raises(ManifestError, match=r"is older than requirements.txt"):
        programs.find(tmp_path)


@pytest.fixture
def index(tmp_path, monkeypatch):
    """Make a directory the only index, and return what puts a wheel of some files into it."""
    directory = tmp_path / "index"
    directory.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(directory))
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")

    def put(files=(), *, content=None, compression=zipfile.ZIP_STORED):
        path = directory / "odd-1-py3-none-any.whl"
        with zipfile.ZipFile(path, "w", compression) as archive:
            listed = {
                "odd-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: odd\nVersion: 1\n",
                "odd-1.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n"
                "Tag: py3-none-any\n",
                **dict(files),
            }
            record = "".join(
                f"{name},sha256={_digest(text)},{len(text)}\n" for name, text in listed.items()
            )
            for name, text in {**listed, "odd-1.dist-info/RECORD": record}.items():
                archive.writestr(name, text)
        if content is not None:
            path.write_bytes(content)
        return Pin(name="odd", version="1", hashes=(hashlib.sha256(path.read_bytes()).hexdigest(),))

    return put


def _digest(text):
    content = text if isinstance(text, bytes) else text.encode()
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")


def unpacked(pin, tmp_path):
    target, scratch = tmp_path / "target", tmp_path / "scratch"
    scratch.mkdir()
    wheels.unpack([pin], target, scratch, "x86_64")
    return target


def test_a_wheel_of_an_index_is_unpacked(index, tmp_path):
    target = unpacked(index({"odd.py": "x = 1\n"}), tmp_path)
    assert (target / "odd.py").read_text() == "x = 1\n"


HOSTILE = {
    "a path upwards": {"../../escaped.py": "x"},
    "an absolute path": {"/tmp/escaped.py": "x"},
    "a path of another system": {"..\\\\escaped.py": "x"},
    "a scheme that leads elsewhere": {"odd-1.data/data/../../../escaped.py": "x"},
    "a scheme that nobody knows": {"odd-1.data/elsewhere/escaped.py": "x"},
    "a long path": {"a/" * 201 + "x.py": "x"},
    "a name that cannot be printed": {"a\x1b[2J.py": "x"},
    "no metadata": {"odd-1.dist-info/METADATA": b"\xff" * 9},
    "another name": {"odd-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: x\nVersion: 1\n"},
    "another format": {"odd-1.dist-info/WHEEL": "Wheel-Version: 9.0\n"},
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_a_hostile_wheel_is_the_programs_fault(index, tmp_path, attack):
    pin = index(HOSTILE[attack])
    with pytest.raises(ManifestError, match="the program's (own )?requirements"):
        unpacked(pin, tmp_path)
    assert not list(tmp_path.glob("**/escaped.py"))


@pytest.mark.parametrize("content", [b"", b"PK", b"no zip at all" * 99])
def test_a_corrupt_wheel_is_the_programs_fault(index, tmp_path, content):
    with pytest.raises(ManifestError, match="the program's (own )?requirements"):
        unpacked(index(content=content), tmp_path)


def test_a_wheel_whose_content_is_damaged_is_the_programs_fault(index, tmp_path):
    text = "marker = 1\n"
    index({"odd.py": text})
    path = tmp_path / "index" / "odd-1-py3-none-any.whl"
    damaged = path.read_bytes().replace(text.encode(), text.encode().upper())
    with pytest.raises(ManifestError, match="unpacking the program's own requirements failed"):
        unpacked(index(content=damaged), tmp_path)


def test_a_wheel_with_another_hash_is_the_programs_fault(index, tmp_path):
    index({"odd.py": "x = 1\n"})
    pin = Pin(name="odd", version="1", hashes=("0" * 64,))
    with pytest.raises(ManifestError, match="HASHES"):
        unpacked(pin, tmp_path)


def test_a_package_that_cannot_be_had_says_nothing_about_the_program(index, tmp_path):
    index()
    pin = Pin(name="absent", version="1", hashes=("0" * 64,))
    with pytest.raises(ImageError, match="No matching distribution"):
        unpacked(pin, tmp_path)


@pytest.mark.parametrize(
    ("bound", "files", "problem"),
    [
        ("MAX_DOWNLOAD_BYTES", {"odd.py": "#" * 2000}, r"are \d+ bytes, at most 1000"),
        ("MAX_UNPACKED_BYTES", {"odd.py": "#" * 2000}, r"unpack to \d+ bytes, at most 1000"),
    ],
)
def test_what_is_fetched_and_unpacked_is_bounded(
    index, tmp_path, monkeypatch, bound, files, problem
):
    monkeypatch.setattr(wheels, bound, 1000)
    with pytest.raises(ManifestError, match=problem):
        unpacked(index(files), tmp_path)


def test_the_number_of_files_is_bounded(index, tmp_path):
    files = {f"odd/{number}": "" for number in range(wheels.MAX_MEMBERS)}
    with pytest.raises(ManifestError, match=rf"holds \d+ files, at most {wheels.MAX_MEMBERS}"):
        unpacked(index(files), tmp_path)


def test_a_download_is_stopped_when_it_is_too_large(tmp_path, monkeypatch):
    pip = tmp_path / "python"
    pip.write_text('#!/bin/sh\nhead -c 5000 /dev/zero >"$TMPDIR/part"; sleep 60\n')
    pip.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(pip))
    monkeypatch.setattr(wheels, "MAX_DOWNLOAD_BYTES", 4000)
    started = time.monotonic()
    with pytest.raises(ManifestError, match="are 5000 bytes, at most 4000"):
        unpacked(Pin(name="odd", version="1", hashes=("0" * 64,)), tmp_path)
    assert time.monotonic() - started < 30
