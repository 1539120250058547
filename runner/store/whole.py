"""Stored jobs as JSON: one line for lists, and everything that is kept of one job."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from runner.job import form
from runner.job.form import strict
from runner.job.record import LogEvent, MessageEvent
from runner.store.jobs import Store
from runner.store.rows import Summary


def summary_data(job: Summary) -> dict[str, Any]:
    """Return what lists of jobs say of one."""
    return {
        "job": job.id,
        "program": job.program,
        "status": job.status.value,
        "outcome": None if job.outcome is None else job.outcome.value,
        "image": job.image,
        "user": job.user or None,
        "process": job.process,
        "tags": list(job.tags),
        "replay_of": job.replay_of,
        "bytes": job.bytes,
        "timestamps": {
            "created": _iso(job.created),
            "started": _iso(job.started),
            "finished": _iso(job.finished),
        },
    }


def whole_text(store: Store, job_id: str) -> str:
    """Return the whole job as one line; messages and result are inserted as text, never parsed.

    Raises UnknownJobError, StoreError.
    """
    kept = store.load(job_id)
    record = kept.record
    content = {**form.request_data(kept.request), **summary_data(kept.summary)}
    if record is not None:
        content |= form.record_data(record)
    events = store.events(job_id)
    content["log"] = "".join(each.text for each in events if isinstance(each, LogEvent))
    bodies = [
        form.object_text({"seq": each.seq, "time": each.time}, body=strict(each.body))
        for each in events
        if isinstance(each, MessageEvent)
    ]
    value = "null" if record is None or record.result is None else strict(record.result)
    inputs, messages = strict(kept.request.inputs), f"[{', '.join(bodies)}]"
    return form.object_text(content, inputs=inputs, messages=messages, result=value)


def _iso(stamp: float | None) -> str | None:
    return None if stamp is None else datetime.fromtimestamp(stamp, UTC).isoformat()
