"""`runner.connect`: run programs at a service, with the same `Job` as here."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote

from runner.client.connection import Connection
from runner.client.remote import RemoteJobs, refused
from runner.errors import InputsError, UnknownProgramError
from runner.host.closing import Closing
from runner.job import Job
from runner.job.delivery import Callback
from runner.job.options import checked_options, checked_tags
from runner.job.request import Request
from runner.policy import Limits
from runner.programs import Program, cases_of, find, values
from runner.programs.manifest import MANIFEST_NAMES
from runner.running.session import WINDOW, MappedJobs
from runner.store.rows import Query

SERVER: Final = "QRUNNER_SERVER"
TOKEN: Final = "QRUNNER_TOKEN"  # noqa: S105  the name of a variable
CA: Final = "QRUNNER_CA"

_SPEC: Final = ("backend_requirements", "parameters", "return_values", "interim_results")


def connect(
    url: str | None = None,
    token: str | None = None,
    *,
    ca: str | os.PathLike[str] | None = None,
) -> Client:
    """Return a client of the service at `url`; use it in a `with`, or close it.

    Arguments:
        url: `https://HOST:PORT`, `http://HOST:PORT` or `unix:PATH` (default: $QRUNNER_SERVER).
        token: the user's token (default: $QRUNNER_TOKEN; a Unix socket needs none).
        ca: a file with the authority that has signed the service's certificate, such as the
            `ca.pem` of `qrunner serve --tls-self-signed` (default: $QRUNNER_CA, or the usual ones).

    Raises RequestError if there is no address, RunnerError if the service cannot be reached or does
    not know the token.
    """
    environment = os.environ
    address = url or environment.get(SERVER) or ""
    connection = Connection(
        address, token or environment.get(TOKEN) or None, ca or environment.get(CA) or None
    )
    try:
        me = connection.json("GET", "/v1/me")
    except BaseException:
        connection.close()
        raise
    return Client(connection, me["user"] or "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploaded:
    """A version of a program at the service."""

    id: str
    name: str
    version: int


class Client:
    """Programs and jobs of one user at a service.  A context manager that closes the connection.

    Jobs go on when it is closed.  Every method raises RunnerError if the service cannot be reached,
    and RequestError if it refuses.
    """

    def __init__(self, connection: Connection, user: str) -> None:
        self._connection = connection
        self._user = user
        self._jobs = RemoteJobs(connection)
        self._close = Closing(f"connection to {connection.url}", connection.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; jobs go on."""
        self._close()

    @property
    def kept(self) -> RemoteJobs:
        """The jobs in the form in which a store has them, for commands."""
        return self._jobs

    # --- jobs -------------------------------------------------------------------------------------

    def run(  # noqa: PLR0913  keywords only but for the first two
        self,
        program: str | os.PathLike[str] | Program | Uploaded,
        inputs: Mapping[str, Any] | None = None,
        *,
        backend: str | Mapping[str, Any] | None = None,
        callback: Callback | None = None,
        on_final: Callback | None = None,
        limits: Mapping[str, float] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Job:
        """Submit a program and return its `Job` at once.

        Arguments:
            program: the id or name of a program at the service; or, if that has none of this name,
                a name, a directory or a `.py` file here, which is sent along.
            inputs, backend, callback, on_final, limits, options: as in `Supervisor.run`.

        The job goes on when this process ends, or loses the connection; `job` finds it again.
        """
        order = _order(backend, limits, options)
        if isinstance(program, (Program, Uploaded)):
            job = self._submit(_target(program), inputs, order)
        else:
            job = self._submit_named(program, inputs, order)
        if callback is not None or on_final is not None:
            job.stream_results(callback or _ignore, on_final)
        return job

    def map(  # noqa: PLR0913  keywords only but for the first two
        self,
        program: str | os.PathLike[str] | Program | Uploaded,
        inputs_list: Iterable[Mapping[str, Any] | InputsError],
        *,
        backend: str | Mapping[str, Any] | None = None,
        limits: Mapping[str, float] | None = None,
        options: Mapping[str, Any] | None = None,
        callback: Callback | None = None,
        sandboxes: int | None = None,
    ) -> MappedJobs:
        """Run a program once for each of many inputs; yield each ended job, in the order of inputs.

        `sandboxes` is how many jobs run at the same time; by default the service decides that among
        the `WINDOW` jobs that are submitted ahead.  The rest is as in `Supervisor.map`.
        """
        found = program if isinstance(program, (Program, Uploaded)) else self.find(program)
        order, target = _order(backend, limits, options), _target(found)
        live: set[Job] = set()

        def run(inputs: Mapping[str, Any]) -> Job:
            live.difference_update([each for each in live if each.record is not None])
            job = self._submit(target, inputs, order)
            if "files" in target:  # they are there now
                target.clear()
                target["program_of"] = job.id
            live.add(job)
            if callback is not None:
                job.stream_results(callback)
            return job

        def cancel() -> None:
            for each in live:
                each.cancel()

        return MappedJobs(
            run,
            partial(refused, found.name, user=self._user),
            inputs_list,
            Closing(f"map of {found.name}", cancel),
            ahead=sandboxes or WINDOW,
        )

    def find(self, program: str | os.PathLike[str]) -> Program | Uploaded:
        """Return the program that `program` names at the service; if there is none, one here.

        Raises UnknownProgramError, ManifestError.
        """
        if _may_be_there(program):
            with contextlib.suppress(UnknownProgramError):
                there = self._connection.json("GET", _path(os.fspath(program)))
                return Uploaded(id=there["id"], name=there["name"], version=there["version"])
        return find(program)

    def _submit_named(
        self,
        program: str | os.PathLike[str],
        inputs: Mapping[str, Any] | None,
        order: Mapping[str, Any],
    ) -> Job:
        """Submit the program of this name at the service; if there is none, the one here."""
        if _may_be_there(program):
            with contextlib.suppress(UnknownProgramError):
                return self._submit({"program": os.fspath(program)}, inputs, order)
        return self._submit(_target(find(program)), inputs, order)

    def _submit(
        self,
        target: Mapping[str, Any],
        inputs: Mapping[str, Any] | None,
        order: Mapping[str, Any],
    ) -> Job:
        content = {**order, **target, "inputs": values.encoded(dict(inputs or {}), "inputs")}
        key = secrets.token_hex(16)
        answer = self._connection.json("POST", "/v1/jobs", content=content, key=key)
        return self._jobs.started(answer, _request(content, answer))

    def job(self, name: str) -> Job:
        """Return the job with this id, with the only id that begins so, or the `last`.

        Raises UnknownJobError.
        """
        return self._jobs.open(self._jobs.find(name))

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
        """Return the user's jobs that match, the newest first; as `Supervisor.jobs`."""
        query = Query(
            program=program_id,
            outcomes=() if outcome is None else (outcome,),
            pending=pending,
            tags=checked_tags(job_tags),
            created_after=created_after.timestamp() if created_after else None,
            created_before=created_before.timestamp() if created_before else None,
            limit=limit,
            skip=skip,
            descending=descending,
        )
        return [self._jobs.open(each.id) for each in self._jobs.summaries(query)]

    # --- programs ---------------------------------------------------------------------------------

    def programs(self, limit: int = 20, skip: int = 0) -> list[dict[str, Any]]:
        """Return the programs that the user may run, the newest first, each as a dict."""
        found = self._connection.json("GET", "/v1/programs", query={"limit": limit, "skip": skip})
        programs: list[dict[str, Any]] = found["programs"]
        return programs

    def program(self, program: str) -> dict[str, Any]:
        """Return what a program, by id or by the user's own name, says of itself."""
        found: dict[str, Any] = self._connection.json("GET", _path(program))
        return found

    def cases(self, program: str) -> dict[str, Any]:
        """Return the cases of a program whose source the user may read, by their names."""
        found: dict[str, Any] = self._connection.json("GET", f"{_path(program)}/cases")["cases"]
        return found

    def upload(self, program: str | os.PathLike[str] | Program, *, public: bool = False) -> str:
        """Upload a program from here, or a new version of the user's own, and return its id.

        Its cases go along.
        """
        found = program if isinstance(program, Program) else find(program)
        files = {**_files(found), **_in_base64(cases_of(found))}
        content: dict[str, Any] = {"files": files, "name": found.name}
        query = {"name": found.name}
        for each in self._connection.json("GET", "/v1/programs", query=query)["programs"]:
            if (each["owner"] or "") == self._user:
                self._connection.json("PUT", _path(each["id"]), content=content)
                if public:
                    self.publish(each["id"])
                return str(each["id"])
        content["public"] = public
        return str(self._connection.json("POST", "/v1/programs", content=content)["id"])

    def publish(self, program: str, *, public: bool = True) -> None:
        """Let everybody run a program of the user's, or nobody else."""
        word = "public" if public else "private"
        self._connection.text("PUT", f"{_path(program)}/{word}")

    def share(self, program: str, users: Sequence[str]) -> None:
        """Set the users who may run a program of the user's, and read its source."""
        self._connection.text("PUT", f"{_path(program)}/shares", content={"users": list(users)})

    def delete(self, program: str) -> None:
        """Delete a program of the user's; its jobs stay."""
        self._connection.text("DELETE", _path(program))


def _path(program: str) -> str:
    return f"/v1/programs/{quote(program, safe='')}"


def _may_be_there(program: str | os.PathLike[str]) -> bool:
    """Return True for what is no path: a name or an id."""
    text = os.fspath(program)
    return os.sep not in text and not text.endswith(".py") and not Path(text).is_dir()


def _target(program: Program | Uploaded) -> dict[str, Any]:
    """Return which program a request is for: one there, or the files of one here."""
    if isinstance(program, Uploaded):
        return {"program": program.id, "version": program.version}
    return {"files": _files(program), "name": program.name, "path": str(program.path)}


def _order(
    backend: str | Mapping[str, Any] | None,
    limits: Mapping[str, float] | None,
    options: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return what a request says beside program and inputs."""
    asked = checked_options(options or {})
    return {
        "backend": backend if isinstance(backend, (str, type(None))) else dict(backend),
        "options": {"log_level": asked["log_level"], "tags": list(asked["tags"])},
        "limits": dict(limits or {}),
    }


def _files(program: Program) -> dict[str, str]:
    """Return a program's files, with a manifest that says all that is known of it here."""
    files = dict(program.files)
    if not set(MANIFEST_NAMES) & set(files):
        files["program.json"] = json.dumps(_manifest(program)).encode()
    return _in_base64(files)


def _in_base64(files: Mapping[str, bytes]) -> dict[str, str]:
    return {name: base64.b64encode(content).decode() for name, content in files.items()}


def _manifest(program: Program) -> dict[str, Any]:
    said = program.manifest
    spec = {name: getattr(said, name) for name in _SPEC if getattr(said, name)}
    content = {
        "name": said.name,
        "description": said.description,
        "entry": said.entry,
        "requirements": said.requirements,
        "isolation": said.isolation,
        "limits": dict(said.limits) or None,
        "spec": spec or None,
    }
    return {name: value for name, value in content.items() if value}


def _request(content: Mapping[str, Any], answer: Mapping[str, Any]) -> Request:
    """Return the request of a job as far as it is known here: defaults are filled in there."""
    backend = content["backend"]
    return Request(
        program=answer["program"],
        inputs=values.as_text(content["inputs"]),
        backend=backend if isinstance(backend, dict) else {"name": backend, "options": {}},
        options={"log_level": content["options"]["log_level"]},
        limits=Limits(**answer["limits"]),
        tags=tuple(answer["tags"]),
        user=answer["user"] or "",
    )


def _ignore(_job_id: str, _value: object) -> None:
    """Replace a callback that was not given."""
