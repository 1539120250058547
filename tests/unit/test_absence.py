"""What is said where no engine answers."""

from __future__ import annotations

import pytest

from runner.engine.absence import explain


def wrapped(error: Exception) -> Exception:
    """Return an error as libraries hand it on: in the arguments of one, which causes another."""
    try:
        try:
            raise ConnectionError("Connection aborted.", error)
        except ConnectionError as inner:
            raise ValueError(f"Error while fetching server API version: {inner}") from inner
    except ValueError as outer:
        return outer


@pytest.mark.parametrize(
    ("host", "error", "reason", "advice"),
    [
        (None, FileNotFoundError(2, "No such file or directory"), "(No such file", "install one"),
        (None, PermissionError(13, "Permission denied"), "(Permission", "may not use it"),
        ("unix:///x", PermissionError(13, "Permission denied"), "(Permission", "may not use it"),
        ("tcp://x:1", ConnectionRefusedError(111, "refused"), "(refused)", "DOCKER_HOST names it"),
    ],
)
def test_the_systems_own_reason_is_said_and_what_to_do(monkeypatch, host, error, reason, advice):
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setattr("shutil.which", lambda _: None)
    if host:
        monkeypatch.setenv("DOCKER_HOST", host)
    said = explain("unix:///x", wrapped(error))
    assert said.startswith("no container engine answers at unix:///x (")
    assert reason in said
    assert advice in said
    assert "make " not in said


@pytest.mark.parametrize(
    ("uid", "start", "socket"),
    [
        (0, "systemctl start podman.socket", "unix:///run/podman/podman.sock"),
        (1001, "systemctl --user start podman.socket", "unix:///run/user/1001/podman/podman.sock"),
    ],
)
def test_where_podman_is_installed_its_socket_is_named(monkeypatch, uid, start, socket):
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr("os.geteuid", lambda: uid)
    monkeypatch.setattr("os.getuid", lambda: uid)
    said = explain("unix:///x", FileNotFoundError(2, "No such file or directory"))
    assert start in said
    assert f"export DOCKER_HOST={socket}" in said


def test_an_error_without_words_is_named(monkeypatch):
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    assert "(ValueError())" in explain("somewhere", ValueError())
