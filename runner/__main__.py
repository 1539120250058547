"""`python -m runner` is `qrunner`."""

from __future__ import annotations

from runner.cli import main

main()
