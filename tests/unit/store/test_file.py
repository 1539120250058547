"""The file: whose it is, what is refused, and versions older and newer."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import stat
import time
from pathlib import Path

import pytest

from runner.errors import RequestError, StoreError
from runner.store import Store, open_default
from runner.store import file as storefile
from runner.store.file import MIGRATIONS, VERSION, default_path
from runner.store.recorder import Recorder
from tests.unit.store.keeping import run


def test_the_file_is_for_its_user_only(path, tmp_path):
    Store(path).close()
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    with contextlib.closing(Store(path)) as store:
        run(Recorder(store, keep_open=True))
        modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    assert set(modes.values()) == {0o600}
    assert len(modes) == 3  # the log and its index too


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_a_directory_that_others_can_write_to_is_refused_with_what_to_do(path, mode):
    Store(path).close()
    path.parent.chmod(mode)
    link = path.parents[1] / "link.db"
    link.symlink_to(path)
    for each in (path, link):
        with pytest.raises(StoreError, match=f"write to its directory {path.parent}: `chmod go-w`"):
            Store(each)
    path.parent.chmod(0o755)
    Store(path).close()


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
def test_what_others_put_beside_the_file_is_refused(path, suffix):
    Store(path).close()
    beside = path.with_name(path.name + suffix)
    beside.touch(0o600)
    Store(path).close()
    beside.touch(0o644)
    beside.chmod(0o644)
    with pytest.raises(StoreError, match=f"{beside.name} is not for its user only"):
        Store(path)
    beside.unlink()
    beside.symlink_to("/dev/null")
    with pytest.raises(StoreError, match=f"{beside.name} is not for its user only"):
        Store(path)


@pytest.mark.parametrize("how", ["text", "foreign"])
def test_the_mode_of_a_file_that_is_no_store_is_left_as_it_is(path, how):
    Store(path).close()
    spoil(path, how)
    path.chmod(0o644)
    with pytest.raises(StoreError):
        Store(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_file_of_another_user_is_refused(path):
    Store(path).close()
    try:
        os.chown(path, 12345, -1)
    except PermissionError:
        pytest.skip("only root can give files away")
    with pytest.raises(StoreError, match="belongs to user 12345"):
        Store(path)


def test_where_jobs_are_kept_follows_the_environment(tmp_path):
    named = {"QRUNNER_STORE": "/x/y", "XDG_DATA_HOME": "/data"}
    assert default_path(named) == Path("/x/y")
    expected = Path("/data/qiskit-program-runner/jobs.sqlite3")
    assert default_path({"XDG_DATA_HOME": "/data"}) == expected
    own = Path.home() / ".local/share/qiskit-program-runner/jobs.sqlite3"
    assert default_path({"XDG_DATA_HOME": "relative"}) == default_path({}) == own
    environment = {"QRUNNER_STORE": str(tmp_path), "QRUNNER_KEEP_DAYS": "soon"}
    with pytest.raises(RequestError, match="QRUNNER_KEEP_DAYS is 'soon'"):
        open_default(environment)
    with contextlib.closing(open_default({"QRUNNER_STORE": str(tmp_path)})) as store:
        assert store.path == tmp_path / "jobs.sqlite3"


def version_1(path):
    """Make a file as the first version of the schema had it, with a job in it."""
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        for statement in MIGRATIONS[0]:
            db.execute(statement)
        record = {"job": "job-1", "program": "old", "outcome": "completed", "later": "ignored"}
        record |= {"evidence": {}, "usage": {}, "exceptions": []}
        asked = {"path": "p", "backend": {}, "options": {}, "limits": {"cpus": 1, "gone": 2}}
        db.execute(
            "INSERT INTO jobs (id, program, owner, created, finished, status, outcome, request, "
            "inputs, bytes, record, result) VALUES "
            "('job-1', 'old', 'x', 1, ?, 'DONE', 'completed', ?, '{}', 1, ?, x'35')",
            (time.time(), json.dumps(asked), json.dumps(record)),
        )
        db.execute(f"PRAGMA application_id={storefile._APPLICATION}")
        db.execute("PRAGMA user_version=1")


def test_a_file_of_the_first_version_is_migrated_with_its_jobs(path):
    version_1(path)
    with contextlib.closing(Store(path)) as store:
        found = store.load("job-1")
        assert (found.record.result, found.summary.replay_of) == ("5", None)
        assert found.request.limits == {"cpus": 1}
        run(Recorder(store, keep_open=True), 2, replay_of="job-1")
        assert store.load(store.find("last")).request.replay_of == "job-1"
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (VERSION,)


def test_a_migration_that_fails_leaves_the_file_as_it_was(path, monkeypatch):
    version_1(path)
    before = path.read_bytes()
    monkeypatch.setattr(storefile, "MIGRATIONS", (*MIGRATIONS, ("CREATE nonsense",)))
    monkeypatch.setattr(storefile, "VERSION", VERSION + 1)
    with pytest.raises(StoreError, match="syntax error"):
        Store(path)
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
        assert "replay_of" not in str(db.execute("SELECT sql FROM sqlite_master").fetchall())
    assert len(path.read_bytes()) == len(before)


def test_a_store_of_a_newer_version_is_refused_by_name(path):
    Store(path).close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version={VERSION + 1}")
    with pytest.raises(StoreError, match=f"version {VERSION + 1} .* newer qrunner") as caught:
        Store(path)
    assert str(path) in str(caught.value)
    assert "QRUNNER_STORE" in str(caught.value)


def spoil(path, how):
    if how == "text":
        path.write_text("this is no database, but long enough to be taken for one\n" * 100)
    elif how == "damaged":
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.seek(100)
            file.write(b"\xff" * (size - 100))
    elif how == "foreign":
        path.unlink()
        with contextlib.closing(sqlite3.connect(path)) as db:
            db.execute("CREATE TABLE theirs (x)")
    elif how == "a pipe":
        path.unlink()
        os.mkfifo(path)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("text", "it is no database: move it away"),
        ("damaged", "move it away"),
        ("foreign", "database of another program"),
        ("a pipe", "no regular file"),
    ],
)
def test_a_file_that_is_no_store_is_refused_and_left_alone(path, how, said):
    Store(path).close()
    spoil(path, how)
    content = None if how == "a pipe" else path.read_bytes()
    with pytest.raises(StoreError, match=said) as caught:
        Store(path)
    assert str(path) in str(caught.value)
    assert content is None or path.read_bytes() == content


def test_a_place_that_cannot_be_written_is_refused_with_what_to_do():
    with pytest.raises(StoreError, match="/dev/null/jobs.db: .*QRUNNER_STORE names the file"):
        Store("/dev/null/jobs.db")
