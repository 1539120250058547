"""A supervisor whose programs get no backend unless a test asks for one.

Most tests here are about anything but backends, and importing Qiskit is most of what a short job
costs.  With the default backend: test_complaints, test_contract, some of test_cli, and the
examples.
"""

from __future__ import annotations

import threading
from typing import Any

import runner


class Supervisor(runner.Supervisor):
    """As `runner.Supervisor`, with another default for `backend`.

    With `in_sessions` each job is run by a session of its own, which is closed when it has ended.
    """

    def __init__(self, *, in_sessions: bool = False, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._in_sessions = in_sessions

    def run(self, program, inputs=None, *, backend="none", **arguments):
        if not self._in_sessions:
            return super().run(program, inputs, backend=backend, **arguments)
        of_session = {
            name: arguments.pop(name) for name in ("limits", "options", "user") if name in arguments
        }
        session = self.session(program, backend=backend, **of_session)
        try:
            job = session.run(inputs, **arguments)
        except BaseException:
            session.close()
            raise

        def close() -> None:
            job.wait()
            session.close()

        threading.Thread(target=close, daemon=True).start()
        return job
