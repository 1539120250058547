"""The database file of the store: its path, schema, transactions and error messages.

SQLite in WAL mode.  With `synchronous=NORMAL`, a commit has reached the operating system when it
returns: it survives the death of this process at any moment, and a power cut costs at most the last
commits, never the file.  This module does not know what a job is; see `runner/store/jobs.py`.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NoReturn

from runner.errors import RequestError, StoreError

VARIABLE: Final = "QRUNNER_STORE"
FILE_NAME: Final = "jobs.sqlite3"
SOCKET_NAME: Final = "qrunner.sock"
_SOCKET_BYTES: Final = 100

BUSY_S: Final = 5.0
"""Seconds to wait for the file: first for threads of this process, then for other processes."""

_APPLICATION: Final = 0x71726A62  # "qrjb", so that no other program's file is mistaken for ours
_STATE: Final = (
    "SELECT user_version, application_id, EXISTS (SELECT 1 FROM sqlite_master) "
    "FROM pragma_user_version, pragma_application_id"
)
_RETRY_S: Final = 0.02
_WAL_BYTES: Final = 16 << 20
_COMPANIONS: Final = ("-wal", "-shm", "-journal")

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        "CREATE TABLE bundles (digest TEXT PRIMARY KEY, content BLOB NOT NULL)",
        """CREATE TABLE jobs (
            number INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            program TEXT NOT NULL,
            owner TEXT NOT NULL,
            created REAL NOT NULL,
            started REAL,
            finished REAL,
            status TEXT NOT NULL,
            outcome TEXT,
            image TEXT,
            cancel INTEGER NOT NULL DEFAULT 0,
            bytes INTEGER NOT NULL,
            bundle TEXT REFERENCES bundles (digest),
            request TEXT NOT NULL,
            inputs BLOB NOT NULL,
            record TEXT,
            result BLOB
        )""",
        "CREATE INDEX jobs_unfinished ON jobs (owner) WHERE outcome IS NULL",
        "CREATE INDEX jobs_by_end ON jobs (finished, bytes)",
        "CREATE INDEX jobs_by_bundle ON jobs (bundle)",
        """CREATE TABLE events (
            job INTEGER NOT NULL REFERENCES jobs (number) ON DELETE CASCADE,
            position INTEGER NOT NULL,
            kind TEXT NOT NULL,
            seq INTEGER,
            time REAL,
            content BLOB NOT NULL,
            PRIMARY KEY (job, position)
        ) WITHOUT ROWID""",
        """CREATE TABLE tags (
            job INTEGER NOT NULL REFERENCES jobs (number) ON DELETE CASCADE,
            position INTEGER NOT NULL,
            tag TEXT NOT NULL,
            PRIMARY KEY (job, position)
        ) WITHOUT ROWID""",
    ),
    (
        "ALTER TABLE jobs ADD COLUMN replay_of TEXT",
        "CREATE INDEX jobs_by_start ON jobs (created)",
    ),
    (
        "ALTER TABLE jobs RENAME COLUMN owner TO process",
        "ALTER TABLE jobs ADD COLUMN user TEXT NOT NULL DEFAULT ''",
        "CREATE INDEX jobs_by_user ON jobs (user, created)",
    ),
    (
        "ALTER TABLE jobs ADD COLUMN program_id TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE jobs ADD COLUMN session TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE jobs ADD COLUMN key TEXT NOT NULL DEFAULT ''",
        "CREATE INDEX jobs_by_key ON jobs (user, key) WHERE key != ''",
        "CREATE INDEX jobs_pending ON jobs (user) WHERE outcome IS NULL",
        "CREATE INDEX jobs_by_user_end ON jobs (user, finished)",
        """CREATE TABLE users (
            name TEXT PRIMARY KEY,
            role TEXT NOT NULL,
            created REAL NOT NULL,
            disabled REAL
        ) WITHOUT ROWID""",
        """CREATE TABLE tokens (
            digest TEXT PRIMARY KEY,
            user TEXT NOT NULL REFERENCES users (name) ON DELETE CASCADE,
            created REAL NOT NULL,
            expires REAL,
            revoked REAL
        ) WITHOUT ROWID""",
        "CREATE INDEX tokens_by_user ON tokens (user)",
        """CREATE TABLE programs (
            number INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            owner TEXT NOT NULL,
            name TEXT NOT NULL,
            public INTEGER NOT NULL DEFAULT 0,
            created REAL NOT NULL,
            updated REAL NOT NULL,
            UNIQUE (owner, name)
        )""",
        """CREATE TABLE versions (
            program INTEGER NOT NULL REFERENCES programs (number) ON DELETE CASCADE,
            version INTEGER NOT NULL,
            created REAL NOT NULL,
            bytes INTEGER NOT NULL,
            bundle TEXT NOT NULL REFERENCES bundles (digest),
            PRIMARY KEY (program, version)
        ) WITHOUT ROWID""",
        "CREATE INDEX versions_by_bundle ON versions (bundle)",
        """CREATE TABLE shares (
            program INTEGER NOT NULL REFERENCES programs (number) ON DELETE CASCADE,
            user TEXT NOT NULL,
            PRIMARY KEY (program, user)
        ) WITHOUT ROWID""",
        """CREATE TABLE audit (
            number INTEGER PRIMARY KEY,
            time REAL NOT NULL,
            user TEXT NOT NULL,
            action TEXT NOT NULL,
            object TEXT NOT NULL,
            status INTEGER NOT NULL,
            address TEXT NOT NULL
        )""",
    ),
    (
        """CREATE TABLE answers (
            job INTEGER NOT NULL REFERENCES jobs (number) ON DELETE CASCADE,
            position INTEGER NOT NULL,
            verb TEXT NOT NULL,
            signature TEXT NOT NULL,
            body BLOB NOT NULL,
            PRIMARY KEY (job, position)
        ) WITHOUT ROWID""",
    ),
    (
        """CREATE TABLE sessions (
            digest TEXT PRIMARY KEY,
            token TEXT REFERENCES tokens (digest) ON DELETE CASCADE,
            expires REAL NOT NULL
        ) WITHOUT ROWID""",
        "CREATE INDEX sessions_by_token ON sessions (token)",
        # Lists are filtered by what is in the index, without a look at the jobs themselves.
        "DROP INDEX jobs_by_user",
        "CREATE INDEX jobs_by_user ON jobs (user, created, number, outcome, program, program_id)",
        "CREATE INDEX events_of_log ON events (job, position) WHERE kind = 'stderr'",
    ),
    ("ALTER TABLE versions ADD COLUMN cases BLOB NOT NULL DEFAULT x''",),
    (
        """CREATE TABLE used (
            user TEXT NOT NULL,
            hour INTEGER NOT NULL,
            cpu_s REAL NOT NULL,
            PRIMARY KEY (user, hour)
        ) WITHOUT ROWID""",
        "INSERT INTO used SELECT user, finished / 3600, sum(json_extract(record, '$.usage.cpu_s')) "
        "FROM jobs WHERE json_extract(record, '$.usage.cpu_s') > 0 "
        "AND finished > (SELECT max(finished) FROM jobs) - 172800 GROUP BY 1, 2",
    ),
)
"""The statements from each schema version to the next.  A new file executes all of them."""

VERSION: Final = len(MIGRATIONS)


def default_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the path of the store: `$QRUNNER_STORE`, or a file in the user's data directory."""
    if named := environment.get(VARIABLE):
        return Path(named)
    data = environment.get("XDG_DATA_HOME") or ""
    # The XDG specification says to ignore relative paths.
    base = Path(data) if data.startswith("/") else Path.home() / ".local" / "share"
    return base / "qiskit-program-runner" / FILE_NAME


def socket_beside(path: Path) -> Path | None:
    """Return where a service listens for the commands that use this store, None if nowhere.

    The directory is its user's own; the address of a socket has few characters.
    """
    found = path.parent / SOCKET_NAME
    return found if len(os.fsencode(found)) <= _SOCKET_BYTES else None


class StoreFile:
    """One connection to the file; all methods may be called from any thread.  Raises StoreError."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if self.path.is_dir():
            self.path /= FILE_NAME
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._db: sqlite3.Connection | None = None
        with self._telling():
            _prepare(self.path)
            self._make_private()
            self._db = self._connect()
            try:
                self._migrate()
            except BaseException:
                self._db.close()
                raise

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Provide the connection for short queries, exclusively within this process."""
        with self._telling():
            if not self._lock.acquire(timeout=BUSY_S):
                self._fail("another thread has been using it for too long")
            try:
                if self._db is None or not self.is_open:
                    self._fail("it is closed, or was opened before this process forked")
                yield self._db
            finally:
                self._lock.release()

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Provide the connection for one transaction: all of it is written, or nothing."""
        with self.reading() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                db.rollback()  # has no effect if SQLite has rolled back already
                raise

    def change_counter(self) -> int:
        """Return a number that changes whenever another connection has written."""
        with self.reading() as db:
            return int(db.execute("PRAGMA data_version").fetchone()[0])

    def shrink(self) -> None:
        """Return to the disk the space that deleted jobs have left free."""
        with self.reading() as db:
            # `execute` would take only its first step, which frees one page.
            db.executescript("PRAGMA incremental_vacuum")

    @property
    def is_open(self) -> bool:
        """Return True if it can be used: neither closed, nor opened before a fork."""
        return self._db is not None and os.getpid() == self._pid

    def close(self) -> None:
        """Close the file; does nothing if it is closed."""
        with self._lock:
            db, self._db = self._db, None
            if db is not None:
                with contextlib.suppress(sqlite3.Error):
                    db.close()

    # --- opening ----------------------------------------------------------------------------------

    def _make_private(self) -> None:
        """Remove access for other users, once the file is known to be ours."""
        if not self.path.stat().st_mode & 0o077:
            return
        # Read-only, so that SQLite makes no files beside it, which would have the same mode.
        name = f"{self.path.resolve().as_uri()}?mode=ro&immutable=1"
        with contextlib.closing(sqlite3.connect(name, uri=True)) as db:
            self._version(db)
        self.path.chmod(0o600)

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(
            self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
        )
        try:
            self._version(db)  # checked first: a file that is not ours is not changed
            # The first two matter only for a new file, and must come before anything is written.
            db.execute("PRAGMA auto_vacuum=INCREMENTAL")
            if self._journal_mode(db) != "wal":
                self._fail("its file system does not support shared memory: use a local one")
            db.execute("PRAGMA synchronous=NORMAL")
            db.execute("PRAGMA foreign_keys=ON")
            db.execute("PRAGMA trusted_schema=OFF")
            db.execute("PRAGMA cell_size_check=ON")
            db.execute(f"PRAGMA journal_size_limit={_WAL_BYTES}")
        except BaseException:
            db.close()
            raise
        return db

    def _journal_mode(self, db: sqlite3.Connection) -> str:
        """Switch to WAL; retries, since SQLite does not wait if two connections switch at once."""
        deadline = time.monotonic() + BUSY_S
        while True:
            try:
                return str(db.execute("PRAGMA journal_mode=WAL").fetchone()[0])
            except sqlite3.OperationalError as error:
                if _name(error) != "SQLITE_BUSY" or time.monotonic() > deadline:
                    raise
                time.sleep(_RETRY_S)

    def _migrate(self) -> None:
        with self.reading() as db:
            if self._version(db) == VERSION:
                return
        with self.writing() as db:
            for statements in MIGRATIONS[
                self._version(db) :
            ]:  # another process may have migrated it
                for each in statements:
                    db.execute(each)
            db.execute(f"PRAGMA application_id={_APPLICATION}")
            db.execute(f"PRAGMA user_version={VERSION}")

    def _version(self, db: sqlite3.Connection) -> int:
        # In one statement: another process could make the tables between two.
        version, application, has_tables = db.execute(_STATE).fetchone()
        is_ours = application == _APPLICATION
        is_new = version == 0 and not has_tables
        if not is_ours and not is_new:
            self._fail("it is a database of another program: use another file")
        if version > VERSION:
            self._fail(
                f"it has version {version} of the schema, written by a newer qrunner; this one "
                f"knows versions up to {VERSION}: use the newer one, or another file"
            )
        return int(version)

    # --- faults -----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except UnicodeEncodeError as error:
            # Half a surrogate pair: how Python represents a command's argument that is not UTF-8.
            msg = f"{error.object!r} is not valid Unicode: use UTF-8"
            raise RequestError(msg) from None
        except (sqlite3.Error, OSError) as error:
            self._fail(_in_words(error), error)

    def _fail(self, reason: str, cause: Exception | None = None) -> NoReturn:
        msg = f"the store of jobs, {self.path}: {reason} ({VARIABLE} names the file to use)"
        raise StoreError(msg) from cause


def _prepare(path: Path) -> None:
    """Make the file, and its directory if it is new; refuse a file that another user controls."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # An existing file is not opened: closing any descriptor of it drops this process's locks.
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        msg = "it is no regular file"
        raise OSError(msg)
    if status.st_uid != os.getuid():
        msg = f"it belongs to user {status.st_uid}"
        raise OSError(msg)
    real = path.resolve()  # SQLite follows links too, and makes its other files beside the target
    _check_directory(real.parent)
    for suffix in _COMPANIONS:
        _check_companion(real.with_name(real.name + suffix))


def _check_directory(path: Path) -> None:
    """Refuse a directory in which others can make files: SQLite trusts the files beside its own."""
    status = path.stat()
    if status.st_uid not in {0, os.getuid()}:
        msg = f"its directory {path} belongs to user {status.st_uid}: use one of your own"
        raise OSError(msg)
    if status.st_mode & 0o022:
        msg = f"others can write to its directory {path}: `chmod go-w` it, or use another"
        raise OSError(msg)


def _check_companion(path: Path) -> None:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    is_private = status.st_uid == os.getuid() and not status.st_mode & 0o077
    if not (stat.S_ISREG(status.st_mode) and is_private):
        msg = f"{path} is not private to its user: `chmod 600` it if you made it, else remove it"
        raise OSError(msg)


def _name(error: sqlite3.Error) -> str:
    return getattr(error, "sqlite_errorname", None) or ""


_REASONS: Final = {
    "SQLITE_BUSY": f"another process has been writing to it for more than {BUSY_S:g} s",
    "SQLITE_LOCKED": "it is locked",
    "SQLITE_FULL": "there is no space left: free some, or delete jobs",
    "SQLITE_NOTADB": "it is no database: move it away, and a new one is made",
    "SQLITE_CORRUPT": "it is damaged: move it away, and a new one is made",
    "SQLITE_READONLY": "it cannot be written",
    "SQLITE_CANTOPEN": "it cannot be opened",
    "SQLITE_IOERR": "the disk fails or is full",
}


def _in_words(error: Exception) -> str:
    if not isinstance(error, sqlite3.Error):
        return str(error)
    name = _name(error)
    reason = next((text for known, text in _REASONS.items() if name.startswith(known)), "")
    return f"{reason} ({error})" if reason else str(error)
