"""One job in the worker: from the request to its last frame."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import contextlib
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, NoReturn

from sandbox import codec
from sandbox.program import faults, files, loader, messenger
from sandbox.program.caller import Caller
from sandbox.stack import backends
from sandbox.stack.warmup import Warmth
from sandbox.wire import protocol

_SIGNALS: Final = tuple(map(int, signal.valid_signals()))
_LOG_LEVELS: Final = frozenset({"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"})


class Job:
    """Runs one program once."""

    def __init__(
        self,
        run: protocol.Run,
        outbox: messenger.Outbox,
        caller: Caller,
        directory: str,
        warmth: Warmth,
    ) -> None:
        self._run = run
        self._outbox = outbox
        self._caller = caller
        self._directory = directory
        self._warmth = warmth
        self._process = os.getpid()
        self._kind = "invalid_inputs"

    def execute(self) -> Callable[[], object]:
        """Run the program; return a function that sends its last frame once the log is complete."""
        value: Any = None
        error: BaseException | None = None
        try:
            value = self._run_program()
        except BaseException as caught:  # noqa: BLE001 (whatever it raises is its outcome)
            error = caught
        while True:
            try:
                _deafen()
                break
            except BaseException:  # noqa: BLE001, S112 (one more alarm has just gone off)
                continue
        if os.getpid() != self._process:
            _leave_quietly(error)
        with contextlib.suppress(BaseException):  # what it left there is hostile, too
            files.send(self._outbox)
        if error is None:
            try:
                return self._conclude(value)
            except BaseException as caught:  # noqa: BLE001 (the value is the program's, too)
                error, self._kind = caught, "result_error"
        fault = faults.fault(error, job=self._run.job, kind=self._kind)
        return partial(self._outbox.send_fault, fault)

    def _run_program(self) -> Any:
        run = self._run
        configure_logging(run.options)
        inputs = codec.from_data(run.inputs, "inputs", trusted=True)
        backend = backends.build(run.backend, run.limits, self._warmth.prepared, self._caller)
        self._kind = "init_error"
        files.prepare()
        loader.clear_stage(self._directory, self._warmth)
        if self._warmth.said:
            os.write(2, self._warmth.said)
        main = loader.load(self._directory, run.entry)
        self._kind = "program_error"
        try:
            return main(backend, messenger.UserMessenger(self._outbox), **inputs)
        except TypeError:
            # Only after a failed call: inspecting a signature takes longer than many a job.
            loader.check_inputs(main, inputs)
            raise

    def _conclude(self, value: Any) -> Callable[[], object]:
        if not self._outbox.has_result:
            text = codec.encode(value, "result")
            self._outbox.check_result(text)
            return partial(self._outbox.send_end, text)
        if value is not None:
            self._outbox.drop_result("main returned a value after a final result was published")
        return self._outbox.send_done


def _leave_quietly(error: BaseException | None) -> NoReturn:
    """End a process that the program forked and that has returned from `main` too."""
    with contextlib.suppress(BaseException):  # the program may have replaced the streams
        if error is not None:
            traceback.print_exception(error)
        sys.stdout.flush()
    os._exit(0 if error is None else 1)


def configure_logging(options: Mapping[str, Any]) -> None:
    """Send the program's log to stderr, from the request's level upwards."""
    level = options.get("log_level")
    level = level if level in _LOG_LEVELS else "WARNING"
    if not logging.root.handlers:
        logging.basicConfig(level=level)
    elif level != logging.getLevelName(logging.root.level):
        logging.root.setLevel(level)


def _deafen() -> None:
    """Remove the program's signal handlers: its alarms must not interrupt the remaining steps."""
    # `_signal`, not `signal`, whose conversion of numbers to enums takes a fifth of a millisecond.
    for number in _SIGNALS:
        if callable(_signal.getsignal(number)):
            _signal.signal(number, _signal.SIG_IGN)
