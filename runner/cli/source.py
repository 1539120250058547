"""Where the commands for kept jobs find them: in the store here, or at a service."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import click

from runner.cli.common import kept_jobs

if TYPE_CHECKING:
    from runner.client import Client
    from runner.job import Job
    from runner.job.record import Event
    from runner.store import Store
    from runner.store.rows import Kept, Query, Summary


class Source(Protocol):
    """Kept jobs, wherever they are; the methods are those of `runner.store.Store`."""

    def find(self, text: str) -> str:
        """Return the id of the job that `text` names."""

    def summaries(self, query: Query) -> list[Summary]:
        """Return the summaries of the jobs that match."""

    def summary(self, job_id: str) -> Summary:
        """Return the summary of a job."""

    def load(self, job_id: str) -> Kept:
        """Return a job without its events."""

    def events(self, job_id: str, start: int = 0, limit: int | None = None) -> list[Event]:
        """Return the events so far of a job."""

    def request_cancel(self, job_id: str) -> bool:
        """Ask a job to end; return False if it has ended already."""

    def delete(self, job_id: str, *, even_running: bool = False) -> bool:
        """Remove a job; return False if it runs and `even_running` is False."""

    def mark_interrupted(self) -> int:
        """Find out which jobs are dead."""

    def open(self, job_id: str) -> Job:
        """Return the handle of a job, live if it still runs."""

    def whole(self, job_id: str) -> str:
        """Return the whole job as a line of JSON."""


class _Here:
    """The jobs in the store here."""

    def __init__(self, store: Store) -> None:
        self.find = store.find
        self.summaries = store.summaries
        self.summary = store.summary
        self.load = store.load
        self.events = store.events
        self.request_cancel = store.request_cancel
        self.delete = store.delete
        self.mark_interrupted = store.mark_interrupted
        self._store = store

    def open(self, job_id: str) -> Job:
        """Return the handle of a job, live if it runs in another process."""
        from runner.store.kept import open_job

        return open_job(self._store, job_id)

    def whole(self, job_id: str) -> str:
        """Return the whole job as a line of JSON."""
        from runner.store.whole import whole_text

        return whole_text(self._store, job_id)


def server() -> str | None:
    """Return the address of the service that the commands are to use, None for none."""
    context = click.get_current_context(silent=True)
    found = context.find_root().params.get("server") if context else None
    return str(found) if found else None


def refuse_server(command: str) -> None:
    """Refuse a command that only works here.  Raises click.UsageError."""
    if server() is not None:
        msg = f"`{command}` works on this machine only: leave out --server (and QRUNNER_SERVER)"
        raise click.UsageError(msg)


def daemon() -> str | None:
    """Return the address of the service that runs here on the same store, None if there is none.

    One of another version is left alone.
    """
    from runner.store.file import default_path, socket_beside

    path = socket_beside(default_path())
    if path is None or not path.is_socket():
        return None
    from runner import __version__
    from runner.client.connection import version_at

    address = f"unix:{path}"
    return address if version_at(address) == __version__ else None


@contextlib.contextmanager
def service(address: str | None = None) -> Iterator[Client | None]:
    """Provide a client of the service at `address`, else of the one that the commands are to use.

    None if there is none.
    """
    address = address or server()
    if address is None:
        yield None
        return
    from runner.client import connect

    with connect(address) as client:
        yield client


@contextlib.contextmanager
def jobs_anywhere() -> Iterator[Source]:
    """Provide the kept jobs: those of the service, or those of the store here."""
    with service() as client:
        if client is not None:
            yield client.kept
            return
        with kept_jobs() as store:
            yield _Here(store)
