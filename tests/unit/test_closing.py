"""Closing by name, and what happens to what nobody closes."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import pytest

from runner.host.closing import Closing, close_all
from runner.store import Store

DESCRIPTORS = Path("/proc/self/fd")


class Thing:
    def __init__(self, name, closed, **among):
        self.close = Closing(name, lambda: closed.append(name), **among)


def in_a_process(code, *options):
    """Run code in which `Closing` and `Thing` are known; return what it writes, and its stderr."""
    known = "from tests.unit.test_closing import Closing, Store, Thing, Told\nimport os, sys, gc\n"
    done = subprocess.run(
        [sys.executable, *options, "-c", known + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


class Told:
    """Says at once what has been closed, instead of keeping it."""

    def append(self, name):
        sys.stdout.write(f"closed {name}\n")


def test_it_is_closed_once_and_by_name():
    closed = []
    thing = Thing("thing", closed)
    assert thing.close.is_open
    thing.close()
    assert not thing.close.is_open
    thing.close()
    assert closed == ["thing"]


def test_a_forgotten_one_warns_as_a_socket_does_and_is_not_closed():
    closed, openings = [], {}
    thing = Thing("box of things", closed, among=openings)
    with pytest.warns(ResourceWarning, match=r'unclosed box of things: use "with" or close\(\)'):
        del thing
    assert closed == []
    close_all(openings)
    assert closed == ["box of things"]


def test_one_that_was_closed_by_what_it_belongs_to_warns_of_nothing():
    closed, openings = [], {}
    things = [Thing(name, closed, among=openings) for name in ("first", "second")]
    close_all(openings)
    assert closed == ["second", "first"]
    assert not any(each.close.is_open for each in things)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del things


def test_one_that_fails_holds_up_no_other(caplog):
    closed, openings = [], {}
    first = Thing("first", closed, among=openings)
    second = Closing("second", lambda: 1 / 0, among=openings)
    close_all(openings)
    assert closed == ["first"]
    assert "the second could not be closed" in caplog.text
    del first, second


def test_the_end_of_the_interpreter_closes_the_rest_in_order_and_warns_once_for_each():
    out, err = in_a_process(
        """
        kept, dropped = Thing("kept", Told()), Thing("dropped", Told())
        last = Thing("last", Told())
        del dropped
        print("ends")
        """,
        "-W",
        "always::ResourceWarning",
    )
    assert out.split("\n") == ["ends", "closed last", "closed dropped", "closed kept", ""]
    assert [err.count(f"unclosed {name}") for name in ("kept", "dropped", "last")] == [1, 1, 1]


def test_a_warning_that_is_an_error_is_shown_and_keeps_nothing_open():
    out, err = in_a_process(
        "one, other = Thing('one', Told()), Thing('other', Told())",
        "-W",
        "error::ResourceWarning",
    )
    assert out.split("\n") == ["closed other", "closed one", ""]
    assert 'ResourceWarning: unclosed other: use "with" or close()' in err


def test_by_default_nobody_is_told():
    assert in_a_process("one = Thing('one', Told())") == ("closed one\n", "")


def test_a_forked_child_closes_nothing_of_its_parent():
    out, err = in_a_process(
        """
        mine = {}
        one, other = Thing("one", Told()), Thing("other", Told(), among=mine)
        if os.fork() == 0:
            os.write(1, f"{one.close.is_open}\\n".encode())
            one.close()
            other.close()
            del one
            gc.collect()
            sys.exit()
        os.wait()
        assert one.close.is_open and other.close.is_open
        other.close()
        """,
        "-W",
        "always::ResourceWarning",
    )
    assert out.split("\n") == ["False", "closed other", "closed one", ""]
    assert err.count("unclosed") == 1


def test_a_store_is_closed_by_with_and_warns_if_it_is_forgotten(tmp_path):
    with Store(tmp_path) as store:
        assert store.is_open
    assert not store.is_open
    before = len([*DESCRIPTORS.iterdir()])
    with pytest.warns(ResourceWarning, match=f"unclosed store of jobs, {tmp_path}"):
        Store(tmp_path)
    assert len([*DESCRIPTORS.iterdir()]) > before, "the garbage collector has closed it"


def test_a_store_that_cannot_be_opened_leaves_nothing_to_close(tmp_path):
    (tmp_path / "jobs").write_bytes(b"no database" * 100)
    out, err = in_a_process(
        f"""
        from runner.errors import StoreError
        try:
            Store({str(tmp_path / "jobs")!r})
        except StoreError:
            print("refused")
        """,
        "-W",
        "always::ResourceWarning",
    )
    assert (out, err) == ("refused\n", "")
