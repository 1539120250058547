"""`qrunner.toml`: the operator's word, read from outside of what is checked."""

from __future__ import annotations

import click
import pytest

from runner.errors import RequestError
from runner.policy import Limits
from runner.policy.isolation import Isolation
from runner.policy.settings import MAX_CONFIG_BYTES, Settings, load


@pytest.fixture
def written(tmp_path):
    def write(text: str):
        path = tmp_path / "operator.toml"
        path.write_text(text)
        return path

    return write


WHOLE = """
isolation = "runsc"
jobs = 3
allow_missing = ["swap-limit"]
check_deadline_s = 600
[limits]
timeout_s = 30
memory_bytes = "1g"
messages = 10
"""


def test_every_key_is_taken(written):
    settings = load(written(WHOLE))
    assert settings.isolation is Isolation.RUNSC
    assert settings.policy.isolation is Isolation.RUNSC
    assert settings.policy.allow_missing == {"swap-limit"}
    assert (settings.jobs, settings.check_deadline_s) == (3, 600)
    assert settings.limits == Limits(timeout_s=30, memory_bytes=1 << 30, messages=10)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("jobs = 0", "jobs: 0: must be a whole number from 1"),
        ("jobs = true", "jobs: True"),
        ('isolation = "none"', "isolation: 'none': must be one of runc, runsc"),
        ("job = 1", "job: unknown key; did you mean 'jobs'?"),
        ('allow_missing = ["x"]', "allow_missing.0: 'x': must be one of"),
        ("[limits]\ntimeout = 1", "limits.timeout: unknown key; did you mean 'timeout_s'?"),
        ("[limits]\ntimeout_s = -1", "limits.timeout_s: limit timeout_s is -1"),
        ('[limits]\nmemory_bytes = "lots"', "limits.memory_bytes: size 'lots'"),
        ('[limits]\ncpus = "2g"', "limits.cpus"),
        ("limits = 1", "must be a table"),
        ("check_deadline_s = 0", "check_deadline_s: 0: must be a number of seconds above 0"),
        ("check_deadline_s = nan", "nan is no number"),
        ("[service]\ngrace_s = inf", "inf is no number"),
        ("[service]\nstream = 3", "service.stream: unknown key; did you mean 'streams'?"),
        ("[service]\nstreams = -3", "service.streams: -3: must be a whole number, 0 or more"),
        ("[backends]\nlab = 3", "backends.lab: 3: must be a table, such as [backends.lab]"),
        ("jobs", "not readable as TOML"),
        ("#" * (MAX_CONFIG_BYTES + 1), "longer than"),
    ],
)
def test_a_mistake_is_named_with_file_and_key(written, text, said):
    path = written(text)
    with pytest.raises(RequestError) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert said in str(caught.value)


def test_a_file_that_is_named_must_be_there_the_users_own_need_not(tmp_path, monkeypatch):
    monkeypatch.delenv("QRUNNER_CONFIG", raising=False)
    monkeypatch.setattr(click, "get_app_dir", lambda _: str(tmp_path / "nowhere"))
    assert load() == Settings()
    with pytest.raises(RequestError, match="no such file"):
        load(tmp_path / "missing.toml")
    monkeypatch.setenv("QRUNNER_CONFIG", str(tmp_path / "missing.toml"))
    with pytest.raises(RequestError, match="no such file"):
        load()


def test_the_named_one_comes_before_the_variable_before_the_users(tmp_path, monkeypatch):
    for number, name in enumerate(("named", "variable", "qrunner"), 1):
        (tmp_path / f"{name}.toml").write_text(f"jobs = {number}")
    monkeypatch.setattr(click, "get_app_dir", lambda _: str(tmp_path))
    monkeypatch.delenv("QRUNNER_CONFIG", raising=False)
    assert load().jobs == 3
    monkeypatch.setenv("QRUNNER_CONFIG", str(tmp_path / "variable.toml"))
    assert load().jobs == 2
    assert load(tmp_path / "named.toml").jobs == 1


def test_no_file_of_the_working_directory_is_ever_read(tmp_path, monkeypatch):
    (tmp_path / "qrunner.toml").write_text("jobs = 7")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QRUNNER_CONFIG", raising=False)
    monkeypatch.setattr(click, "get_app_dir", lambda _: str(tmp_path / "nowhere"))
    assert load().jobs is None


def test_flags_replace_what_the_file_says_and_nothing_else(written):
    settings = load(written(WHOLE)).replaced_by(
        {
            "timeout": 5.0,
            "memory": "2g",
            "cpus": None,
            "isolation": "runc",
            "allow_missing": ("seccomp",),
        }
    )
    assert settings.limits == Limits(timeout_s=5, memory_bytes=2 << 30, messages=10)
    assert settings.isolation is Isolation.RUNC
    assert settings.allow_missing == {"swap-limit", "seccomp"}
    assert settings.jobs == 3
