"""One job in the worker: from the request to its last frame."""

from __future__ import annotations

import logging
import os
import signal
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from sandbox import backends, codec, faults, loader, messenger, protocol

_LOG_LEVELS: Final = frozenset({"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"})


class Job:
    """Runs one program once."""

    def __init__(self, run: protocol.Run, outbox: messenger.Outbox, directory: str) -> None:
        self._run = run
        self._outbox = outbox
        self._directory = directory
        self._process = os.getpid()

    def execute(self) -> Callable[[], object]:
        """Run the program; returns what sends its last frame, for when the log is complete."""
        kind = "program_error"
        try:
            _configure_logging(self._run.options)
            inputs = codec.from_data(self._run.inputs, "inputs", trusted=True)
            kind = "init_error"
            backend = backends.build(self._run.backend, self._run.limits)
            loader.clear_stage(self._directory)
            main = loader.load(self._directory, self._run.entry)
            kind = "program_error"
            loader.check_inputs(main, inputs)
            value = main(backend, messenger.UserMessenger(self._outbox), **inputs)
            kind = "result_error"
            return self._conclude(value)
        except BaseException as error:  # noqa: BLE001 (whatever the program raises is its outcome)
            return self._blame(error, kind)

    def _conclude(self, value: Any) -> Callable[[], object]:
        _deafen()
        if os.getpid() != self._process:
            os._exit(0)  # a process that the program forked, come back from `main` as well
        if not self._outbox.has_result:
            text = codec.encode(value, "result")
            self._outbox.check_result(text)
            return partial(self._outbox.send_result, text, done=True)
        if value is not None:
            self._outbox.drop_result("main returned a value after publishing a final result")
        return self._outbox.send_done

    def _blame(self, error: BaseException, kind: str) -> Callable[[], object]:
        _deafen()
        if os.getpid() != self._process:
            traceback.print_exception(error)
            os._exit(1)
        fault = faults.fault(error, job=self._run.job, kind=kind)
        return partial(self._outbox.send_fault, fault)


def _configure_logging(options: dict[str, Any]) -> None:
    level = options.get("log_level")
    logging.basicConfig(level=level if level in _LOG_LEVELS else "WARNING")


def _deafen() -> None:
    """Drop the program's signal handlers: its alarms must not go off in what is left to do."""
    while True:
        try:
            for number in signal.valid_signals():
                if callable(signal.getsignal(number)):
                    signal.signal(number, signal.SIG_IGN)
        except BaseException:  # noqa: BLE001, S112 (one of them has just gone off: again)
            continue
        return
