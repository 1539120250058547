"""Whom a Ray cluster obeys, and that a caller of ours says so when it is not the one."""

from __future__ import annotations

import time

import pytest

from runner import RequestError
from runner.sites.ray_trust import asks_for_a_token
from tests.cluster.conftest import open_kind
from tests.cluster.tried import TALKER, on
from tests.engine.bare import Supervisor


@pytest.fixture(scope="module")
def token(tmp_path_factory):
    path = tmp_path_factory.mktemp("token") / "token"
    path.write_text("0f" * 32)
    return path


@pytest.fixture(scope="module")
def guarded(token):
    """A cluster of which every part was started with that token."""
    found = open_kind("ray", token=token)
    yield found
    found.close()


def present(monkeypatch, mode, path):
    """Be a caller with this mode and token, and with no others."""
    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    for name, value in {"RAY_AUTH_MODE": mode, "RAY_AUTH_TOKEN_PATH": path}.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, str(value))


def test_who_has_the_token_is_obeyed(guarded, token, monkeypatch, program):
    present(monkeypatch, "token", token)
    with Supervisor(cluster=guarded.cluster) as supervisor:
        assert supervisor.run(program(TALKER)).result(60)["sum"] == 3


def test_who_has_another_is_told_so_at_once(guarded, tmp_path, monkeypatch):
    (tmp_path / "other").write_text("f0" * 32)
    present(monkeypatch, "token", tmp_path / "other")
    began = time.monotonic()
    with pytest.raises(RequestError, match="does not accept this caller's token"):
        Supervisor(cluster=guarded.cluster)
    assert time.monotonic() - began < 10  # Ray itself takes 20 s, and does not say why


def test_who_has_none_is_told_what_to_set(guarded, monkeypatch):
    present(monkeypatch, None, None)
    with pytest.raises(RequestError, match="set RAY_AUTH_MODE=token here"):
        Supervisor(cluster=guarded.cluster)


def test_a_mode_without_a_token_is_told_where_it_was_looked_for(guarded, monkeypatch):
    present(monkeypatch, "token", None)
    with pytest.raises(RequestError, match=r"none in /nonexistent/\.ray/auth_token"):
        Supervisor(cluster=guarded.cluster)


def test_a_cluster_that_asks_is_told_from_one_that_takes_any_token(guarded, token, monkeypatch):
    present(monkeypatch, "token", token)
    assert asks_for_a_token(guarded.cluster.removeprefix("ray://"))


@on("ray")
def test_a_cluster_that_does_not_ask_is_found_out(cluster, token, monkeypatch):
    present(monkeypatch, "token", token)
    assert not asks_for_a_token(cluster.cluster.removeprefix("ray://"))


@on("ray")
def test_no_worker_runs_what_lies_in_the_callers_directory(cluster, program, tmp_path, monkeypatch):
    path, marker = program(TALKER), tmp_path / "was-run"
    (tmp_path / "here" / "runner").mkdir(parents=True)
    for name in ("runner/__init__.py", "ipaddress.py", "docker.py"):
        (tmp_path / "here" / name).write_text(f"open({str(marker)!r}, 'w').close()\n")
    monkeypatch.chdir(tmp_path / "here")
    with Supervisor(cluster=cluster.cluster) as supervisor:
        assert supervisor.run(path).result(60)["sum"] == 3
    assert not marker.exists()
