"""The options of a job, as its caller gives them; they are checked before anything is started."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from runner.errors import RequestError

LOG_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
MAX_TAGS: Final = 32
MAX_TAG_CHARS: Final = 128
MAX_USER_CHARS: Final = 128


def checked_tags(tags: object) -> tuple[str, ...]:
    """Return the tags in order, without duplicates.  Raises RequestError for an invalid tag."""
    if isinstance(tags, str) or not isinstance(tags, Iterable):
        msg = f"tags are {tags!r:.100}: give a list of texts"
        raise RequestError(msg)
    found = tuple(dict.fromkeys(tags))
    for each in found:
        if (
            not isinstance(each, str)
            or not 0 < len(each) <= MAX_TAG_CHARS
            or not each.isprintable()
        ):
            msg = f"tag {each!r:.200}: a tag is 1 to {MAX_TAG_CHARS} printable characters"
            raise RequestError(msg)
    if len(found) > MAX_TAGS:
        msg = f"{len(found)} tags: a job has at most {MAX_TAGS}"
        raise RequestError(msg)
    return found


def checked_user(user: object) -> str:
    """Return the name of a user; "" means no user.  Raises RequestError for an invalid name."""
    if not isinstance(user, str) or len(user) > MAX_USER_CHARS or not user.isprintable():
        msg = f"user is {user!r:.200}: a user is at most {MAX_USER_CHARS} printable characters"
        raise RequestError(msg)
    return user


def checked_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a job: `log_level` for its guest, and its `tags`.

    `job_tags`, the name that Qiskit uses, means the same as `tags`.  Raises RequestError.
    """
    known = {"log_level", "tags", "job_tags"}
    if unknown := sorted(str(each) for each in set(options) - known):
        msg = f"unknown option {unknown[0]!r}: known are {', '.join(sorted(known))}"
        raise RequestError(msg)
    level = options.get("log_level") or "WARNING"
    if level not in LOG_LEVELS:
        msg = f"log_level is {level!r:.100}: it is one of {', '.join(LOG_LEVELS)}"
        raise RequestError(msg)
    tags = options.get("tags") or options.get("job_tags") or ()
    return {"log_level": level, "tags": checked_tags(tags)}
