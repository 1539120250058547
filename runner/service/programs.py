"""Programs that users upload: checked and packaged when they arrive, shared as their owners say."""

from __future__ import annotations

import dataclasses
import json
import re
import secrets
import string
import threading
from collections.abc import Mapping, Sequence
from functools import lru_cache
from http import HTTPStatus
from pathlib import Path
from typing import Final

from packaging.utils import canonicalize_name

from runner.errors import ManifestError
from runner.job import Job
from runner.job.request import Origin
from runner.policy.rules import Rules
from runner.programs import CASES_DIRECTORY, Program, of_files
from runner.service import archives
from runner.service.faults import RefusedError, later, not_found, too_much
from runner.service.turns import Turns
from runner.store import Store, kept
from runner.store.uploads import Upload, Uploads
from runner.store.users import User, Users
from runner.supervisor import Supervisor

_ALPHABET: Final = string.ascii_lowercase + string.digits
_RANDOM_CHARS: Final = 10
_SHOWN_CHARS: Final = 300
_AT_ONCE: Final = 4
_TURN_S: Final = 60.0
_READ_AHEAD: Final = 64
"""Programs that are kept ready to run, because jobs in a row often share one."""


class Programs:
    """The uploaded programs, as each user sees them."""

    def __init__(self, store: Store, supervisor: Supervisor, users: Users, rules: Rules) -> None:
        self.uploads = Uploads(store.file)
        self._store = store
        self._supervisor = supervisor
        self._users = users
        self._rules = rules
        self._turns = Turns()
        self._packaging = threading.BoundedSemaphore(_AT_ONCE)
        self._read = lru_cache(maxsize=_READ_AHEAD)(self._read_from_store)

    def add(
        self, user: User, files: Mapping[str, bytes], *, name: str = "", public: bool = False
    ) -> Upload:
        """Upload a program and return it; `name` is its name if it says none itself.

        Raises ManifestError, ImageError or RefusedError that says what is wrong with it, and
        DuplicateError if the user has a program of its name.
        """
        files, cases = archives.split(files)
        program = self._checked(files, name)
        bundle, packed = kept.pack(program), archives.packed(_checked_cases(cases))
        size = len(bundle[1]) + len(packed)
        self._check_quota(user.name, size, new=1)
        self._package(program)
        program_id = _new_id(program.name)
        with self._turns.of(user.name):
            self._check_quota(user.name, size, new=1)  # others may have come meanwhile
            self.uploads.add(program_id, user.name, program.name, bundle, packed)
        upload = self.find(program_id, user)
        if public:
            self.publish(upload, public=True)
            upload = self.find(program_id, user)
        return upload

    def update(
        self, upload: Upload, files: Mapping[str, bytes], cases: Mapping[str, bytes] | None = None
    ) -> int:
        """Store a new version of a program and return its number.  Raises as `add` does.

        `cases` are those of the new version if they do not stand among the files.
        """
        files, among = archives.split(files)
        program = self._checked(files, upload.name)
        bundle = kept.pack(program)
        packed = archives.packed(_checked_cases(among if cases is None else cases))
        if (bundle[0], packed) == (self.uploads.bundle(upload), self.uploads.cases(upload)):
            return upload.version  # what a client repeats changes nothing
        size = len(bundle[1]) + len(packed)
        self._check_quota(upload.owner, size)
        self._package(program)
        with self._turns.of(upload.owner):
            self._check_quota(upload.owner, size)
            return self.uploads.update(upload, program.name, bundle, packed)

    def cases(self, upload: Upload, version: int | None = None) -> dict[str, bytes]:
        """Return the files in `cases/` of a version, by name.  Raises RefusedError (404)."""
        found = self.uploads.cases(upload, version)
        if found is None:
            msg = "version"
            raise not_found(msg, f"{version or upload.version} of {upload.id}")
        return archives.unpacked(found)

    def put(self, user: User, files: Mapping[str, bytes], *, name: str = "") -> Upload:
        """Upload a program, or a new version of the user's own of its name.  Raises as `add`."""
        program = self._checked(archives.split(files)[0], name)
        own = self.uploads.find(program.name, user.name)
        if own is None or own.owner != user.name:
            return self.add(user, files, name=name)
        self.update(own, files)
        return self.find(own.id, user)

    def find(self, name: str, user: User) -> Upload:
        """Return the program with this id, or the user's own of this name.

        Raises RefusedError (404) if there is none that the user may see.
        """
        upload = self.uploads.find(name, user.name)
        if upload is None:
            msg = "program"
            raise not_found(msg, name)
        return upload

    def read(self, upload: Upload, version: int | None = None) -> Program:
        """Return a version of a program (default: the newest).  Raises RefusedError (404)."""
        digest = self.uploads.bundle(upload, version)
        program = None if digest is None else self._read(digest)
        if program is None:
            msg = "version"
            raise not_found(msg, f"{version or upload.version} of {upload.id}")
        return program

    def of_job(self, job: Job, user: User) -> tuple[Program, Origin]:
        """Return the program of a user's job, and where it came from, for a job like it.

        Raises RefusedError (404) if it is gone, or no longer for this user.
        """
        origin = job.request.origin
        if origin.program_id:
            program = self.read(self.find(origin.program_id, user), origin.version)
            return program, Origin(program_id=origin.program_id, version=origin.version)
        digest = self._store.bundle_of(job.id)  # it came with the job
        found = None if digest is None else self._read(digest)
        if found is None:
            msg = "program"
            raise not_found(msg, job.program)
        return found, Origin()

    def _read_from_store(self, digest: str) -> Program | None:
        return kept.read_program(self._store, digest)

    def given(self, files: Mapping[str, bytes], name: str, path: str) -> Program:
        """Return the program that came with a request for one job.  Raises as `add` does.

        `path` is where its user has it, for tracebacks; nothing is read there.
        """
        program = self._checked(archives.split(files)[0], name)
        return dataclasses.replace(program, path=Path(path[:_SHOWN_CHARS])) if path else program

    def publish(self, upload: Upload, *, public: bool) -> None:
        """Let everybody run a program, or only its owner and those it is shared with."""
        self.uploads.publish(upload, public=public)

    def share(self, upload: Upload, names: Sequence[str]) -> None:
        """Set the users who may run a program and read its source.

        Raises RefusedError for a name that no user has.
        """
        for name in names:
            if not self._users.exists(name):
                msg = f"no user {name!r:.80}: a program is shared with users by their exact names"
                raise RefusedError(HTTPStatus.BAD_REQUEST, msg)
        self.uploads.share(upload, names)

    def _checked(self, files: Mapping[str, bytes], name: str) -> Program:
        program = of_files(Path(re.sub(r"[^\w.-]+", "-", name)[:64] or "program"), dict(files))
        allowed = {canonicalize_name(each) for each in self._rules.requirements}
        refused = sorted({each.name for each in program.pins} - allowed)
        if refused:
            msg = (
                f"requirements: {', '.join(refused)} may not be used here; allowed are: "
                f"{', '.join(sorted(allowed)) or 'none'} (the operator sets `requirements`)"
            )
            raise ManifestError(msg)
        return program

    def _package(self, program: Program) -> None:
        """Build a program's image, a few at the same time.  Raises ImageError, RefusedError."""
        if not self._packaging.acquire(timeout=_TURN_S):
            msg = "too many programs are being packaged"
            raise later(msg)
        try:
            self._supervisor.package(program)
        finally:
            self._packaging.release()

    def _check_quota(self, user: str, size: int, *, new: int = 0) -> None:
        number, used = self.uploads.owned(user)
        if new and number + new > self._rules.programs:
            msg = f"you have {number} programs, the quota is {self._rules.programs}: delete some"
            raise too_much(msg)
        if used + size > self._rules.program_bytes:
            msg = (
                f"your programs would take {used + size} bytes with all their versions, the quota "
                f"is {self._rules.program_bytes}: delete some"
            )
            raise too_much(msg)


def _checked_cases(cases: Mapping[str, bytes]) -> Mapping[str, bytes]:
    """Return cases that are JSON objects; what they say is for whoever runs them.

    Raises ManifestError.
    """
    for name, content in cases.items():
        try:
            is_object = isinstance(json.loads(content), dict)
        except (ValueError, RecursionError) as error:
            msg = f"{CASES_DIRECTORY}/{name}: not readable as JSON: {error!s:.100}"
            raise ManifestError(msg) from None
        if not is_object:
            msg = f"{CASES_DIRECTORY}/{name}: a case is a JSON object"
            raise ManifestError(msg)
    return cases


def may_read(upload: Upload, user: User) -> bool:
    """Return True if a user who sees a program may read its source as well."""
    return user.name == upload.owner or user.name in upload.shared_with


def _new_id(name: str) -> str:
    """Return a new id, which is safe in a path as it is, and begins as the name does."""
    begin = re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-_")[:40] or "program"
    end = "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM_CHARS))
    return f"{begin}-{end}"
