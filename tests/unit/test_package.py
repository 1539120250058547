"""Wheel and sdist: complete, nothing else in them, and one made from the other."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from packaging.metadata import Metadata

import runner

ROOT = Path(__file__).parents[2]
VERSION = runner.__version__
INFORMATION = f"qiskit_program_runner-{VERSION}.dist-info"
CACHES = {"__pycache__", ".ipynb_checkpoints"}

# What a tree may hold that is in neither archive.
NOT_PACKED = {".git", ".venv", ".fuzz", "build", "dist"}


def build(target: str, directory: Path, tree: Path = ROOT) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "--target", target]
    subprocess.run(
        [*command, "--directory", directory], cwd=tree, check=True, capture_output=True, timeout=60
    )
    (built,) = directory.glob("*.whl" if target == "wheel" else "*.tar.gz")
    return built


def files_below(directory: Path) -> set[str]:
    """Return the files of the tree, caches left out, by their path below it."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in directory.rglob("*")
        if path.is_file() and not CACHES & set(path.parts)
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    return build("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory) -> Path:
    return build("sdist", tmp_path_factory.mktemp("sdist"))


def test_the_wheel_holds_every_file_that_a_run_needs_and_no_other(wheel):
    code = set().union(*(files_below(ROOT / each) for each in ("runner", "sandbox", "holder")))
    images = files_below(ROOT / "images" / "base") | files_below(ROOT / "images" / "programs")
    information = {
        f"{INFORMATION}/{name}"
        for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")
    }
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert names == code | {f"runner/data/{each}" for each in images} | information


def test_the_images_directory_holds_nothing_that_the_wheel_forgets():
    assert {path.name for path in (ROOT / "images").iterdir()} == {"base", "programs"}


def test_all_packages_say_that_they_are_typed(wheel):
    with zipfile.ZipFile(wheel) as archive:
        assert {"runner/py.typed", "sandbox/py.typed", "holder/py.typed"} <= set(archive.namelist())


def test_the_metadata_says_version_licence_and_what_python_it_needs(wheel):
    with zipfile.ZipFile(wheel) as archive:
        metadata = Metadata.from_email(archive.read(f"{INFORMATION}/METADATA"))  # validates it
        entries = archive.read(f"{INFORMATION}/entry_points.txt").decode()
    assert str(metadata.version) == VERSION
    assert metadata.license_expression == "Apache-2.0"
    assert metadata.requires_python == "<3.15,>=3.11"
    assert metadata.description_content_type == "text/markdown"
    assert metadata.description.strip() == (ROOT / "README.md").read_text().strip()
    assert "Typing :: Typed" in metadata.classifiers
    assert "qrunner = runner.__main__:main" in entries.splitlines()


def test_the_sdist_holds_everything_that_the_repository_does(sdist):
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout, so nothing says what belongs to it")
    expected = {each for each in tracked.stdout.split("\0") if each and (ROOT / each).is_file()}
    with tarfile.open(sdist) as archive:
        names = {each.name.partition("/")[2] for each in archive if each.isfile()}
    assert expected <= names
    assert not {each for each in names if NOT_PACKED & set(each.split("/")[:1])}


def test_the_sdist_builds_the_same_wheel_byte_for_byte(wheel, sdist, tmp_path):
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (tree,) = tmp_path.iterdir()
    assert build("wheel", tmp_path / "again", tree).read_bytes() == wheel.read_bytes()
