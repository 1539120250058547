"""The form that runs a program: what it shows, and the job that it asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

from starlette.responses import Response

from runner.errors import InputsError, RequestError
from runner.job.request import Origin
from runner.policy import Limits
from runner.programs import Program
from runner.programs.values import as_sent
from runner.service.faults import RefusedError
from runner.service.jobs import Order
from runner.service.pages.fields import Field, fields_of, inputs_of, typed_into, with_problems
from runner.service.pages.rendering import see
from runner.service.routing import Call


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What the form has in it: `mistakes` are those of no single field."""

    fields: Sequence[Field]
    mistakes: Sequence[str]
    backends: Sequence[str]
    backend: str
    tags: str
    timeout: str
    limits: Limits


class Show(Protocol):
    """Shows a form again, with what is wrong in it."""

    def __call__(
        self, fields: list[Field], mistakes: Sequence[str], status: HTTPStatus, /
    ) -> Response:
        """Return the page with the form."""


def form_of(call: Call, program: Program, fields: Sequence[Field], mistakes: Sequence[str]) -> Form:
    """Return the form for a program, with what has been typed into it so far."""
    return Form(
        fields=fields,
        mistakes=mistakes,
        backends=call.desk.backends(call.user),
        backend=typed(call, "backend"),
        tags=typed(call, "tags"),
        timeout=typed(call, "timeout"),
        limits=call.desk.jobs.limits_of(program),
    )


def submitted(call: Call, program: Program, origin: Origin, show: Show) -> Response:
    """Run a program with what was typed, or show the form again with what is wrong in it.

    Raises RefusedError for what typing something else would not change.
    """
    fields = typed_into(fields_of(program), call.form)
    mistakes: Sequence[str] = ()
    if not any(each.mistakes for each in fields):
        try:
            job = call.desk.jobs.submit(call.user, program, _order(call, fields, origin))
        except RefusedError:
            raise
        except InputsError as error:
            fields, others = with_problems(fields, error.problems)
            mistakes = others if error.problems else [str(error)]
        except RequestError as error:
            mistakes = [str(error)]
        else:
            return see(f"/jobs/{job.id}")
    return show(fields, mistakes, HTTPStatus.BAD_REQUEST)


def typed(call: Call, name: str) -> str:
    """Return what was typed into a field, without spaces around it; "" for nothing."""
    given = call.form.get(name, "")
    return given.strip() if isinstance(given, str) else ""


def _order(call: Call, fields: list[Field], origin: Origin) -> Order:
    """Return the job that a form asks for.  Raises RequestError."""
    tags = [each.strip() for each in typed(call, "tags").split(",") if each.strip()]
    return Order(
        inputs=as_sent(inputs_of(fields)),
        backend=typed(call, "backend") or None,
        options={"tags": tags},
        limits={"timeout_s": _seconds(call)} if typed(call, "timeout") else {},
        origin=origin,
    )


def _seconds(call: Call) -> float:
    text = typed(call, "timeout")
    try:
        return float(text)
    except ValueError:
        msg = f"the time limit is {text!r:.80}: it must be a number of seconds"
        raise RequestError(msg) from None
