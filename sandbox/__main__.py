"""The container's command, `python3 -P -s -m sandbox`: become PID 1 and start the worker."""

from __future__ import annotations

import sys

from sandbox.processes import init
from sandbox.wire import options

if __name__ == "__main__":
    init.main(options.parse(sys.argv[1:]))
