"""The jobs that a supervisor knows: those whose handles live, and those in its store.

`Archive` finds them, `Library` is the part of `Supervisor` that callers find them by.
"""

from __future__ import annotations

import os
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from runner.errors import RequestError, UnknownJobError
from runner.job import Job
from runner.job.delivery import Callback
from runner.job.life import Keeper
from runner.registry import Program
from runner.store import kept
from runner.store.jobs import Store
from runner.store.recorder import Recorder
from runner.store.rows import Kept, Query


class Archive:
    """Finds jobs again; without a store as long as their handles live.

    A `Store` that is given stays open, a path is opened here.  Raises StoreError.
    """

    def __init__(self, store: Store | str | os.PathLike[str] | None) -> None:
        self._recorder: Recorder | None = None
        if store is not None:
            opened = store if isinstance(store, Store) else Store(store)
            self._recorder = Recorder(opened, keep_open=opened is store)
        self._lock = threading.RLock()
        self._last: tuple[Program, tuple[str, bytes]] | None = None
        self._jobs: weakref.WeakValueDictionary[str, Job] = weakref.WeakValueDictionary()

    @property
    def keeper(self) -> Keeper | None:
        """Who is told that a job has ended."""
        return self._recorder

    def add(self, job: Job, program: Program) -> None:
        """Know a job from its submission on."""
        with self._lock:
            self._jobs[job.id] = job
        if self._recorder is not None:
            self._recorder.add(job, self._bundle(program))

    def _bundle(self, program: Program) -> tuple[str, bytes]:
        """Return the program as it is kept; many jobs of one are often submitted in a row."""
        with self._lock:
            if self._last is None or self._last[0] is not program:
                self._last = (program, kept.bundle_of(program))
            return self._last[1]

    def job(self, name: str) -> Job:
        """Return the job with this id, or whose id alone begins so, or the `last`.

        Raises UnknownJobError, StoreError.
        """
        with self._lock:
            live = self._jobs.get(name)
        if live is not None:
            return live
        if self._recorder is None:
            msg = f"no job {name!r}: without a store jobs are known as long as their handles live"
            raise UnknownJobError(msg)
        found = self._recorder.store.find(name)
        with self._lock:
            live = self._jobs.get(found)
        return live or kept.open_job(self._recorder.store, found)

    def jobs(self, query: Query) -> list[Job]:
        """Return the jobs that fit, the newest first.  Raises StoreError."""
        if self._recorder is not None:
            return [self.job(each.id) for each in self._recorder.store.summaries(query)]
        with self._lock:
            live = [job for job in self._jobs.values() if _fits(job, query)]
        live.sort(key=lambda job: job.created, reverse=query.descending)
        end = None if query.limit is None else query.skip + query.limit
        return live[query.skip : end]

    def request_of(self, name: str) -> tuple[Kept, Program]:
        """Return what a kept job was asked to do, and its program.  Raises RequestError."""
        if self._recorder is None:
            msg = "only kept jobs can be replayed: make the Supervisor with a store"
            raise RequestError(msg)
        store = self._recorder.store
        found = store.load(store.find(name))
        return found, kept.program_of(store, found)

    def close(self) -> None:
        """Let go of the store as soon as no job needs it."""
        if self._recorder is not None:
            self._recorder.close()


class Library(ABC):
    """What a supervisor offers for jobs that it knows already."""

    _archive: Archive

    def job(self, name: str) -> Job:
        """Return the job with this id: one of this supervisor's, or one that is kept.

        With a store also by the beginning of an id that no other has, or "last".  A job that runs
        in another process is followed there, and can be cancelled.  Raises UnknownJobError,
        StoreError.
        """
        return self._archive.job(name)

    def jobs(  # noqa: PLR0913  keywords only but for the first two
        self,
        limit: int | None = 10,
        skip: int = 0,
        *,
        program_id: str | None = None,
        pending: bool | None = None,
        outcome: str | None = None,
        job_tags: Sequence[str] = (),
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        descending: bool = True,
    ) -> list[Job]:
        """Return the jobs that fit, the newest first: the kept ones, or those whose handles live.

        Arguments:
            limit, skip: how many, after how many; None for all.
            program_id: the program's name.
            pending: True for those that have not ended, False for those that have.
            outcome: a word of the outcome table, or of `JobStatus`.
            job_tags: tags that it has, all of them.
            created_after, created_before: when it was submitted.
            descending: False for the oldest first.
        """
        query = Query(
            program=program_id,
            outcomes=() if outcome is None else (outcome,),
            pending=pending,
            tags=tuple(job_tags),
            created_after=created_after.timestamp() if created_after else None,
            created_before=created_before.timestamp() if created_before else None,
            limit=limit,
            skip=skip,
            descending=descending,
        )
        return self._archive.jobs(query)

    def replay(
        self, name: str, *, callback: Callback | None = None, on_final: Callback | None = None
    ) -> Job:
        """Submit again what a kept job was asked to do, and return the new `Job` at once.

        `name` is as for `job`.  Inputs (seeds among them), backend, options and limits are those of
        the kept job; limits above this supervisor's are lowered.  The image is the same if the
        engine still has it and its guest is ours, else it is made again from the kept files:
        compare `Job.image`.  Raises RequestError (UnknownJobError), StoreError.
        """
        found, program = self._archive.request_of(name)
        return self._repeat(found, program, callback=callback, on_final=on_final)

    @abstractmethod
    def _repeat(self, found: Kept, program: Program, **callbacks: Any) -> Job:
        """Submit what a kept job was asked to do."""


def _fits(job: Job, query: Query) -> bool:
    words = {job.status().value, str(job.outcome)}
    created = job.created.timestamp()
    return (
        query.program in {None, job.program}
        and (not query.outcomes or bool(words & set(query.outcomes)))
        and query.pending in {None, job.outcome is None}
        and set(query.tags) <= set(job.tags)
        and (query.created_after is None or created >= query.created_after)
        and (query.created_before is None or created < query.created_before)
    )
