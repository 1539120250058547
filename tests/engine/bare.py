"""A supervisor whose programs get no backend unless a test asks for one.

Most tests here are about anything but backends, and importing Qiskit is most of what a short job
costs.  With the default backend: test_complaints, test_contract, some of test_cli, and the
examples.
"""

from __future__ import annotations

import runner


class Supervisor(runner.Supervisor):
    """As `runner.Supervisor`, with another default for `backend`."""

    def run(self, program, inputs=None, *, backend="none", **arguments):
        return super().run(program, inputs, backend=backend, **arguments)
