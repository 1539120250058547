"""Wheels: asked for the sandbox, pinned with hashes, and no other word of pip's is obeyed."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner import programs
from runner.errors import ImageError, ManifestError
from runner.programs import wheels
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
        wheels.resolve(f"# fine\n{line}\n", "requirements.txt", [])


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
