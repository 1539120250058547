"""The wheel as whoever installs it meets it: no clone, an empty directory, read-only packages.

Installed beside the developers' packages, which costs a second.  With QRUNNER_TEST_WHEEL=FILE, as
in `make dist`, it is that wheel, in an empty environment with dependencies from the package index,
and the tests that take longer run too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest

import runner

ROOT = Path(__file__).parents[2]
GIVEN = os.environ.get("QRUNNER_TEST_WHEEL")

thorough = pytest.mark.skipif(not GIVEN, reason="takes longer: part of make dist")


@dataclass(frozen=True)
class Installed:
    """An environment that holds the wheel, and an empty directory to call its commands from."""

    environment: Path
    here: Path
    variables: dict[str, str]

    @property
    def packages(self) -> Path:
        (found,) = self.environment.glob("lib/python3*/site-packages")
        return found

    def command(self, name: str, *arguments: object, **variables: str):
        command = [self.environment / "bin" / name, *map(str, arguments)]
        environment = {**self.variables, **variables}
        return subprocess.run(
            command, cwd=self.here, env=environment, capture_output=True, text=True, timeout=600
        )

    def qrunner(self, *arguments: object, **variables: str):
        return self.command("qrunner", *arguments, **variables)


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Installed:
    place = tmp_path_factory.mktemp("somebody else's")
    environment = place / "an environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    pip = [sys.executable, "-m", "pip", "--quiet", "--python", environment, "install"]
    if GIVEN:
        subprocess.run([*pip, GIVEN], check=True, timeout=600)
    else:
        build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
        subprocess.run([*build, "--directory", place], cwd=ROOT, check=True, capture_output=True)
        (wheel,) = place.glob("*.whl")
        subprocess.run([*pip, "--no-deps", "--no-index", "--no-compile", wheel], check=True)
    here = place / "an empty directory"
    here.mkdir()
    kept = {
        name: value
        for name, value in os.environ.items()
        if name == "PATH" or name.startswith("DOCKER_")
    }
    places = {f"XDG_{kind.upper()}_HOME": str(place / kind) for kind in ("cache", "data", "config")}
    made = Installed(environment, here, {**kept, **places, "HOME": str(place / "home")})
    if not GIVEN:
        developers = made.packages / "developers.pth"
        developers.write_text(sysconfig.get_path("purelib"))
    for path in [made.packages, *made.packages.rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)
    yield made
    for path in [made.packages, *made.packages.rglob("*")]:
        path.chmod(path.stat().st_mode | 0o200)


def test_it_is_the_wheel_that_is_tested(installed):
    script = "import runner, sandbox; print(runner.__file__, sandbox.__file__, sep='\\n')"
    done = installed.command("python", "-c", script)
    assert done.stdout.splitlines() == [
        str(installed.packages / name / "__init__.py") for name in ("runner", "sandbox")
    ]
    said = installed.qrunner("--version").stdout
    assert said == f"qrunner, version {runner.__version__}\n"


def test_a_program_of_the_package_runs_from_an_empty_directory(installed):
    done = installed.qrunner("run", "hello_world")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == "Hello, world!"
    assert not list(installed.here.iterdir())
    assert not Path(installed.variables["HOME"]).exists(), "XDG directories were named"


def test_every_program_of_the_package_is_listed(installed):
    programs = {path.name for path in (ROOT / "images" / "programs").iterdir()} - {"template"}
    listed = {line.split()[0] for line in installed.qrunner("list").stdout.splitlines()[1:]}
    assert listed == programs


def test_a_new_program_can_be_edited_and_checked(installed):
    made = installed.qrunner("new", "mine")
    assert made.returncode == 0, made.stderr
    for path in (installed.here / "mine", *(installed.here / "mine").rglob("*")):
        assert path.stat().st_mode & 0o200, f"{path} was made read-only"
    done = installed.qrunner("check", "mine")
    assert done.returncode == 0, done.stdout + done.stderr


def test_commands_that_read_data_work(installed):
    assert "aer_simulator" in installed.qrunner("backends").stdout
    assert json.loads(installed.qrunner("schema", "manifest").stdout)["required"] == ["name"]


@pytest.mark.parametrize("command", [("run", "hello_world"), ("doctor",)], ids=" ".join)
def test_without_an_engine_it_says_what_to_do(installed, command):
    done = installed.qrunner(*command, DOCKER_HOST="unix:///nowhere/docker.sock")
    said = done.stdout + done.stderr
    assert done.returncode == 4
    assert "no container engine answers at unix:///nowhere/docker.sock" in said
    assert "DOCKER_HOST names it" in said
    assert "make " not in said
    assert "Traceback" not in said


@thorough
def test_many_inputs_are_mapped(installed):
    (installed.here / "inputs.jsonl").write_text('{"name": "one"}\n{"name": "two"}\n')
    done = installed.qrunner("map", "hello_world", "--inputs", "inputs.jsonl")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Hello, ") == 2


@thorough
def test_the_example_programs_hold_their_cases(installed):
    examples = installed.packages / "runner" / "data" / "images" / "programs"
    done = installed.qrunner("check", examples)
    assert done.returncode == 0, done.stdout + done.stderr


@thorough
def test_a_program_is_checked_under_runsc(installed, runsc):
    done = installed.qrunner("check", "mine", "--isolation", "runsc")
    assert done.returncode == 0, done.stdout + done.stderr


@thorough
def test_the_doctor_finds_this_machine_fit(installed):
    done = installed.qrunner("doctor")
    assert done.returncode == 0, done.stdout + done.stderr
