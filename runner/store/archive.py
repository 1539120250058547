"""The jobs that a supervisor knows: those whose handles are alive, and those in its store."""

from __future__ import annotations

import os
import threading
import weakref

from runner.errors import RequestError, UnknownJobError
from runner.job import Job
from runner.job.device import Answer
from runner.job.life import Keeper, Life
from runner.programs import Program
from runner.store import kept
from runner.store.jobs import Store
from runner.store.recorder import Recorder
from runner.store.rows import Kept, Query


class Archive:
    """Finds jobs by id or by query; without a store, only those whose handles are alive.

    A `Store` passed by the caller stays open; a path is opened and closed here.  Raises StoreError.
    """

    def __init__(self, store: Store | str | os.PathLike[str] | None) -> None:
        self._recorder: Recorder | None = None
        if store is not None:
            opened = store if isinstance(store, Store) else Store(store)
            self._recorder = Recorder(opened, keep_open=opened is store)
        self._lock = threading.Lock()
        self._last: tuple[Program, tuple[str, bytes]] | None = None
        self._jobs: weakref.WeakValueDictionary[str, Job] = weakref.WeakValueDictionary()

    @property
    def keeper(self) -> Keeper | None:
        """The keeper that is told when a job ends, None without a store."""
        return self._recorder

    def add(self, handle: Job, job: Life, program: Program) -> None:
        """Register a job at its submission."""
        with self._lock:
            self._jobs[job.id] = handle
        if self._recorder is not None:
            self._recorder.add(job, self._bundle(program))

    def _bundle(self, program: Program) -> tuple[str, bytes]:
        """Return a program in stored form, cached because many jobs in a row often share one."""
        with self._lock:
            if self._last is None or self._last[0] is not program:
                self._last = (program, kept.pack(program))
            return self._last[1]

    def job(self, name: str, *, user: str | None = None) -> Job:
        """Return the job with this id, with the only id that begins so, or the `last`.

        Only jobs of `user` match, unless it is None.  Raises UnknownJobError, StoreError.
        """
        with self._lock:
            live = self._jobs.get(name)
        if live is not None and user in {None, live.request.user}:
            return live
        if self._recorder is None:
            msg = f"no job {name!r}: without a store, a job is known only while its handle exists"
            raise UnknownJobError(msg)
        found = self._recorder.store.find(name, user=user)
        with self._lock:
            live = self._jobs.get(found)
        return live or kept.open_job(self._recorder.store, found)

    def jobs(self, query: Query) -> list[Job]:
        """Return the jobs that match, the newest first.  Raises StoreError."""
        if self._recorder is not None:
            return [self.job(each.id) for each in self._recorder.store.summaries(query)]
        with self._lock:
            live = [job for job in self._jobs.values() if _fits(job, query)]
        live.sort(key=lambda job: job.created, reverse=query.descending)
        end = None if query.limit is None else query.skip + query.limit
        return live[query.skip : end]

    def request_of(self, name: str) -> tuple[Kept, Program]:
        """Return a kept job with its request, and its program.  Raises RequestError."""
        if self._recorder is None:
            msg = "only kept jobs can be replayed: make the Supervisor with a store"
            raise RequestError(msg)
        store = self._recorder.store
        found = store.load(store.find(name))
        return found, kept.program_of(store, found)

    @property
    def is_kept(self) -> bool:
        """Whether jobs outlive this process."""
        return self._recorder is not None

    def answers(self, job_id: str) -> list[Answer]:
        """Return what the held backend of a kept job answered.  Raises StoreError."""
        return [] if self._recorder is None else self._recorder.store.answers(job_id)

    def close(self) -> None:
        """Release the store as soon as no job needs it."""
        if self._recorder is not None:
            self._recorder.close()


def _fits(job: Job, query: Query) -> bool:
    words = {job.status().value, str(job.outcome)}
    created, origin = job.created.timestamp(), job.request.origin
    return (
        query.program in {None, job.program}
        and query.user in {None, job.request.user}
        and (not query.outcomes or bool(words & set(query.outcomes)))
        and query.pending in {None, job.outcome is None}
        and set(query.tags) <= set(job.tags)
        and query.program_id in {None, origin.program_id}
        and query.session in {None, origin.session}
        and query.key in {None, origin.key}
        and query.backend in {None, job.request.backend.get("name")}
        and (query.created_after is None or created >= query.created_after)
        and (query.created_before is None or created < query.created_before)
    )
