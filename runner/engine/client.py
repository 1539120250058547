"""The client of the container engine, behind a small interface of our own.

This is the only module that uses docker-py.  Whatever docker-py raises leaves this module as an
`EngineError` that names the failed call and the reason.  Every call has a deadline.  The module
knows nothing of programs, jobs or policies: `runner.sandboxes.container` writes the configuration
of containers, `runner.images` the build contexts and archives of images.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from datetime import datetime
from http import HTTPStatus
from typing import IO, Any, Self

import docker
import docker.errors
import requests
import urllib3
from docker.context import ContextAPI
from docker.utils import kwargs_from_env

from runner.engine.absence import explain
from runner.engine.attachment import Attachment
from runner.engine.facts import ContainerState, EngineImage, EngineInfo
from runner.errors import (
    EngineError,
    EngineUnavailableError,
    ImageError,
    NameTakenError,
    NoAnswerError,
    NoSuchObjectError,
)
from runner.host import interrupt

CALL_TIMEOUT_S = 60.0
"""The longest wait for an answer of the engine, in seconds; builds have `BUILD_TIMEOUT_S`."""

BUILD_TIMEOUT_S = 900.0

OWN_LABEL = "io.qiskit-program-runner"
"""The prefix of all our labels; containers and images without them are never touched."""

_POLL_S = 0.1
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Engine:
    """A connection to one container engine; safe to use from several threads."""

    def __init__(self, client: Any, address: str) -> None:
        self._client = client  # docker-py's stubs lack half of the calls used here
        self.address = address
        # docker-py returns only a generator for the rest of an answer: keep the answer itself too.
        self._answers = answers = threading.local()
        client.hooks["response"] = lambda answer, **_: setattr(answers, "last", answer)

    @classmethod
    def connect(cls, *, timeout_s: float = CALL_TIMEOUT_S) -> Self:
        """Connect as the docker command would: DOCKER_HOST, else the current context.

        Raises EngineUnavailableError, which says what to install or start, if no engine answers.
        """
        address = "the default address"
        try:
            from_env = bool(os.environ.get("DOCKER_HOST"))
            settings: dict[str, Any] = dict(
                kwargs_from_env() if from_env else ContextAPI.kwargs_from_context()
            )
            address = settings.get("base_url", address)
            client: Any = docker.APIClient(
                version="auto", timeout=int(timeout_s), max_pool_size=64, **settings
            )
            return cls(client, address)
        except (docker.errors.DockerException, requests.RequestException, OSError) as error:
            raise EngineUnavailableError(explain(address, error)) from error

    @property
    def is_local(self) -> bool:
        """True if the engine shares this host's file system, as far as its address tells."""
        return "unix" in self.address or "npipe" in self.address or self.address.startswith("the ")

    def close(self) -> None:
        self._client.close()

    def info(self) -> EngineInfo:
        with _engine_call("info"):
            raw = self._client.info()
        return EngineInfo(
            version=str(raw.get("ServerVersion", "")),
            architecture=str(raw.get("Architecture", "")),
            cgroup_driver=str(raw.get("CgroupDriver", "")),
            runtimes=tuple(sorted(raw.get("Runtimes") or ())),
            security_options=tuple(raw.get("SecurityOptions") or ()),
            cpus=int(raw.get("NCPU", 0)),
            raw=raw,
        )

    def components(self) -> list[Mapping[str, Any]]:
        """Return the engine's components, as the engine describes them."""
        with _engine_call("version"):
            return list(self._client.version(api_version=False).get("Components") or ())

    def is_responsive(self, *, timeout_s: float) -> bool:
        """Return whether the engine answers within `timeout_s`."""
        try:
            answer = self._client.get(f"{self._client.base_url}/_ping", timeout=timeout_s)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError):
            return False
        return bool(answer.ok)

    # --- containers ------------------------------------------------------------------------

    def create(self, config: Mapping[str, Any], *, name: str, warnings_pass: bool = False) -> str:
        """Create a container from the engine's own configuration form; return its id.

        Raises NameTakenError if a container of this name exists.  A warning of the engine, which
        says that it discards an option, is an EngineError too, and the container is removed, unless
        `warnings_pass`.
        """
        try:
            with _engine_call(f"create container {name}"):
                answer = self._client.create_container_from_config(dict(config), name=name)
                container = str(answer["Id"])
        except EngineError as error:
            if getattr(error.__cause__, "status_code", None) == HTTPStatus.CONFLICT:
                raise NameTakenError(str(error)) from error
            raise
        if (warnings := answer.get("Warnings")) and not warnings_pass:
            self.remove(container)
            msg = f"the engine discards options of the sandbox: {' '.join(map(str, warnings))}"
            raise EngineError(msg)
        return container

    def attach(self, container: str) -> Attachment:
        """Attach to stdin, stdout and stderr.  Call it before `start`, or early output is lost."""
        with _engine_call("attach"):
            params = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1, "logs": 0}
            try:
                raw = self._client.attach_socket(container, params=params)
            except AttributeError as error:  # docker-py looks for a socket in a closed response
                msg = "the engine hung up"
                raise ConnectionError(msg) from error
            return Attachment(getattr(raw, "_sock", raw), getattr(raw, "_response", raw))

    def start(self, container: str) -> None:
        with _engine_call("start"):
            self._client.start(container)

    def kill(self, container: str) -> None:
        """Send SIGKILL; does nothing if the container is already dead or gone."""
        try:
            with _engine_call("kill"):
                self._client.kill(container, signal="SIGKILL")
        except NoSuchObjectError:
            return
        except EngineError as error:
            if "is not running" not in str(error):
                raise

    def inspect(self, container: str) -> ContainerState:
        with _engine_call("inspect"):
            state = self._client.inspect_container(container)["State"]
        return ContainerState(
            running=bool(state.get("Running")),
            pid=int(state.get("Pid") or 0),
            exit_code=int(state.get("ExitCode") or 0),
            oom_killed=bool(state.get("OOMKilled")),
            error=str(state.get("Error") or ""),
        )

    def wait(self, container: str, *, timeout_s: float) -> None:
        """Wait until the container has stopped.  Raises EngineError after `timeout_s`."""
        with _engine_call("wait"):
            self._client.wait(container, timeout=timeout_s)

    def remove(self, container: str) -> None:
        """Kill and remove a container; does nothing if it is gone or already being removed."""
        try:
            with _engine_call("remove"):
                self._client.remove_container(container, force=True, v=True)
        except NoSuchObjectError:
            return
        except EngineError as error:
            if "already in progress" not in str(error):
                raise

    def containers(self) -> dict[str, dict[str, str]]:
        """Return our own containers, running or not: id → labels."""
        with _engine_call("list containers"):
            found = self._client.containers(all=True, filters={"label": f"{OWN_LABEL}.sandbox"})
            return {str(each["Id"]): dict(each.get("Labels") or {}) for each in found}

    # --- images ----------------------------------------------------------------------------

    def image(self, reference: str) -> EngineImage | None:
        """Return the local image of this name or id, or None; never asks a registry."""
        try:
            with _engine_call(f"inspect image {reference}"):
                found = self._client.inspect_image(reference)
        except NoSuchObjectError:
            return None
        config = dict(found.get("Config") or {})
        platform = {
            name: str(value)
            for name in ("architecture", "os", "variant")
            if (value := found.get(name.capitalize()))
        }
        return EngineImage(
            id=str(found["Id"]),
            labels=dict(config.get("Labels") or {}),
            created=str(found.get("Created") or ""),
            tagged=_seconds(str((found.get("Metadata") or {}).get("LastTagTime") or "")),
            layers=tuple((found.get("RootFS") or {}).get("Layers") or ()),
            config=config,
            platform=platform,
        )

    def image_id(self, reference: str) -> str | None:
        """Return the id of a local image, or None; never asks a registry."""
        found = self.image(reference)
        return found.id if found else None

    def images(self, *, dangling: bool = False) -> list[Mapping[str, Any]]:
        """Return our own images (the engine's summary of each: Id, RepoTags, Labels, Created)."""
        filters: dict[str, Any] = {"label": f"{OWN_LABEL}.image"}
        if dangling:
            filters["dangling"] = True
        with _engine_call("list images"):
            return list(self._client.images(filters=filters))

    def pull(self, reference: str, *, timeout_s: float) -> str:
        """Pull an image from its registry and return its id.  Raises ImageError if that fails."""
        failure: list[BaseException] = []
        puller = threading.Thread(
            target=self._pull, args=(reference, failure), name="qrunner-pull", daemon=True
        )
        puller.start()
        # docker-py has no deadline here, and the engine waits long on a silent network.
        deadline = time.monotonic() + timeout_s
        while puller.is_alive() and time.monotonic() < deadline:
            interrupt.check()
            puller.join(_POLL_S)
        if puller.is_alive():
            msg = f"cannot pull {reference}: not done within {timeout_s:g} s"
            raise ImageError(msg)
        if failure:
            msg = f"cannot pull {reference}: {_reason(failure[0])}"
            raise ImageError(msg) from failure[0]
        image = self.image_id(reference)
        if image is None:
            msg = f"pulled {reference}, but the engine does not know it afterwards"
            raise ImageError(msg)
        return image

    def _pull(self, reference: str, failure: list[BaseException]) -> None:
        repository, separator, digest = reference.partition("@")
        try:
            with _engine_call("pull"):
                events = self._client.pull(
                    repository, tag=digest if separator else None, stream=True, decode=True
                )
                failure += [EngineError(each) for each in map(_failure, events) if each]
        except EngineError as error:
            failure.append(error)

    def import_root(self, archive: IO[bytes], *, tag: str, labels: Mapping[str, str]) -> str:
        """Make an image from a root file system, an uncompressed tar; return its id."""
        repository, _, version = tag.rpartition(":")
        changes = [f'LABEL {key}="{value}"' for key, value in labels.items()]
        with _engine_call(f"import {tag}"):
            self._client.import_image(archive, repository=repository, tag=version, changes=changes)
        image = self.image_id(tag)
        if image is None:
            msg = f"imported {tag}, but the engine does not know it afterwards"
            raise ImageError(msg)
        return image

    def build(
        self,
        context: IO[bytes],
        *,
        dockerfile: str,
        tag: str,
        arguments: Mapping[str, str],
        labels: Mapping[str, str],
    ) -> Iterator[str]:
        """Build an image without a network from a tar context, and yield the lines of progress.

        The engine sets the tag only after every step has succeeded.  Raises ImageError, with the
        failing step and its last output.
        """
        with _engine_call(f"build {tag}"):
            answer = self._client.build(
                fileobj=context,
                custom_context=True,
                dockerfile=dockerfile,
                tag=tag,
                buildargs=dict(arguments),
                labels=dict(labels),
                network_mode="none",
                rm=True,
                forcerm=True,
                decode=True,
                timeout=BUILD_TIMEOUT_S,
                use_config_proxy=False,
            )
            # The engine aborts a build when its reader hangs up.
            last = self._answers.last
            with interrupt.calling(lambda: _hang_up(last)):
                failure = yield from _build_lines(answer, tag)
        if failure:  # only now: a connection whose answer is read to the end can be reused
            raise ImageError(failure)

    def save(self, reference: str) -> Iterator[bytes]:
        """Yield the archive of an image, with its layers and tag, as `load` takes it."""
        with _engine_call(f"save {reference}"):
            yield from self._client.get_image(reference)

    def load(self, archive: IO[bytes]) -> None:
        """Load the images of an archive that `save` or `docker save` wrote."""
        with _engine_call("load images"):
            failures = list(filter(None, map(_failure, self._client.load_image(archive))))
        if failures:
            msg = f"the engine cannot load the archive: {failures[0]}"
            raise ImageError(msg)

    def date(self, tag: str) -> None:
        """Note that the image with this tag is a new one: a loaded image has no `tagged`."""
        repository, _, version = tag.rpartition(":")
        with _engine_call(f"tag {tag}"):
            self._client.tag(tag, repository, version)

    def remove_image(self, reference: str, *, keep_parents: bool = False) -> None:
        """Remove an image; does nothing if it is gone or in use."""
        try:
            with _engine_call(f"remove image {reference}"):
                self._client.remove_image(reference, noprune=keep_parents)
        except EngineError as error:
            if not isinstance(error.__cause__, docker.errors.APIError):  # the engine did not answer
                raise


@contextlib.contextmanager
def _engine_call(what: str) -> Iterator[None]:
    """Convert what docker-py, requests and urllib3 raise to an EngineError that names the call."""
    try:
        yield
    except docker.errors.NotFound as error:
        msg = f"{what}: {_reason(error)}"
        raise NoSuchObjectError(msg) from error
    except docker.errors.DockerException as error:
        msg = f"{what}: {_reason(error)}"
        raise EngineError(msg) from error
    except (requests.Timeout, urllib3.exceptions.ReadTimeoutError) as error:
        msg = f"{what}: no answer of the engine in time; is it overloaded or stuck?"
        raise NoAnswerError(msg) from error
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        msg = f"{what}: the engine stopped answering ({_reason(error)}); is it still running?"
        raise NoAnswerError(msg) from error


def _failure(event: Mapping[str, Any]) -> str:
    """Return why a pull, build or load has failed, if this event of its answer says so, else ""."""
    # Engines say it twice, and will omit the first: deprecated since version 1.48 of their API.
    reason = event.get("error") or (event.get("errorDetail") or {}).get("message")
    if reason is None and "errorDetail" in event:
        reason = "the engine did not say why"
    return str(reason or "").strip()


def _build_lines(events: Iterable[Mapping[str, Any]], tag: str) -> Generator[str, None, str]:
    """Yield the lines of a build; return the reason if it failed, else an empty text."""
    failure, step = "", "the first step"
    recent: list[str] = []
    for event in events:
        if reason := _failure(event):
            tail = "\n".join(recent[-20:])
            failure = f"building {tag} failed at {step}: {reason}\n{tail}"
        # The engine adds colours to the build's stderr.
        text = _COLOUR.sub("", str(event.get("stream", "")))
        for line in text.splitlines():
            if line.startswith("Step "):
                step = line
            elif line.strip():
                recent = [*recent[-40:], line]
            yield line
    return failure


def _seconds(date: str) -> float:
    """Return a date of the engine in seconds since the epoch; 0 if there is none: the year 1."""
    try:
        return max(0.0, datetime.fromisoformat(date).timestamp())
    except (ValueError, OverflowError):
        return 0.0


def _hang_up(answer: requests.Response) -> None:
    """Shut down a response that another thread is reading or waiting for."""
    body: Any = answer.raw
    with contextlib.suppress(AttributeError, OSError):  # the response may have ended
        stream = body._fp.fp.raw  # a SocketIO, or with TLS a wrapper of a socket
        connection = getattr(stream, "_sock", None) or stream.sock
        connection.shutdown(socket.SHUT_RDWR)


def _reason(error: BaseException) -> str:
    explanation = getattr(error, "explanation", None)
    return str(explanation or error).strip().splitlines()[0] if str(error) else repr(error)
