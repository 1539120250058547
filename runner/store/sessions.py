"""Sessions of people who have signed in with a browser, in the store's file.

A session is a random name that stands for a token; the file holds only its digest.  It ends with
its token, its user, its time, or when the person signs out.  A session without a token is that of
whoever may use a service for a single user.
"""

from __future__ import annotations

import secrets
import time
from typing import Final

from runner.store.file import StoreFile
from runner.store.users import Role, User, digest_of

SESSION_S: Final = 86400.0
"""How long a session lasts, in seconds."""

MAX_SESSIONS: Final = 20
"""The most sessions of one token; the oldest ends when there are more."""

LOCAL: Final = User(name="", role=Role.OPERATOR, created=0)
"""Whoever may use this machine's service without a token; the jobs are the command line's own."""

_BYTES: Final = 32


class Sessions:
    """The sessions in one file.  Every method raises StoreError if the file fails."""

    def __init__(self, file: StoreFile) -> None:
        self._file = file

    def open(self, token: str | None) -> str:
        """Return the name of a new session of a valid token, or of `LOCAL` if that is None."""
        name, now = secrets.token_urlsafe(_BYTES), time.time()
        of = None if token is None else digest_of(token)
        with self._file.writing() as db:
            db.execute("DELETE FROM sessions WHERE expires <= ?", (now,))
            db.execute(
                "INSERT INTO sessions VALUES (?, ?, ?)", (digest_of(name), of, now + SESSION_S)
            )
            db.execute(
                "DELETE FROM sessions WHERE digest IN (SELECT digest FROM sessions "
                "WHERE token IS ? ORDER BY expires DESC LIMIT -1 OFFSET ?)",
                (of, MAX_SESSIONS),
            )
        return name

    def user_of(self, name: str) -> User | None:
        """Return whose session this is; None if it has ended, or its token is no longer valid."""
        now = time.time()
        with self._file.reading() as db:
            row = db.execute(
                "SELECT token, user, role, users.created FROM sessions "
                "LEFT JOIN tokens ON tokens.digest = token AND revoked IS NULL "
                "AND (tokens.expires IS NULL OR tokens.expires > :now) "
                "LEFT JOIN users ON users.name = user AND disabled IS NULL "
                "WHERE sessions.digest = :digest AND sessions.expires > :now",
                {"now": now, "digest": digest_of(name)},
            ).fetchone()
        if row is None:
            return None
        token, user, role, created = row
        if token is None:
            return LOCAL
        return None if role is None else User(name=user, role=Role(role), created=created)

    def close(self, name: str) -> None:
        """End a session; does nothing if it has ended."""
        with self._file.writing() as db:
            db.execute("DELETE FROM sessions WHERE digest = ?", (digest_of(name),))
