"""`python -m runner` is `qrunner`."""

from __future__ import annotations

import signal


def main() -> None:
    """Run the command line and exit."""
    # Until everything is imported, nothing is there to be cleaned up: Ctrl-C ends the process.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from runner.cli import main as run

    run()


if __name__ == "__main__":
    main()
