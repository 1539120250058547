"""The command line: arguments → calls → output and exit code."""

from __future__ import annotations

from runner.cli.entry import (
    cli,
    main,
)

__all__ = [
    "cli",
    "main",
]
