"""Jobs that a recorder keeps, made without a sandbox."""

from __future__ import annotations

import json

from runner.job.life import Life
from runner.job.record import JobRecord, JobStatus, Outcome
from runner.job.request import Request
from sandbox.wire.protocol import JsonText


def make_job(keeper, number=1, *, bundle=None, on_cancel=lambda: None, **asked):
    job = Life(
        f"job-{number:016x}",
        "sampler",
        decode=json.loads,
        on_cancel=on_cancel,
        log_kept_bytes=10_000,
        request=Request(program="sampler", path="sampler.py", **asked),
        keeper=keeper,
    )
    job.status = JobStatus.QUEUED
    keeper.add(job, bundle)
    return job


def completed(job, value="1", **fields):
    text = JsonText(value)
    return JobRecord(
        job=job.id, program=job.program, outcome=Outcome.COMPLETED, result=text, **fields
    )


def run(keeper, number=1, messages=("1",), **asked):
    job = make_job(keeper, number, **asked)
    job.start()
    for each in messages:
        job.add_message(JsonText(each))
    job.finish(completed(job))
    return job
