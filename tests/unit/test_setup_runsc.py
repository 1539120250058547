"""Adding runsc to an engine's configuration: nothing of anybody else's is lost."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "setup-runsc"
FLAGS = ["--platform=systrap", "--network=none", "--host-uds=open", "--oci-seccomp"]


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [TOOL, *map(str, arguments)]
    settings = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=settings)


@pytest.fixture
def merged(tmp_path):
    """Return what a configuration becomes; None stands for a file that is not there."""

    def merge(content: str | None) -> dict:
        file = tmp_path / "daemon.json"
        if content is not None:
            file.write_text(content)
        done = run("--merge", file, "/usr/bin/runsc", *FLAGS)
        assert done.returncode == 0, done.stderr
        assert content is None or file.read_text() == content
        return json.loads(done.stdout)

    return merge


@pytest.mark.parametrize("content", [None, "", "{}"])
def test_without_a_configuration_there_is_one_with_runsc_alone(merged, content):
    runsc = {"path": "/usr/bin/runsc", "runtimeArgs": FLAGS}
    assert merged(content) == {"runtimes": {"runsc": runsc}}


def test_other_keys_and_runtimes_are_kept(merged):
    before = {
        "log-opts": {"max-size": "10m", "labels": "ü"},
        "live-restore": True,
        "runtimes": {"kata": {"path": "/opt/kata", "runtimeArgs": ["--x"]}},
    }
    after = merged(json.dumps(before))
    assert after["runtimes"].pop("runsc")["runtimeArgs"] == FLAGS
    assert after == before


def test_flags_that_were_chosen_by_hand_are_kept_and_others_added(merged):
    chosen = {"path": "/opt/runsc", "runtimeArgs": ["--platform=kvm", "-debug", "--host-uds=all"]}
    after = merged(json.dumps({"runtimes": {"runsc": chosen}}))["runtimes"]["runsc"]
    assert after["path"] == "/opt/runsc"
    assert after["runtimeArgs"] == [*chosen["runtimeArgs"], "--network=none", "--oci-seccomp"]


def test_merging_twice_changes_nothing(merged):
    once = merged('{"debug": true}')
    assert merged(json.dumps(once)) == once


@pytest.mark.parametrize(
    "content",
    [
        "not JSON",
        "[]",
        '{"runtimes": []}',
        '{"runtimes": {"runsc": 1}}',
        '{"runtimes": {"runsc": {"runtimeType": "io.containerd.runsc.v1"}}}',
    ],
)
def test_what_is_not_understood_is_left_alone(tmp_path, content):
    file = tmp_path / "daemon.json"
    file.write_text(content)
    done = run("--merge", file, "/usr/bin/runsc", *FLAGS)
    assert done.returncode != 0
    assert done.stdout == ""
    assert "cannot be added" in done.stderr
    assert file.read_text() == content


def test_where_it_cannot_be_done_three_lines_say_how_to_do_it():
    done = run(DOCKER_HOST="tcp://engine.example:2376")
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 3
    assert "docs/isolation.md" in done.stderr
