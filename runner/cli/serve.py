"""`qrunner serve` and `qrunner users`: a service, and who may use it."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from runner.cli.common import FORMATS, kept_jobs, operator_options, say, settings, supervisor

if TYPE_CHECKING:
    from runner.policy.held import HeldBackend

_DAY_S: Final = 86400
_file = click.Path(exists=True, dir_okay=False, path_type=Path)
_format = click.option("--format", "form", type=FORMATS, default="human", show_default=True)
_expires = click.option(
    "--expires", type=click.FloatRange(min=0, min_open=True), metavar="DAYS", help="Valid so long."
)


@click.command(short_help="Serve programs and jobs over HTTP, to users with a token.")
@click.option(
    "--listen",
    metavar="HOST:PORT",
    help="Address to listen on (127.0.0.1:8765, unless only --socket is given).",
)
@click.option(
    "--socket",
    "path",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Unix socket to listen on, for this user's own commands.",
)
@click.option("--tls-cert", type=_file, metavar="FILE", help="Certificate, with its chain.")
@click.option("--tls-key", type=_file, metavar="FILE", help="Key of the certificate.")
@click.option(
    "--tls-self-signed",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Make a certificate, and in DIR/ca.pem what clients have to trust.",
)
@click.option("--behind-proxy", is_flag=True, help="A proxy in front speaks TLS, and is trusted.")
@click.option(
    "--single-user",
    is_flag=True,
    help="Let whoever asks from this machine in without a token; print a link for a browser.",
)
@operator_options
def serve(**options: Any) -> int:
    """Serve programs and jobs over HTTP, to users that `qrunner users add` has made.

    Listens on this machine only unless told otherwise, and elsewhere only with TLS. SIGTERM and
    Ctrl-C end it in order: running jobs get a while to end. Jobs and programs are kept in the store
    of the other commands.
    """
    from runner.errors import RequestError
    from runner.service.desk import Desk
    from runner.service.server import DEFAULT_ADDRESS, Listening, is_loopback, run
    from runner.store.file import socket_beside

    path, address = options.pop("path"), options.pop("listen")
    listening = Listening(
        address=address or (None if path else DEFAULT_ADDRESS),
        path=path,
        certificate=options.pop("tls_cert"),
        key=options.pop("tls_key"),
        self_signed=options.pop("tls_self_signed"),
        is_behind_proxy=options.pop("behind_proxy"),
    )
    listening.check()
    is_single = options.pop("single_user")
    if is_single and listening.address is not None and not is_loopback(listening.host):
        msg = "--single-user lets everybody in without a token: only on loopback"
        raise RequestError(msg)
    if is_single and listening.is_behind_proxy:
        msg = "--single-user cannot tell this machine from others --behind-proxy: leave one out"
        raise RequestError(msg)
    chosen = settings(options)
    _log_requests()
    with (
        kept_jobs() as store,
        supervisor(
            chosen,
            store=store,
            cells="on demand",
            max_jobs_of_user=chosen.service.running or None,
        ) as running,
    ):
        desk = Desk(
            running,
            store,
            chosen.service,
            is_single_user=is_single,
            examine=partial(_examine, chosen.backends),
        )
        if not desk.users.all() and listening.address is not None and not is_single:
            say("there are no users yet: `qrunner users add NAME` makes one, and prints a token")
        listening = replace(listening, beside=socket_beside(store.path))
        run(desk, listening, say)
    return 0


def _examine(held: Sequence[HeldBackend]) -> Iterator[dict[str, Any]]:
    from runner.doctor import examine

    for each in examine(progress=lambda _: None, backends=held):
        yield each.as_dict()


def _log_requests() -> None:
    """Write one line of JSON for each request to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log = logging.getLogger("runner.service.access")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    # It warns of every connection that sends nonsense, which anybody may.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)


@click.group()
def users() -> None:
    """Manage the users of this machine's `qrunner serve`."""


@users.command()
@click.argument("name")
@click.option("--operator", is_flag=True, help="May see users, metrics and the audit log.")
@_expires
def add(name: str, operator: bool, expires: float | None) -> int:  # noqa: FBT001  click's way
    """Add the user NAME, and print a token: it is shown this once only."""
    from runner.store.users import Role, Users

    with kept_jobs() as store:
        known = Users(store.file)
        known.add(name, Role.OPERATOR if operator else Role.USER)
        click.echo(known.new_token(name, valid_s=_seconds(expires)))
    return 0


@users.command()
@click.argument("name")
@click.option("--revoke", is_flag=True, help="Revoke all tokens of the user first.")
@click.option("--only-revoke", is_flag=True, help="Revoke all tokens, and make no new one.")
@_expires
def token(name: str, revoke: bool, only_revoke: bool, expires: float | None) -> int:  # noqa: FBT001
    """Print a new token of the user NAME: it is shown this once only."""
    from runner.store.users import Users

    with kept_jobs() as store:
        known = Users(store.file)
        if revoke or only_revoke:
            say(f"revoked {known.revoke_tokens(name)} tokens of {name}")
        if not only_revoke:
            click.echo(known.new_token(name, valid_s=_seconds(expires)))
    return 0


@users.command()
@click.argument("name")
def disable(name: str) -> int:
    """Let the user NAME do nothing any more, and revoke all tokens."""
    from runner.store.users import Users

    with kept_jobs() as store:
        Users(store.file).disable(name)
    say(f"disabled {name}")
    return 0


@users.command()
@click.argument("name")
def enable(name: str) -> int:
    """Let the user NAME in again, who then needs a new token."""
    from runner.store.users import Users

    with kept_jobs() as store:
        Users(store.file).enable(name)
    say(f"enabled {name}")
    return 0


@users.command("list")
@_format
def list_(form: str) -> int:
    """List the users; --format json writes one object per line."""
    from dataclasses import asdict

    from runner.cli.terminal import table
    from runner.store.users import Users

    with kept_jobs() as store:
        found = Users(store.file).all()
    if form == "json":
        for each in found:
            click.echo(json.dumps(asdict(each)))
    elif found:
        rows = [(u.name, u.role.value, str(u.tokens), _state(u.disabled)) for u in found]
        table(("user", "role", "tokens", "state"), rows)
    else:
        say("there are no users")
    return 0


def _state(disabled: float | None) -> str:
    if disabled is None:
        return "enabled"
    return f"disabled since {datetime.fromtimestamp(disabled).astimezone():%Y-%m-%d %H:%M}"


def _seconds(days: float | None) -> float | None:
    return None if days is None else days * _DAY_S
