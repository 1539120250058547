"""Converts an exception to the fault that reports it: its kind, one line, the program's frames.

Exceptions are hostile: their text may be huge, raise or never end, and their tracebacks may be
endless.  The result is always a `Fault` of bounded size.
"""

from __future__ import annotations

import _thread
import contextlib
import errno
import itertools
import os
import re
import traceback
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

from sandbox import DIRECTORY
from sandbox.program.messenger import LimitError, ResultEncodingError
from sandbox.wire import protocol

T = TypeVar("T")

MAX_ERROR_BYTES: Final = 8 * protocol.KIB
MAX_NAME_BYTES: Final = 300
PATIENCE_S: Final = 2.0
"""Seconds that describing an exception may take: an endless `__str__` must not cost a job."""

MAX_FRAMES: Final = 2000
"""The most frames kept of one traceback: the innermost ones."""

MAX_LIBRARIES: Final = 3
"""How many libraries are named where their frames are folded."""

_LIBRARY: Final = os.path.dirname(os.__file__) + os.sep  # noqa: PTH120
_LIBRARIES: Final = (_LIBRARY, protocol.PACKAGES_DIRECTORY + os.sep)
_SERVERS: Final = tuple(
    f"{_LIBRARY}multiprocessing/{name}.py" for name in ("managers", "forkserver", "connection")
)
_NO_SERVERS: Final = (
    "(a sandbox refuses servers on purpose, and multiprocessing's Manager and forkserver are some: "
    "use its Pool, Queue, Pipe, Value or Array with the method fork or spawn)"
)
_INSTALLED: Final = re.compile(r"/(?:site|dist)-packages/(?P<name>\w{1,40})")
_FOLDED: Final = "<folded>"
_PACKAGE: Final = __name__.partition(".")[0]
_OURS: Final = DIRECTORY + os.sep


def fault(error: BaseException, *, job: int, kind: str) -> protocol.Fault:
    """Return the fault for an exception that the program did not catch; `messages` is left at 0."""
    # Test the real type: `isinstance` also looks at attributes that the program controls.
    limit = cast("LimitError", error) if issubclass(type(error), LimitError) else None
    if limit is not None:
        kind = limit.kind
    elif issubclass(type(error), ResultEncodingError):
        kind = "result_error"
    elif _lacked_a_process(error):
        # Where the host cannot count refused forks, only the guest can say why `main` failed.
        kind = "process_limit"
    mute: tuple[str, str | None] = (f"{_class_name(error)}: (its text cannot be shown)", None)
    line, text = within(PATIENCE_S, lambda: _describe(error), mute)
    return protocol.Fault(
        job=job,
        messages=0,
        kind=kind,
        error=line,
        traceback=text,
        limit=limit.limit if limit else None,
        value=limit.value if limit else None,
        observed=limit.observed if limit else None,
    )


def _lacked_a_process(error: BaseException) -> bool:
    """Return whether `main` failed because no process or thread could be started.

    The other processes of a fork bomb may already be exiting.  The error itself therefore counts as
    well: the kernel's "try again", from a function that forks.
    """
    if not _can_start_thread():
        return True
    place = error.__traceback__
    if type(error) is not BlockingIOError or error.errno != errno.EAGAIN or place is None:
        return False
    while place.tb_next is not None:
        place = place.tb_next
    return any("fork" in name for name in place.tb_frame.f_code.co_names)


def _can_start_thread() -> bool:
    try:
        _thread.start_new_thread(int, ())
    except RuntimeError:
        return False
    return True


def within(patience_s: float, function: Callable[[], T], otherwise: T) -> T:
    """Return what the function returns; `otherwise` if it raises or takes over `patience_s`.

    It runs in a thread of its own, because nothing else can leave a loop that swallows every
    exception; the thread ends with the process.  It is a bare thread, because the program may have
    replaced parts of `threading`.
    """
    answers: list[T] = []
    done = _thread.allocate_lock()
    done.acquire()

    def answer() -> None:
        with contextlib.suppress(BaseException):  # hostile code may raise anything
            answers.append(function())
        done.release()

    try:
        _thread.start_new_thread(answer, ())
    except RuntimeError:  # the sandbox's limit of processes and threads is reached
        answer()
    done.acquire(timeout=patience_s)
    return answers[0] if answers else otherwise


def shorten(text: str, limit: int) -> str:
    """Return the text in at most `limit` bytes of UTF-8, with a note where its middle is cut."""
    encoded = text.encode("utf-8", "backslashreplace")
    if len(encoded) <= limit:
        return encoded.decode()
    mark = f"\n… {len(encoded) - limit} bytes and more are cut out here …\n"
    half = (limit - len(mark.encode())) // 2
    head, tail = encoded[:half], encoded[-half:]
    return head.decode(errors="ignore") + mark + tail.decode(errors="ignore")


def _describe(error: BaseException) -> tuple[str, str | None]:
    story = traceback.TracebackException(
        type(error), error, error.__traceback__, limit=-MAX_FRAMES, lookup_lines=False, compact=True
    )
    reason = f" {_NO_SERVERS}" if _lacked_a_server(type(error), story.stack) else ""
    has_frames = _keep_program_frames(story) or isinstance(error, SyntaxError)
    line = " ".join(f"{_class_name(error)}: {story}".removesuffix(": ").splitlines()) + reason
    text = "".join(story.format()) if has_frames else None
    return (
        shorten(line, MAX_ERROR_BYTES),
        shorten(text, protocol.MAX_TEXT_BYTES) if text is not None else None,
    )


def _lacked_a_server(kind: type, frames: traceback.StackSummary) -> bool:
    """Whether multiprocessing has failed at starting a server, or at talking to one that did."""
    return kind in {EOFError, PermissionError, ConnectionRefusedError} and any(
        each.filename.startswith(_SERVERS) for each in frames
    )


def _keep_program_frames(story: traceback.TracebackException) -> bool:
    """Remove frames of the guest and of the import system, and fold those of libraries.

    Returns whether any are left.
    """
    left = False
    stories = [story]
    seen: set[int] = set()
    while stories:
        each = stories.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        kept = [frame for frame in each.stack if _is_shown(frame.filename)]
        each.stack = _folded(kept)
        left = left or bool(kept)
        around: tuple[Any, ...] = (each.__cause__, each.__context__, *(each.exceptions or ()))
        stories += [other for other in around if other is not None]
    return left


class _Stack(traceback.StackSummary):
    """Frames, of which those called `_FOLDED` stand for several of libraries."""

    def format_frame_summary(self, frame_summary: traceback.FrameSummary) -> str:
        """Return the lines of one frame."""
        if frame_summary.filename != _FOLDED:
            return super().format_frame_summary(frame_summary)
        return f"  … {frame_summary.name} …\n"


def _folded(frames: list[traceback.FrameSummary]) -> _Stack:
    """Return the frames, each row of those of libraries as one: the program's are what helps.

    A stack that has no other frames stays as it is.
    """
    stack = _Stack()
    for is_library, group in itertools.groupby(frames, lambda each: _is_library(each.filename)):
        row = list(group)
        if not is_library or len(row) == len(frames):
            stack += row
            continue
        names = list(dict.fromkeys(_library(each.filename) for each in row))
        others = f" and {len(names) - MAX_LIBRARIES} more" if len(names) > MAX_LIBRARIES else ""
        where = f"{', '.join(names[:MAX_LIBRARIES])}{others}"
        said = f"{len(row)} frame{'s' if len(row) > 1 else ''} of {where}"
        stack.append(traceback.FrameSummary(_FOLDED, None, said, lookup_line=False))
    return stack


def _is_library(filename: str) -> bool:
    return filename.startswith(_LIBRARIES) or _INSTALLED.search(filename) is not None


def _library(filename: str) -> str:
    """Return the name of the library whose file this is."""
    if found := _INSTALLED.search(filename):
        return found["name"]
    for place in _LIBRARIES:
        if filename.startswith(place):
            return filename.removeprefix(place).partition(os.sep)[0].removesuffix(".py")[:40]
    return "a library"


def _is_shown(filename: str) -> bool:
    return not filename.startswith((_OURS, "<frozen importlib", "<frozen runpy"))


def _is_ours(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == _PACKAGE


def _class_name(error: BaseException) -> str:
    """Return the class's name as in a traceback, whatever its metaclass does."""
    try:
        kind = type(error)
        is_bare = kind.__module__ in {"builtins", "__main__"} or _is_ours(kind)
        name = kind.__qualname__ if is_bare else f"{kind.__module__}.{kind.__qualname__}"
        return shorten(name, MAX_NAME_BYTES)
    except BaseException:  # noqa: BLE001 (see above)
        return "an exception without a name"
