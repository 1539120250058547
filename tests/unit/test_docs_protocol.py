"""docs/protocol.md says of the wire what the code says."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from sandbox.codec import decoding, table
from sandbox.codec.rows import MAX_QUBITS, SAFE_QPY
from sandbox.processes import init, worker
from sandbox.program import faults, messenger
from sandbox.wire import channel, protocol

PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
UNITS = {"B": 1, "KiB": protocol.KIB, "MiB": protocol.MIB}


def rows(heading):
    """Return the cells of all tables in one section, without their headings."""
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line, following in zip(lines, [*lines[1:], ""], strict=True)
        if not line.startswith("|---") and not following.startswith("|---")
    ]


def names(cell):
    return re.findall(r"`([^`]+)`", cell)


def test_frames_and_their_fields():
    told = {names(row[0])[0]: names(row[1]) for row in rows("Frames") if len(row) in {3, 4}}
    frames = [*protocol.Frame.__args__, *protocol.Order.__args__]
    assert told == {
        frame.__name__.lower(): [field.name for field in fields(frame)] for frame in frames
    }


def test_the_keys_of_a_request():
    keys = {names(row[0])[0]: row[1] for row in rows("Frames") if len(row) == 2}
    assert [*keys] == [field.name for field in fields(protocol.Run)][1:]
    assert set(messenger.DEFAULTS) < set(names(keys["limits"]))


def test_the_kinds_of_faults():
    for kind in protocol.FAULT_KINDS:
        assert f"`{kind}`" in PAGE


def test_the_tags_and_who_decodes_them():
    told = {tag: row[2] for row in rows("Values") for tag in names(row[0])}
    assert set(told) == set(table.BY_TAG)
    for tag, row in table.BY_TAG.items():
        assert (told[tag] == "no") == row.needs_trust, tag


def test_the_limits():
    told = {}
    for constant, value, _ in rows("Limits"):
        number, _, unit = value.partition(" ")
        told[names(constant)[0]] = int(number) * UNITS[unit or "B"]
    constants = {
        name: getattr(protocol, name)
        for name in dir(protocol)
        if name.startswith("MAX_") or name == "ENVELOPE_BYTES"
    }
    assert told == constants


@pytest.mark.parametrize(
    "text",
    [
        f"{channel.HIGH} and above",
        f"and {init.GRACE_S:.0f} s after the time limit",
        f"hangs up, or after {init.LINGER_S:.0f} s",
        "are flushed (at most a second)",
        f"reads QPY {SAFE_QPY} or newer",
        f"more than {decoding.MAX_UNPACKED_BYTES // protocol.MIB} MiB",
    ],
)
def test_other_numbers(text):
    assert text in PAGE
    assert worker.FLUSH_S == 1
    assert faults.MAX_ERROR_BYTES < protocol.MAX_TEXT_BYTES


def test_the_page_about_values():
    page = (Path(__file__).parents[2] / "docs" / "values.md").read_text()
    assert f"{decoding.MAX_UNPACKED_BYTES // protocol.MIB} MiB more" in page
    assert f"versions before {SAFE_QPY}" in page
    assert MAX_QUBITS == 10**6
    for row in table.ROWS:  # every class stands there by its name
        module, _, name = row.of.partition(":")
        if module not in {"numpy", "numpy.ma", "numpy.ma.core", "scipy.sparse"}:
            assert f"`{name}`" in page, name
