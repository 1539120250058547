"""Base images on their way to nodes that are not to build them."""

from __future__ import annotations

import pytest

from runner import ImageError, Supervisor
from runner.images import ImageStore
from runner.images.transfer import load_base, missing_base, save_base
from tests.engine.second_engine import SecondEngine, why_not


def test_a_base_that_was_saved_is_loaded_elsewhere(engine, program, tmp_path):
    if reason := why_not():
        pytest.skip(reason)
    archive, other = tmp_path / "base.tar", tmp_path / "other.tar"
    ImageStore(engine).guest()
    save_base(engine, archive)
    assert not list(tmp_path.glob("*.part"))
    other.write_bytes(b"no archive")
    with SecondEngine(data_bytes=1 << 30) as second:  # room for the whole base
        there = second.connect()
        assert missing_base(there) == ImageStore(there).stack_tag
        with pytest.raises((ImageError, RuntimeError), match="archive|load|tar"):
            load_base(there, other)
        assert load_base(there, archive) == ImageStore(engine).guest_tag
        assert missing_base(there) is None
        with Supervisor(engine=there) as supervisor:
            job = supervisor.run(program("def main(b, m):\n    return 'there'\n"))
            assert job.result(60) == "there"
        there.close()


def test_a_file_that_cannot_be_read_or_written_is_told(engine, tmp_path):
    with pytest.raises(ImageError, match="cannot be read"):
        load_base(engine, tmp_path / "missing")
    with pytest.raises(ImageError, match="cannot be written"):
        save_base(engine, tmp_path / "nowhere" / "base.tar")
