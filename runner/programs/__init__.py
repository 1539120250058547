"""Programs: found by name, directory or file, read once, and never executed on the host."""

from __future__ import annotations

from runner.programs.program import (
    CASES_DIRECTORY,
    NOT_SOURCES,
    Program,
    add_wheel,
    beside,
    cases_of,
    check_name,
    check_size,
    create,
    examples,
    find,
    has_metadata,
    images_directory,
    lock,
    names,
    of_files,
    own,
    read_directory,
    reading,
    requirements_of,
)

__all__ = [
    "CASES_DIRECTORY",
    "NOT_SOURCES",
    "Program",
    "add_wheel",
    "beside",
    "cases_of",
    "check_name",
    "check_size",
    "create",
    "examples",
    "find",
    "has_metadata",
    "images_directory",
    "lock",
    "names",
    "of_files",
    "own",
    "read_directory",
    "reading",
    "requirements_of",
]
