"""Files that a stranger may have made."""

from __future__ import annotations

import os

import pytest

from runner.host.files import read, regular, replace


def test_a_regular_file_is_read(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    with regular(tmp_path / "file") as file:
        assert file.read() == b"content"


def test_a_link_is_followed_only_if_asked(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    with pytest.raises(OSError), regular(tmp_path / "link"):  # noqa: PT011
        pass
    with regular(tmp_path / "link", follow=True) as file:
        assert file.read() == b"content"


@pytest.mark.parametrize("follow", [False, True])
def test_a_pipe_or_a_directory_is_neither_read_nor_waited_for(tmp_path, follow):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(OSError, match=r"regular file|directory"), regular(path, follow=follow):
            pass


def test_no_more_is_read_than_may_be(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    assert read(tmp_path / "link", most_bytes=7, follow=True) == b"content"
    with pytest.raises(OSError, match="larger than 6 bytes"):
        read(tmp_path / "file", most_bytes=6)
    with pytest.raises(OSError):  # noqa: PT011
        read(tmp_path / "link", most_bytes=7)


def test_what_a_link_points_to_is_not_written(tmp_path):
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / "link").symlink_to("victim")
    replace(tmp_path / "link", b"new")
    assert (tmp_path / "victim").read_bytes() == b"precious"
    assert (tmp_path / "link").read_bytes() == b"new"
    assert not (tmp_path / "link").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "victim"]


def test_a_file_that_cannot_be_replaced_leaves_nothing(tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(IsADirectoryError):
        replace(tmp_path / "there", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
