"""Sessions of browsers: they end with their token, their user, their time, or by signing out."""

from __future__ import annotations

import time

import pytest

from runner.store import sessions as module
from runner.store.sessions import LOCAL, MAX_SESSIONS, Sessions
from runner.store.users import Users


@pytest.fixture
def users(store):
    known = Users(store.file)
    known.add("alice")
    return known


@pytest.fixture
def sessions(store):
    return Sessions(store.file)


def test_a_session_stands_for_its_user_until_it_is_closed(users, sessions):
    name = sessions.open(users.new_token("alice"))
    assert sessions.user_of(name).name == "alice"
    sessions.close(name)
    sessions.close(name)
    assert sessions.user_of(name) is None


def test_the_file_holds_no_session_that_could_be_used(store, users, sessions):
    name = sessions.open(users.new_token("alice"))
    with store.file.reading() as db:
        held = str(db.execute("SELECT * FROM sessions").fetchall())
    assert name not in held


@pytest.mark.parametrize("odd", ["", "x", "\ud800", "' OR 1 --"])
def test_an_unknown_session_is_nobodys(sessions, odd):
    assert sessions.user_of(odd) is None


def test_a_session_ends_with_its_token_and_its_user(users, sessions):
    first, second = (sessions.open(users.new_token("alice")) for _ in range(2))
    users.revoke_tokens("alice")
    assert sessions.user_of(first) is sessions.user_of(second) is None
    third = sessions.open(users.new_token("alice"))
    assert sessions.user_of(third).name == "alice"
    users.disable("alice")
    users.enable("alice")
    assert sessions.user_of(third) is None


def test_a_session_ends_when_its_time_or_that_of_its_token_is_over(
    store, users, sessions, monkeypatch
):
    long, short = users.new_token("alice"), users.new_token("alice", valid_s=60)
    first, second = sessions.open(long), sessions.open(short)
    now = time.time()
    monkeypatch.setattr(module.time, "time", lambda: now + 61)
    assert sessions.user_of(second) is None
    assert sessions.user_of(first).name == "alice"
    monkeypatch.setattr(module.time, "time", lambda: now + module.SESSION_S + 1)
    assert sessions.user_of(first) is None
    sessions.open(long)  # which forgets those that are over
    with store.file.reading() as db:
        assert db.execute("SELECT count(*) FROM sessions").fetchone() == (1,)


def test_a_token_has_so_many_sessions_and_the_oldest_goes_first(users, sessions):
    tokens = users.new_token("alice"), users.new_token("alice")
    other = sessions.open(tokens[1])
    opened = [sessions.open(tokens[0]) for _ in range(MAX_SESSIONS + 2)]
    alive = [sessions.user_of(each) is not None for each in opened]
    assert alive == [False, False] + [True] * MAX_SESSIONS
    assert sessions.user_of(other) is not None


def test_a_session_without_a_token_is_that_of_this_machine(sessions):
    assert sessions.user_of(sessions.open(None)) is LOCAL
