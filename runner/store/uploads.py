"""Programs that users have uploaded to a service, with all their versions, in the store's file.

A version is the digest of a program's content; the content stands where that of jobs does, once for
all who use it.  Whether a person may see a program is part of every query, so that a program that
is hidden from somebody cannot be told from one that does not exist, not even by the time it takes.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from runner.errors import RequestError
from runner.store.file import StoreFile
from runner.store.rows import drop_bundles

MAX_VERSIONS: Final = 100
"""Versions of one program that are kept; a job has what it ran in any case."""

_COLUMNS: Final = (
    "number, id, owner, name, public, programs.created, updated, "
    "(SELECT max(version) FROM versions WHERE program = number)"
)
_VISIBLE: Final = (
    "(owner = :user OR public OR EXISTS "
    "(SELECT 1 FROM shares WHERE program = number AND user = :user))"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """An uploaded program; times are seconds since the epoch, `version` is the newest."""

    number: int
    id: str
    owner: str
    name: str
    public: bool
    created: float
    updated: float
    version: int
    shared_with: tuple[str, ...] = ()


class DuplicateError(RequestError):
    """The user has a program of this name already."""


class Uploads:
    """The uploaded programs in one file.  Every method raises StoreError if the file fails."""

    def __init__(self, file: StoreFile) -> None:
        self._file = file

    def add(
        self, program_id: str, owner: str, name: str, bundle: tuple[str, bytes], cases: bytes
    ) -> None:
        """Store a new program, private to its owner.  Raises DuplicateError for a taken name."""
        now = time.time()
        with self._file.writing() as db:
            done = db.execute(
                "INSERT OR IGNORE INTO programs (id, owner, name, created, updated) "
                "VALUES (?, ?, ?, ?, ?)",
                (program_id, owner, name, now, now),
            )
            if not done.rowcount:
                raise _duplicate(name)
            _put_version(db, int(done.lastrowid or 0), 1, bundle, cases)

    def update(self, upload: Upload, name: str, bundle: tuple[str, bytes], cases: bytes) -> int:
        """Store a new version of a program, and return its number; jobs keep the one they ran.

        Raises DuplicateError if the owner has another program of this name.
        """
        with self._file.writing() as db:
            try:
                db.execute(
                    "UPDATE programs SET name = ?, updated = ? WHERE number = ?",
                    (name, time.time(), upload.number),
                )
            except sqlite3.IntegrityError:
                raise _duplicate(name) from None
            row = db.execute(
                "SELECT coalesce(max(version), 0) + 1 FROM versions WHERE program = ?",
                (upload.number,),
            ).fetchone()
            _put_version(db, upload.number, row[0], bundle, cases)
            _drop_old_versions(db, upload.number, row[0] - MAX_VERSIONS)
            return int(row[0])

    def publish(self, upload: Upload, *, public: bool) -> None:
        """Let everybody run a program, or only its owner and those it is shared with."""
        with self._file.writing() as db:
            db.execute("UPDATE programs SET public = ? WHERE number = ?", (public, upload.number))

    def share(self, upload: Upload, users: Sequence[str]) -> None:
        """Set the users, beside the owner, who may run a program and read its source."""
        with self._file.writing() as db:
            db.execute("DELETE FROM shares WHERE program = ?", (upload.number,))
            db.executemany(
                "INSERT OR IGNORE INTO shares VALUES (?, ?)",
                ((upload.number, each) for each in users),
            )

    def delete(self, upload: Upload) -> None:
        """Remove a program with all versions; its jobs stay."""
        with self._file.writing() as db:
            db.execute("DELETE FROM programs WHERE number = ?", (upload.number,))
            drop_bundles(db)

    # --- reading ----------------------------------------------------------------------------------

    def find(self, name: str, user: str) -> Upload | None:
        """Return the program with this id, or the user's own of this name, None if there is none.

        None as well if this user may not see it.
        """
        with self._file.reading() as db:
            row = db.execute(
                f"SELECT {_COLUMNS} FROM programs WHERE (id = :name OR "  # noqa: S608
                f"(name = :name AND owner = :user)) AND {_VISIBLE} ORDER BY id = :name DESC",
                {"name": name, "user": user},
            ).fetchone()
            return None if row is None else _upload(db, row)

    def named(self, name: str, user: str) -> list[Upload]:
        """Return the programs of this name that the user may see."""
        with self._file.reading() as db:
            found = db.execute(
                f"SELECT {_COLUMNS} FROM programs WHERE name = :name AND {_VISIBLE} LIMIT 10",  # noqa: S608
                {"name": name, "user": user},
            ).fetchall()
            return [_upload(db, row) for row in found]

    def all(self, user: str, *, limit: int, skip: int) -> list[Upload]:
        """Return the programs that a user may see, the newest first."""
        with self._file.reading() as db:
            found = db.execute(
                f"SELECT {_COLUMNS} FROM programs WHERE {_VISIBLE} "  # noqa: S608
                "ORDER BY programs.created DESC, number DESC LIMIT :limit OFFSET :skip",
                {"user": user, "limit": limit, "skip": skip},
            ).fetchall()
            return [_upload(db, row) for row in found]

    def count(self, user: str) -> int:
        """Return how many programs a user may see."""
        with self._file.reading() as db:
            statement = f"SELECT count(*) FROM programs WHERE {_VISIBLE}"  # noqa: S608
            return int(db.execute(statement, {"user": user}).fetchone()[0])

    def owned(self, user: str) -> tuple[int, int]:
        """Return how many programs a user owns, and the bytes that all their versions take."""
        with self._file.reading() as db:
            row = db.execute(
                "SELECT count(DISTINCT number), coalesce(sum(bytes), 0) FROM programs "
                "JOIN versions ON program = number WHERE owner = ?",
                (user,),
            ).fetchone()
        return int(row[0]), int(row[1])

    def bundle(self, upload: Upload, version: int | None = None) -> str | None:
        """Return the digest of a version (default: the newest), None if there is no such one."""
        with self._file.reading() as db:
            row = db.execute(
                "SELECT bundle FROM versions WHERE program = ? AND version = ?",
                (upload.number, version or upload.version),
            ).fetchone()
        return None if row is None else str(row[0])

    def cases(self, upload: Upload, version: int | None = None) -> bytes | None:
        """Return the cases of a version as they were stored, None if there is no such one."""
        with self._file.reading() as db:
            row = db.execute(
                "SELECT cases FROM versions WHERE program = ? AND version = ?",
                (upload.number, version or upload.version),
            ).fetchone()
        return None if row is None else bytes(row[0])

    def versions(self, upload: Upload) -> list[tuple[int, float, str]]:
        """Return number, time and digest of every version, the newest first."""
        with self._file.reading() as db:
            return db.execute(
                "SELECT version, created, bundle FROM versions WHERE program = ? "
                "ORDER BY version DESC",
                (upload.number,),
            ).fetchall()


def _put_version(
    db: sqlite3.Connection, number: int, version: int, bundle: tuple[str, bytes], cases: bytes
) -> None:
    db.execute("INSERT OR IGNORE INTO bundles VALUES (?, ?)", bundle)
    db.execute(
        "INSERT INTO versions (program, version, created, bytes, bundle, cases) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (number, version, time.time(), len(bundle[1]) + len(cases), bundle[0], cases),
    )


def _drop_old_versions(db: sqlite3.Connection, number: int, oldest: int) -> None:
    done = db.execute("DELETE FROM versions WHERE program = ? AND version <= ?", (number, oldest))
    if done.rowcount:
        drop_bundles(db)


def _upload(db: sqlite3.Connection, row: Sequence[Any]) -> Upload:
    shares = db.execute("SELECT user FROM shares WHERE program = ? ORDER BY user", (row[0],))
    return Upload(
        number=row[0],
        id=row[1],
        owner=row[2],
        name=row[3],
        public=bool(row[4]),
        created=row[5],
        updated=row[6],
        version=row[7],
        shared_with=tuple(str(user) for (user,) in shares),
    )


def _duplicate(name: str) -> DuplicateError:
    msg = f"you have a program {name!r:.120} already: update it, or choose another name"
    return DuplicateError(msg)
