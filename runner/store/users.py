"""Users of a service and their tokens, in the store's file.

A token is shown once, when it is made; the file holds only its SHA-256 digest.  A token has 256
random bits, so nobody finds it by trying, and no slow digest is needed.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import sqlite3
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from runner.errors import RequestError
from runner.store.file import StoreFile

PREFIX: Final = "qr_"
"""How every token begins, so that searches for leaked secrets can find it."""

_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._@-]{0,62}[A-Za-z0-9])?")
_BYTES: Final = 32


class Role(StrEnum):
    """What a user may do besides running programs; an operator manages users and the service."""

    USER = "user"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A person who may use the service; times are seconds since the epoch.

    `tokens` is the number of tokens that can be used now.
    """

    name: str
    role: Role
    created: float
    disabled: float | None = None
    tokens: int = 0


class Users:
    """The users in one file.  Every method raises StoreError if the file fails."""

    def __init__(self, file: StoreFile) -> None:
        self._file = file

    def add(self, name: str, role: Role = Role.USER) -> None:
        """Add a user, who has no token yet.  Raises RequestError for an odd or a taken name."""
        if not _NAME.fullmatch(name):
            msg = f"user {name!r:.80}: a name is 1 to 64 letters, digits, and . _ @ - inside"
            raise RequestError(msg)
        with self._file.writing() as db:
            done = db.execute(
                "INSERT OR IGNORE INTO users (name, role, created) VALUES (?, ?, ?)",
                (name, role.value, time.time()),
            )
            if not done.rowcount:
                msg = f"user {name!r} exists already: `qrunner users token {name}` makes a token"
                raise RequestError(msg)

    def new_token(self, name: str, *, valid_s: float | None = None) -> str:
        """Return a new token of a user, which is valid for `valid_s` seconds (None: for ever).

        Raises RequestError for an unknown or disabled user, or a time that is not above 0.
        """
        if valid_s is not None and not valid_s > 0:
            msg = f"a token valid for {valid_s:g} s: it must be valid for longer than 0"
            raise RequestError(msg)
        token = PREFIX + secrets.token_urlsafe(_BYTES)
        now = time.time()
        with self._file.writing() as db:
            self._check_enabled(db, name)
            db.execute(
                "INSERT INTO tokens (digest, user, created, expires) VALUES (?, ?, ?, ?)",
                (digest_of(token), name, now, None if valid_s is None else now + valid_s),
            )
        return token

    def revoke_tokens(self, name: str) -> int:
        """Revoke all tokens of a user; return how many could still be used."""
        now = time.time()
        with self._file.writing() as db:
            done = db.execute(
                "UPDATE tokens SET revoked = ? WHERE user = ? AND revoked IS NULL "
                "AND (expires IS NULL OR expires > ?)",
                (now, name, now),
            )
            return done.rowcount

    def disable(self, name: str) -> None:
        """Let a user do nothing any more, and revoke all tokens.  Raises RequestError."""
        with self._file.writing() as db:
            done = db.execute(
                "UPDATE users SET disabled = coalesce(disabled, ?) WHERE name = ?",
                (time.time(), name),
            )
            if not done.rowcount:
                raise _unknown(name)
        self.revoke_tokens(name)

    def enable(self, name: str) -> None:
        """Let a disabled user in again, with a new token.  Raises RequestError."""
        with self._file.writing() as db:
            if not db.execute("UPDATE users SET disabled = NULL WHERE name = ?", (name,)).rowcount:
                raise _unknown(name)

    def of_token(self, token: str) -> User | None:
        """Return the user whose token this is; None if it is unknown, expired or revoked."""
        digest = digest_of(token)
        with self._file.reading() as db:
            row = db.execute(
                "SELECT digest, name, role, users.created FROM tokens JOIN users ON name = user "
                "WHERE digest = ? AND revoked IS NULL AND disabled IS NULL "
                "AND (expires IS NULL OR expires > ?)",
                (digest, time.time()),
            ).fetchone()
        if row is None or not hmac.compare_digest(str(row[0]), digest):
            return None
        return User(name=row[1], role=Role(row[2]), created=row[3])

    def all(self) -> list[User]:
        """Return all users, in the order of their names."""
        with self._file.reading() as db:
            found = db.execute(
                "SELECT name, role, created, disabled, (SELECT count(*) FROM tokens "
                "WHERE user = name AND revoked IS NULL AND (expires IS NULL OR expires > ?)) "
                "FROM users ORDER BY name",
                (time.time(),),
            ).fetchall()
        return [
            User(name=name, role=Role(role), created=created, disabled=disabled, tokens=tokens)
            for name, role, created, disabled, tokens in found
        ]

    def exists(self, name: str) -> bool:
        """Return True if there is a user of this name, disabled or not."""
        with self._file.reading() as db:
            row = db.execute("SELECT 1 FROM users WHERE name = ?", (name,)).fetchone()
        return row is not None

    @staticmethod
    def _check_enabled(db: sqlite3.Connection, name: str) -> None:
        row = db.execute("SELECT disabled FROM users WHERE name = ?", (name,)).fetchone()
        if row is None:
            raise _unknown(name)
        if row[0] is not None:
            msg = f"user {name!r} is disabled: `qrunner users enable {name}` first"
            raise RequestError(msg)


def digest_of(token: str) -> str:
    """Return what the file holds of a token."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def _unknown(name: str) -> RequestError:
    return RequestError(f"no user {name!r:.80}: `qrunner users list` names them")
