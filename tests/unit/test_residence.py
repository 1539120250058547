"""What a process has on this host, made while others tidy up after themselves."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from runner.errors import EngineError
from runner.host.processes import HostProcess
from runner.sandboxes import cgroup, residence


@pytest.fixture
def others_tidy_up(monkeypatch):
    """Let somebody remove a directory at the worst moment: found there, and gone when looked at."""
    make, left = os.mkdir, [3]

    def mkdir(path, *arguments, **options):
        if left[0]:
            left[0] -= 1
            raise FileExistsError(path)
        make(path, *arguments, **options)

    monkeypatch.setattr(os, "mkdir", mkdir)


@pytest.fixture(autouse=True)
def temporary(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_the_directory_for_channels_is_made_however_often_others_remove_it(others_tidy_up):
    directory = residence.make_channel(HostProcess.current())
    assert directory.is_dir()
    assert residence.processes() >= {HostProcess.current()}


def test_the_owners_group_is_made_however_often_others_remove_the_one_on_top(
    others_tidy_up, monkeypatch, tmp_path
):
    monkeypatch.setattr(cgroup, "_hierarchies", lambda: [tmp_path])
    cgroup.make_groups(HostProcess.current())
    assert cgroup.processes() == {HostProcess.current()}


@pytest.mark.parametrize("what", ["file", "link", "open"])
def test_what_is_no_private_directory_is_refused(temporary, what):
    root = temporary / f"qrunner-{os.getuid()}"
    if what == "file":
        root.touch()
    elif what == "link":
        root.symlink_to(Path.home())
    else:
        root.mkdir()
        root.chmod(0o755)
    with pytest.raises(EngineError, match="is not a private directory of user"):
        residence.make_channel(HostProcess.current())
