"""The container's command, `python3 -P -s -m sandbox`: become PID 1 and start the worker."""

from __future__ import annotations

import sys
from functools import partial

from sandbox.processes import init, worker
from sandbox.wire.options import parse

if __name__ == "__main__":
    options = parse(sys.argv[1:])
    work = partial(worker.main, options)
    # What only some guests need, others do not wait for.
    if options.zygote:
        from sandbox.processes import zygote

        work = partial(zygote.main, options)
    elif options.session:
        from sandbox.processes import session

        work = partial(session.main, options)
    # A waiting sandbox answers within few milliseconds, of which collecting would take more than 1.
    is_cold = not (options.warm or options.session or options.zygote)
    init.main(options, work, collects=is_cold)
