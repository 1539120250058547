"""tools/move-pins asks every script that docs/stack.md names, with the versions of the lock."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STACK = (ROOT / "docs/stack.md").read_text()
SCRIPTS = sorted(set(re.findall(r"findings/([a-z0-9-]+\.sh)", STACK)))


@pytest.fixture
def clone(tmp_path):
    """A tree with scripts that say their packages, and tools that do nothing."""
    for name in ("tools/move-pins", "docs/stack.md", "images/base/requirements.lock"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for name in ("tools/lock", "tools/setup-venv", ".venv/bin/python"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"#!/bin/sh\necho {name} >>'{tmp_path}/called'\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "findings").mkdir()
    for name in SCRIPTS:
        (tmp_path / "findings" / name).write_text(
            f"packages=(qiskit==0.1 qiskit-aer==0.2 other==3)\necho {name} ${{packages[*]}}\n"
        )
    return tmp_path


def run(clone, *arguments):
    command = [clone / "tools/move-pins", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_every_script_is_asked_with_the_locked_versions(clone):
    done = run(clone)
    assert done.returncode == 0, done.stderr
    lock = (clone / "images/base/requirements.lock").read_text()
    pins = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", lock, re.MULTILINE))
    assert len(SCRIPTS) >= 5
    for name in SCRIPTS:
        expected = f"{name} qiskit=={pins['qiskit']} qiskit-aer=={pins['qiskit-aer']} other==3"
        assert expected in done.stderr
    assert "tools/lock" in (clone / "called").read_text()


def test_asking_only_moves_nothing_and_a_changed_answer_is_named(clone):
    (clone / "findings" / SCRIPTS[0]).write_text("packages=()\nexit 1\n")
    (clone / "findings" / SCRIPTS[1]).write_text("packages=()\nexit 2\n")
    done = run(clone, "--only-ask")
    assert done.returncode == 1
    assert f"CHANGED: findings/{SCRIPTS[0]}\n" in done.stderr
    assert f"CHANGED: findings/{SCRIPTS[1]} could not be asked" in done.stderr
    assert "tools/lock\n" not in (clone / "called").read_text()
