"""Jobs kept on disk: request, events and end of each job, until retention removes it.

`Store` maps jobs to rows and back, in short transactions.  Several threads and processes may use
the same file.  `runner/store/rows.py` defines how a job is written as rows, and
`runner/store/recorder.py` decides when.
"""

from __future__ import annotations

import base64
import contextlib
import difflib
import json
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NoReturn, Self

from runner.errors import RequestError, StoreError, UnknownJobError
from runner.host.closing import Closing
from runner.host.forms import value_of
from runner.host.processes import HostProcess
from runner.job.device import Answer
from runner.job.record import Event, FileEvent, JobStatus, MessageEvent, Usage
from runner.job.request import Request
from runner.policy import parse_size
from runner.store import rows
from runner.store.file import StoreFile, default_path
from runner.store.rows import Change, Kept, Query, Summary
from sandbox.wire.protocol import MAX_FILES, JsonText

KEEP_DAYS: Final = 30.0
KEEP_BYTES: Final = 1 << 30

_DAY_S: Final = 86400

_PRUNED_AT_ONCE: Final = 50
_COLUMNS: Final = rows.SUMMARY
_OF_EVENTS: Final = (
    "kind, seq, time, content, jobs.id, program FROM events JOIN jobs ON number = job"
)


_LAST_EVENTS: Final = 10 * MAX_FILES
"""Files are among the last events of a job: behind them there is the end of its log only."""


class Store:
    """The jobs in one file.  A context manager that closes it.

    Every method raises StoreError if the file fails.

    Arguments:
        path: the file, or a directory for it; both are made if needed, accessible to this user
            only.
        keep_days: retention, in days.
        keep_bytes: retention, in bytes of content; the file is a little larger.

    Retention removes the oldest jobs first, but never a running job, nor the one that ended last.
    Opening a store marks the jobs of dead processes as `interrupted` and applies retention.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        keep_days: float = KEEP_DAYS,
        keep_bytes: int = KEEP_BYTES,
    ) -> None:
        if not (keep_days > 0 and keep_bytes > 0):
            msg = f"retention of {keep_days!r} days and {keep_bytes!r} bytes: both must be above 0"
            raise RequestError(msg)
        self._keep_s = keep_days * _DAY_S
        self._keep_bytes = keep_bytes
        self._file = StoreFile(path)
        self.path = self._file.path
        self._close = Closing(f"store of jobs, {self.path}", self._file.close)
        try:
            self.mark_interrupted()
            self.prune()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def file(self) -> StoreFile:
        """The file, for what a service keeps beside the jobs."""
        return self._file

    @property
    def is_open(self) -> bool:
        """Return True if it can be used: neither closed, nor opened before a fork."""
        return self._file.is_open

    def reopen(self) -> Store:
        """Open the same file again, with the same retention."""
        days = self._keep_s / _DAY_S
        return Store(self.path, keep_days=days, keep_bytes=self._keep_bytes)

    def close(self) -> None:
        """Close the file; does nothing if it is closed."""
        self._close()

    def change_counter(self) -> int:
        """Return a number that changes whenever another process has written."""
        return self._file.change_counter()

    # --- writing ----------------------------------------------------------------------------------

    def add(self, job: Summary, request: Request, bundle: tuple[str, bytes] | None) -> int:
        """Store a job that has just been submitted; return its number, which `save` needs."""
        inputs, asked = request.inputs.encode(), rows.request_text(request)
        origin = request.origin
        with self._file.writing() as db:
            if bundle is not None:
                db.execute("INSERT OR IGNORE INTO bundles VALUES (?, ?)", bundle)
            number = db.execute(
                "INSERT INTO jobs (id, program, user, process, created, status, bundle, request, "
                "inputs, replay_of, bytes, program_id, session, key) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(job.id, job.program, job.user, job.process, job.created, job.status.value),
                    *(bundle[0] if bundle else None, asked, inputs, job.replay_of),
                    len(inputs) + len(asked) + rows.ROW_BYTES,
                    *(origin.program_id, origin.session, origin.key),
                ),
            ).lastrowid
            assert number is not None
            rows.put_tags(db, number, job.tags)
        return number

    def save(self, change: Change) -> bool:
        """Write a job's changes in one transaction; return False if the job has been deleted."""
        with self._file.writing() as db:
            return rows.save(db, change)

    def retag(self, job_id: str, tags: tuple[str, ...]) -> None:
        """Replace the tags of a job."""
        with self._file.writing() as db:
            for (number,) in db.execute("SELECT number FROM jobs WHERE id = ?", (job_id,)):
                db.execute("DELETE FROM tags WHERE job = ?", (number,))
                rows.put_tags(db, number, tags)

    def request_cancel(self, job_id: str) -> bool:
        """Request that this job end; return False if it has ended already."""
        with self._file.writing() as db:
            done = db.execute(
                "UPDATE jobs SET cancel = 1 WHERE id = ? AND outcome IS NULL", (job_id,)
            )
            return done.rowcount > 0

    def delete(self, job_id: str, *, even_running: bool = False) -> bool:
        """Remove a job; return False if it is unknown, or runs and `even_running` is False."""
        with self._file.writing() as db:
            done = db.execute(
                "DELETE FROM jobs WHERE id = ? AND (? OR outcome IS NOT NULL)",
                (job_id, even_running),
            )
            if done.rowcount:
                rows.drop_bundles(db)
            return done.rowcount > 0

    def mark_interrupted(self) -> int:
        """Mark the jobs of dead processes as interrupted; return their number."""
        with self._file.reading() as db:
            found = db.execute("SELECT DISTINCT process FROM jobs WHERE outcome IS NULL").fetchall()
        parsed = {text: HostProcess.parse(text) for (text,) in found}
        dead = [text for text, each in parsed.items() if each is not None and each.is_dead()]
        if not dead:
            return 0
        count = 0
        with self._file.writing() as db:
            for process in dead:
                found = db.execute(
                    f"SELECT {_COLUMNS} FROM jobs WHERE process = ? AND outcome IS NULL",  # noqa: S608
                    (process,),
                ).fetchall()
                for row in found:
                    rows.interrupt(db, rows.summary(row))
                count += len(found)
        return count

    def prune(self) -> int:
        """Remove the jobs that retention does not keep; return their number."""
        removed = 0
        while numbers := self._surplus():
            with self._file.writing() as db:
                db.executemany("DELETE FROM jobs WHERE number = ? AND outcome IS NOT NULL", numbers)
                rows.drop_bundles(db)
            removed += len(numbers)
        if removed:
            self._file.shrink()
        return removed

    def _surplus(self) -> list[tuple[int]]:
        """Return the numbers of the jobs to remove in one step, the oldest first."""
        oldest = time.time() - self._keep_s
        with self._file.reading() as db:
            jobs = db.execute("SELECT coalesce(sum(bytes), 0) FROM jobs").fetchone()[0]
            (files,) = db.execute(
                "SELECT coalesce(sum(length(content)), 0) FROM bundles"
            ).fetchone()
            ended = db.execute(
                "SELECT number, finished, bytes FROM jobs WHERE outcome IS NOT NULL AND finished < "
                "(SELECT max(finished) FROM jobs) ORDER BY finished LIMIT ?",
                (_PRUNED_AT_ONCE,),
            ).fetchall()
        surplus = jobs + files - self._keep_bytes
        found = []
        for number, finished, size in ended:
            if finished >= oldest and surplus <= 0:
                break
            found.append((number,))
            surplus -= size
        return found

    # --- reading ----------------------------------------------------------------------------------

    def find(self, text: str, *, user: str | None = None, exact: bool = False) -> str:
        """Return the id of the job that `text` names: an id, a unique beginning, or `last`.

        Only jobs of `user` match, unless it is None; with `exact`, only a complete id does.  Raises
        UnknownJobError that suggests similar ids.
        """
        with self._file.reading() as db:

            def ids(condition: str, *values: str) -> list[str]:
                of_user, of_whom = ("", ()) if user is None else ("user = ? AND ", (user,))
                statement = f"SELECT id FROM jobs WHERE {of_user}{condition}"  # noqa: S608
                return [str(each) for (each,) in db.execute(statement, (*of_whom, *values))]

            if found := ids("id = ?", text):
                return found[0]
            if exact:
                msg = f"no job {text!r} in {self.path}: give the whole id"
                raise UnknownJobError(msg)
            if text == "last":
                if found := ids("1 ORDER BY created DESC LIMIT 1"):
                    return found[0]
                msg = f"there is no job in {self.path} yet"
                raise UnknownJobError(msg)
            begin = text if text.startswith("job-") else f"job-{text}"
            found = ids("id >= ? AND id < ? ORDER BY id LIMIT 6", begin, begin + "\U0010ffff")
            if len(found) == 1 or begin in found:
                return begin if begin in found else found[0]
            if found:
                msg = f"{text!r} begins more than one job: {', '.join(found)}"
                raise UnknownJobError(msg)
            newest = ids("1 ORDER BY created DESC LIMIT 500")
        close = difflib.get_close_matches(begin, newest, n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else "`qrunner jobs` lists them"
        msg = f"no job {text!r} in {self.path}: {hint}"
        raise UnknownJobError(msg)

    def count(self, query: Query | None = None) -> int:
        """Return how many jobs match, regardless of the query's `limit` and `skip`."""
        query = query if query is not None else Query()
        conditions, values = rows.conditions(query)
        with self._file.reading() as db:
            statement = f"SELECT count(*) FROM {rows.table(query)} WHERE {conditions}"  # noqa: S608
            return int(db.execute(statement, values).fetchone()[0])

    def pending(self) -> dict[str, dict[JobStatus, int]]:
        """Return for each user with jobs that have not ended how many there are in each status."""
        with self._file.reading() as db:
            rows_ = db.execute(
                "SELECT user, status, count(*) FROM jobs WHERE outcome IS NULL "
                "GROUP BY user, status ORDER BY user"
            ).fetchall()
        found: dict[str, dict[JobStatus, int]] = {}
        for user, status, count in rows_:
            found.setdefault(user, {})[JobStatus(status)] = count
        return found

    def summaries(self, query: Query | None = None) -> list[Summary]:
        """Return the summaries of the jobs that match."""
        query = query if query is not None else Query()
        conditions, values = rows.conditions(query)
        order = "DESC" if query.descending else "ASC"
        limit = -1 if query.limit is None else query.limit
        with self._file.reading() as db:
            found = db.execute(
                f"SELECT number, {_COLUMNS} FROM {rows.table(query)} WHERE {conditions} "  # noqa: S608
                f"ORDER BY created {order}, number {order} LIMIT ? OFFSET ?",
                (*values, limit, query.skip),
            ).fetchall()
            return [rows.summary(row[1:], rows.tags_of(db, row[0])) for row in found]

    def usages(self, job_ids: Sequence[str]) -> dict[str, Usage]:
        """Return what some jobs have used, by their ids; those that have not ended are left out."""
        marks = ", ".join("?" * len(job_ids))
        statement = f"SELECT id, json_extract(record, '$.usage') FROM jobs WHERE id IN ({marks})"  # noqa: S608
        with self._file.reading() as db:
            found = db.execute(statement, job_ids).fetchall()
        return {job_id: value_of(Usage, json.loads(usage)) for job_id, usage in found if usage}

    def cpu_s(self, user: str, since: float) -> float:
        """Return the CPU seconds of a user's jobs that have ended since then, deleted ones too.

        The whole hour of then counts.
        """
        with self._file.reading() as db:
            return rows.used_cpu_s(db, user, since)

    def summary(self, job_id: str) -> Summary:
        """Return the summary of a job.  Raises UnknownJobError if it has been removed."""
        with self._file.reading() as db:
            row = db.execute(
                f"SELECT number, {_COLUMNS} FROM jobs WHERE id = ?",  # noqa: S608
                (job_id,),
            ).fetchone()
            if row is None:
                self._is_gone(job_id)
            return rows.summary(row[1:], rows.tags_of(db, row[0]))

    def load(self, job_id: str) -> Kept:
        """Return a job.  Raises UnknownJobError if it has been removed."""
        with self._file.reading() as db:
            row = db.execute(
                f"SELECT {_COLUMNS}, number, bundle, request, CAST(inputs AS TEXT), "  # noqa: S608
                "record, result FROM jobs WHERE id = ?",
                (job_id,),
            ).fetchone()
            if row is None:
                self._is_gone(job_id)
            *summary, number, bundle, request, inputs, record, result = row
            tags = rows.tags_of(db, number)
        try:
            job = rows.summary(summary, tags)
            return Kept(
                summary=job,
                request=rows.request(request, inputs, job),
                record=rows.record(record, result) if record else None,
                bundle=bundle,
            )
        except (ValueError, TypeError, KeyError, RequestError) as error:
            msg = f"the store of jobs, {self.path}: job {job_id} is damaged: {error}"
            raise StoreError(msg) from error

    def _is_gone(self, job_id: str) -> NoReturn:
        msg = f"job {job_id} has been removed from {self.path}"
        raise UnknownJobError(msg)

    def events(self, job_id: str, start: int = 0, limit: int | None = None) -> list[Event]:
        """Return at most `limit` events of a job, from position `start` on."""
        with self._file.reading() as db:
            found = db.execute(
                f"SELECT {_OF_EVENTS} WHERE jobs.id = ? AND position >= ? "
                "ORDER BY position LIMIT ?",
                (job_id, start, -1 if limit is None else limit),
            ).fetchall()
        return [rows.event(row) for row in found]

    def messages(
        self, job_id: str, start: int | None, limit: int, *, attempt: int = 1
    ) -> list[MessageEvent]:
        """Return at most `limit` messages of a job's last `attempt`: those from number `start` on.

        None means the last ones.
        """
        begin, order = (0, "DESC") if start is None else (start, "ASC")
        with self._file.reading() as db:
            first = 0 if attempt == 1 else _start_of_last_attempt(db, job_id)
            # Every message has a position, so a position is never below the message's number.
            found = db.execute(
                f"SELECT {_OF_EVENTS} WHERE jobs.id = ? AND position >= ? "
                f"AND kind = 'message' AND seq >= ? ORDER BY position {order} LIMIT ?",
                (job_id, first + begin, begin, limit),
            ).fetchall()
        events = [rows.event(row) for row in (found if start is not None else reversed(found))]
        return [each for each in events if isinstance(each, MessageEvent)]

    def log_tail(self, job_id: str, most_bytes: int) -> str:
        """Return the end of a job's log: `most_bytes`, or up to one piece of it more."""
        pieces: list[str] = []
        with self._file.reading() as db:
            for (content,) in db.execute(
                "SELECT content FROM events INDEXED BY events_of_log WHERE kind = 'stderr' "
                "AND job = (SELECT number FROM jobs WHERE id = ?) ORDER BY position DESC",
                (job_id,),
            ):
                pieces.append(bytes(content).decode(errors="surrogatepass"))
                most_bytes -= len(content)
                if most_bytes <= 0:
                    break
        return "".join(reversed(pieces))

    def files(self, job_id: str) -> list[tuple[str, int]]:
        """Return path and size of each file that a job has left."""
        with self._files(job_id) as found:
            return [(each.name, len(each.content.rstrip("=")) * 3 // 4) for each in found]

    def read_file(self, job_id: str, name: str) -> bytes | None:
        """Return a file that a job has left, None if it has left none of this path."""
        with self._files(job_id) as found:
            contents = (each.content for each in found if each.name == name)
            content = next(contents, None)
        return None if content is None else base64.b64decode(content)

    @contextlib.contextmanager
    def _files(self, job_id: str) -> Iterator[Iterator[FileEvent]]:
        """Provide the files that a job has left, one at a time: together they may be large."""
        with self._file.reading() as db:
            found = db.execute(
                f"SELECT {_OF_EVENTS} AND kind = 'file' AND position > "  # noqa: S608
                "(SELECT max(position) FROM events WHERE job = number) - ? "
                "WHERE jobs.id = ? ORDER BY position",
                (_LAST_EVENTS, job_id),
            )
            events = map(rows.event, found)
            yield (each for each in events if isinstance(each, FileEvent))

    def answers(self, job_id: str) -> list[Answer]:
        """Return what the held backend of a job answered, in order; empty if nothing is kept."""
        with self._file.reading() as db:
            found = db.execute(
                "SELECT verb, signature, CAST(body AS TEXT) FROM answers "
                "JOIN jobs ON number = job WHERE jobs.id = ? ORDER BY position",
                (job_id,),
            ).fetchall()
        return [Answer(verb=verb, signature=text, body=JsonText(b)) for verb, text, b in found]

    def bundle_of(self, job_id: str) -> str | None:
        """Return the digest of a job's program, None if the job or its program is not kept."""
        with self._file.reading() as db:
            row = db.execute("SELECT bundle FROM jobs WHERE id = ?", (job_id,)).fetchone()
        return row[0] if row else None

    def bundle(self, digest: str) -> bytes | None:
        """Return the files of a program, None if they have been removed."""
        with self._file.reading() as db:
            row = db.execute("SELECT content FROM bundles WHERE digest = ?", (digest,)).fetchone()
        return bytes(row[0]) if row else None

    def unwanted(self, process: str) -> list[str]:
        """Return the ids of the jobs of a process for which a cancellation was requested."""
        with self._file.reading() as db:
            found = db.execute(
                "SELECT id FROM jobs WHERE process = ? AND outcome IS NULL AND cancel", (process,)
            ).fetchall()
        return [str(each) for (each,) in found]


def _start_of_last_attempt(db: sqlite3.Connection, job_id: str) -> int:
    """Return the position of the last start of a job that a cluster has run more than once."""
    row = db.execute(
        "SELECT coalesce(max(position), 0) FROM events JOIN jobs ON number = job "
        "WHERE jobs.id = ? AND kind = 'started'",
        (job_id,),
    ).fetchone()
    return int(row[0])


def open_default(environment: Mapping[str, str] = os.environ) -> Store:
    """Open the store of the command line: `$QRUNNER_STORE`, or a file in the user's data directory.

    `$QRUNNER_KEEP_DAYS` and `$QRUNNER_KEEP_SIZE` (such as 500m) override the retention.  Raises
    StoreError, RequestError.
    """
    days, size = environment.get("QRUNNER_KEEP_DAYS"), environment.get("QRUNNER_KEEP_SIZE")
    try:
        keep_days = float(days) if days else KEEP_DAYS
    except ValueError:
        msg = f"QRUNNER_KEEP_DAYS is {days!r}: it must be a number of days"
        raise RequestError(msg) from None
    keep_bytes = parse_size(size) if size else KEEP_BYTES
    return Store(default_path(environment), keep_days=keep_days, keep_bytes=keep_bytes)
