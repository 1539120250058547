"""The file: whose it is, what is refused, and versions older and newer."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import sqlite3
import stat
import time
from pathlib import Path

import pytest

from runner.errors import RequestError, StoreError
from runner.host.processes import HostProcess
from runner.job.record import Evidence, Outcome
from runner.job.request import Request
from runner.policy import Limits
from runner.running.requests import repeated
from runner.store import Store, kept, open_default
from runner.store import file as storefile
from runner.store.audit import Audit
from runner.store.file import MIGRATIONS, VERSION, default_path
from runner.store.recorder import Recorder
from runner.store.rows import Query
from runner.store.uploads import Uploads
from runner.store.users import Role, Users
from sandbox.wire.protocol import JsonText
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
    with pytest.raises(StoreError, match=f"{beside.name} is not private to its user"):
        Store(path)
    beside.unlink()
    beside.symlink_to("/dev/null")
    with pytest.raises(StoreError, match=f"{beside.name} is not private to its user"):
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
        assert found.request.limits == Limits(cpus=1)
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


GOLDEN = Path(__file__).parents[2] / "golden" / "store"
DONE, FAILED, AGAIN, LIMITED, RUNS = (
    "job-78cba71bbb08799b",
    "job-9a3ffb58ce8ab34f",
    "job-db9ae49ea04bdd52",
    "job-fc7a71a28eebf7e1",
    "job-f76c56ec35ebc53d",
)


@pytest.fixture
def version_2(path):
    """A file as the second version wrote it, with what five jobs have left in it."""
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.executescript((GOLDEN / "version-2.sql").read_text())
    return path


def test_the_jobs_of_the_second_version_are_all_there(version_2):
    with contextlib.closing(Store(version_2, keep_days=1e6)) as store:
        found = store.summaries(Query(descending=False))
        assert [each.id for each in found] == [DONE, FAILED, AGAIN, LIMITED, RUNS]
        assert {each.process for each in found} == {"golden.0123456789ab.1.4242.1"}
        assert {each.user for each in found} == {""}
        outcomes = [Outcome.COMPLETED, Outcome.PROGRAM_ERROR, Outcome.COMPLETED, Outcome.TIME_LIMIT]
        assert [each.outcome for each in found] == [*outcomes, None]
        job = kept.open_job(store, DONE)
        assert job.result() == {"n": 2, "large": math.inf}
        assert list(job.messages()) == [{"i": 0, "text": "naïve"}, {"i": 1, "text": "naïve"}]
        assert (job.logs(), job.tags, job.inputs) == ("to the log\n", ["first", "naïve"], {"n": 2})
        assert job.evidence == Evidence()
        assert job.usage.sources["cpu_s"] == "cgroup"
        assert job.request == Request(
            program="talker",
            path="progs/talker.py",
            inputs=JsonText('{"n": 2}'),
            backend={"name": "none", "options": {}},
            options={"log_level": "INFO"},
            limits=Limits(),
            tags=("first", "naïve"),
        )
        assert kept.open_job(store, AGAIN).request.replay_of == DONE
        used = sum(
            each.record.usage.cpu_s or 0 for each in map(store.load, [DONE, FAILED, LIMITED])
        )
        assert store.cpu_s("", 0) >= used > 0
        failed = kept.open_job(store, FAILED)
        assert failed.error_message().endswith("ValueError: as asked\n")
        assert failed.request.limits == Limits(timeout_s=20)
        limited = kept.open_job(store, LIMITED).record
        assert limited.evidence.in_words() == "timeout_s 1, 1.002 seen, by host"


def test_the_programs_of_the_second_version_can_be_run_again(version_2):
    with contextlib.closing(Store(version_2, keep_days=1e6)) as store:
        declared = store.load(RUNS)
        program = kept.program_of(store, declared)
        assert program.manifest.parameters["properties"]["seconds"] == {
            "type": "number",
            "default": 0,
        }
        assert program.manifest.limits["timeout_s"] == 60
        again = repeated(declared.request, program, Limits(), job=RUNS, user="alice")
        assert (again.replay_of, again.user, again.entry) == (RUNS, "alice", "program.py")
        assert again.limits.memory_bytes == 256 << 20
        # It has the same digest now, so many jobs of one program still share it.
        assert kept.pack(program)[0] == declared.bundle


def test_a_process_of_the_second_version_that_is_dead_has_left_interrupted_jobs(version_2):
    me = HostProcess.current()
    with contextlib.closing(sqlite3.connect(version_2)) as db, db:
        dead = dataclasses.replace(me, started="0")
        db.execute("UPDATE jobs SET owner = ?", (str(dead),))
    with contextlib.closing(Store(version_2, keep_days=1e6)) as store:
        record = store.load(RUNS).record
        assert record.outcome is Outcome.INTERRUPTED
        assert f"process {me.pid}" in record.error
        assert store.count(Query(pending=True)) == 0


def test_the_users_and_programs_of_the_fifth_version_are_all_there(path):
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.executescript((GOLDEN / "version-5.sql").read_text())
    with contextlib.closing(Store(path, keep_days=1e6)) as store:
        users, uploads = Users(store.file), Uploads(store.file)
        assert users.of_token("qr_golden-token-of-alice").name == "alice"
        assert [(each.name, each.role, each.tokens) for each in users.all()] == [
            ("alice", Role.USER, 1),
            ("bob", Role.OPERATOR, 0),
        ]
        shared = uploads.find("echo-0123456789", "bob")
        assert (shared.owner, shared.version, shared.shared_with) == ("alice", 2, ("bob",))
        assert uploads.cases(shared) == uploads.cases(shared, 1) == b""
        for version in (1, 2):
            program = kept.read_program(store, uploads.bundle(shared, version))
            assert program.files["program.py"].endswith(f"return {version}\n".encode())
        assert Audit(store.file).entries(user="alice", limit=9)[0].status == 201
        bundle = kept.pack(program)
        assert uploads.update(shared, "echo", bundle, b"cases") == 3
        assert uploads.cases(uploads.find("echo", "alice")) == b"cases"
