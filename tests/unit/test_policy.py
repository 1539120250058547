"""The policy: what the engine is told, to the letter, and that limits only go down."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from runner.errors import PolicyError, RequestError
from runner.policy import (
    REQUIREMENTS,
    Limits,
    Policy,
    parse_size,
)
from runner.policy.isolation import Isolation
from runner.sandboxes import podman
from runner.sandboxes.container import WRITABLE, container_config, random_uid


def config(*, policy: Policy | None = None, **changes: object) -> dict:
    arguments = {
        "image": "sha256:abc",
        "uid": 2097152,
        "labels": {"a": "b"},
        "channel_directory": "/x/y",
        "cgroup_parent": None,
        **changes,
    }
    return container_config(policy or Policy(), Limits(), **arguments)


def test_the_hardening_options_are_all_there():
    host = config()["HostConfig"]
    expected = {
        "Privileged": False,
        "CapDrop": ["ALL"],
        "CapAdd": [],
        "NetworkMode": "none",
        "ReadonlyRootfs": True,
        "Memory": 2 << 30,
        "MemorySwap": 2 << 30,
        "PidsLimit": 128,
        "NanoCpus": 10**9,
        "IpcMode": "private",
        "CgroupnsMode": "private",
        "LogConfig": {"Type": "none", "Config": {}},
        "Runtime": "runc",
        "OomScoreAdj": 1000,
    }
    assert {name: host[name] for name in expected} == expected
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert "noexec" in host["Tmpfs"]["/tmp"]
    assert "size=67108864" in host["Tmpfs"]["/tmp"]
    assert all("nr_inodes=" in options for options in host["Tmpfs"].values())
    assert host["Tmpfs"].keys() == {*WRITABLE}
    assert {"Name": "core", "Soft": 0, "Hard": 0} in host["Ulimits"]


def test_the_only_mount_is_the_channel_and_it_is_read_only():
    (mount,) = config()["HostConfig"]["Mounts"]
    assert mount["ReadOnly"] is True
    assert (mount["Source"], mount["Target"]) == ("/x/y", "/run/qrunner")
    assert config(channel_directory=None)["HostConfig"]["Mounts"] == []


def test_the_lifeline_is_open_and_the_user_is_not_root():
    content = config()
    assert content["OpenStdin"]
    assert content["StdinOnce"]
    assert not content["Tty"]
    assert content["User"] == "2097152:2097152"


def test_nothing_of_the_callers_environment_reaches_the_sandbox(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example")
    monkeypatch.setenv("SECRET", "x")
    names = {each.partition("=")[0].upper() for each in config()["Env"]}
    assert not {name for name in names if "PROXY" in name}
    assert "SECRET" not in names


def test_limits_go_down_and_never_up():
    lowered = Limits().lowered_by({"timeout_s": 10, "memory_bytes": 8 << 30})
    assert lowered.timeout_s == 10
    assert lowered.memory_bytes == Limits().memory_bytes
    assert Limits().lowered_by({"timeout_s": 10**400, "messages": 1e30}) == Limits()
    with pytest.raises(RequestError, match="unknown limit 'colour'"):
        Limits().lowered_by({"colour": 1})


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), True, "1", None])
def test_a_limit_must_be_a_positive_number(value):
    with pytest.raises(RequestError, match="timeout_s"):
        Limits(timeout_s=value)
    with pytest.raises(RequestError, match="timeout_s"):
        Limits().lowered_by({"timeout_s": value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("cpus", 1e-10), ("memory_bytes", 1 << 20), ("processes", 1.5)),
        *(("timeout_s", 1e9), ("startup_s", 1e9), ("processes", 10**9), ("tmp_inodes", 1 << 64)),
    ],
)
def test_a_limit_that_no_engine_keeps_as_it_was_meant_is_refused(name, value):
    with pytest.raises(RequestError, match=rf"limit {name} is .*: it must be a"):
        Limits(**{name: value})


def test_a_whole_number_is_written_as_one_for_the_engine():
    assert json.dumps(Limits(memory_bytes=1e9).memory_bytes) == "1000000000"


def test_the_digest_changes_with_every_option():
    base = Policy().digest(Limits())
    assert Policy().digest(Limits()) == base
    assert dataclasses.replace(Policy(), hostname="x").digest(Limits()) != base
    assert Policy().digest(Limits(processes=7)) != base


def test_user_ids_stand_far_from_those_of_real_users_where_the_engine_allows_it():
    assert all(random_uid(rootful=True) >= 1 << 21 for _ in range(100))
    assert all(10_000 <= random_uid(rootful=False) < 60_000 for _ in range(100))


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512m", 512 << 20),
        ("2GiB", 2 << 30),
        ("1.5g", 3 << 29),
        ("1048576", 1 << 20),
        ("1kb", 1024),
    ],
)
def test_sizes_are_read_as_people_write_them(text: str, size: int):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "m", "-1", "1t", "1 000", "inf", "nan", "1e400"])
def test_other_sizes_are_refused(text: str):
    with pytest.raises(RequestError, match="is not understood"):
        parse_size(text)


ABLE = {
    "CgroupVersion": "2",
    "MemoryLimit": True,
    "SwapLimit": True,
    "PidsLimit": True,
    "CpuCfsQuota": True,
    "SecurityOptions": ["name=seccomp,profile=default"],
}


def test_an_engine_that_can_do_everything_is_fine():
    assert Policy().fitted_to(ABLE) == Policy()
    assert Policy().exceptions() == ()


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_what_an_engine_cannot_honour_is_refused_with_the_way_out(name):
    fact = REQUIREMENTS[name].fact
    unable = {**ABLE, "SecurityOptions": []} if name == "seccomp" else {**ABLE, fact: False}
    with pytest.raises(PolicyError, match=f"--allow-missing {name}$"):
        Policy().fitted_to(unable)
    allowed = Policy(allow_missing=frozenset({name})).fitted_to(unable)
    assert allowed.exceptions() == (f"missing {name}",)
    assert allowed.digest(Limits()) != Policy().fitted_to(ABLE).digest(Limits())


def test_an_engine_that_says_nothing_of_itself_is_refused():
    with pytest.raises(PolicyError) as caught:
        Policy().fitted_to({})
    assert all(name in str(caught.value) for name in REQUIREMENTS)


def test_what_is_allowed_to_be_missing_is_required_where_it_is_there():
    policy = Policy(allow_missing=frozenset({"swap-limit", "cpu-limit"}))
    assert policy.fitted_to(ABLE) == Policy()


def test_an_option_that_may_be_missing_is_not_asked_for():
    unable = {**ABLE, "SwapLimit": False, "CpuCfsQuota": False}
    policy = Policy(allow_missing=frozenset({"swap-limit", "cpu-limit"})).fitted_to(unable)
    host = config(policy=policy)["HostConfig"]
    assert (host["MemorySwap"], host["NanoCpus"]) == (-1, 0)


def test_an_exception_has_a_name_that_is_known():
    with pytest.raises(RequestError, match="unknown requirement 'everything'"):
        Policy(allow_missing=frozenset({"everything"}))


def test_swapping_is_turned_off_where_the_kernel_has_that():
    assert config()["HostConfig"]["MemorySwappiness"] is None
    fitted = Policy().fitted_to({**ABLE, "CgroupVersion": "1"})
    assert config(policy=fitted)["HostConfig"]["MemorySwappiness"] == 0


def test_a_loosened_option_shows_in_the_job_record():
    assert Policy(open_files=4096, masked_paths=()).exceptions() == ("masked_paths", "open_files")


def test_the_filter_is_an_allowlist_of_names_for_both_architectures():
    profile = json.loads(Policy().seccomp)
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    assert [each["architecture"] for each in profile["archMap"]] == [
        "SCMP_ARCH_X86_64",
        "SCMP_ARCH_AARCH64",
    ]
    assert not any(each["subArchitectures"] for each in profile["archMap"])
    names = [name for rule in profile["syscalls"] for name in rule["names"]]
    always = [name for rule in profile["syscalls"] if "args" not in rule for name in rule["names"]]
    sometimes = [rule for rule in profile["syscalls"] if "args" in rule]
    assert len(always) == len(set(always))
    assert not {*always} & {name for rule in sometimes for name in rule["names"]}
    assert {rule["action"] for rule in sometimes} == {"SCMP_ACT_ALLOW"}
    (allowed,) = (rule for rule in profile["syscalls"] if len(rule["names"]) > 20)
    assert allowed["names"] == sorted(allowed["names"])
    dangerous = {"ptrace", "bpf", "mount", "unshare", "io_uring_setup", "splice", "bind", "keyctl"}
    assert not dangerous & set(names)


# --- Podman ---------------------------------------------------------------------------------------

PODMAN = {
    "BuildahVersion": "1.39.3",
    "CgroupVersion": "2",
    "DefaultRuntime": "crun",
    "Runtimes": {"crun": {}, "runc": {}, "runsc": {}},
    "MemoryLimit": True,
    "PidsLimit": True,
    "SwapLimit": False,
    "CpuCfsQuota": False,
    "SecurityOptions": ["name=seccomp,profile=default"],
}


def test_podman_denies_limits_that_it_sets_and_they_are_asked_for():
    policy = Policy().fitted_to(PODMAN)
    assert policy.allow_missing == frozenset()
    assert policy.exceptions() == ("missing inode-limit",)
    with pytest.raises(PolicyError, match="swap-limit"):
        Policy().fitted_to({**PODMAN, "CgroupVersion": "1"})


def test_podman_is_not_asked_for_a_runtime_that_it_would_ignore():
    with pytest.raises(PolicyError, match="isolation runsc: .* its own, crun"):
        Policy(isolation=Isolation.RUNSC).fitted_to(PODMAN)
    theirs = {**PODMAN, "DefaultRuntime": "runsc"}
    assert Policy(isolation=Isolation.RUNSC).fitted_to(theirs).isolation is Isolation.RUNSC


def test_podman_is_told_in_its_own_way():
    policy = Policy(masked_paths=("/proc/keys", "/sys/class")).fitted_to(PODMAN)
    config = container_config(
        policy,
        Limits(),
        image="sha256:1",
        uid=1,
        labels={},
        channel_directory=None,
        cgroup_parent=None,
    )
    with podman.translated(config) as told:
        (seccomp,) = (
            each for each in told["HostConfig"]["SecurityOpt"] if each.startswith("seccomp=")
        )
        file = Path(seccomp.removeprefix("seccomp="))
        assert file.read_text() == policy.seccomp
        assert "mask=/proc/keys:/sys/class" in told["HostConfig"]["SecurityOpt"]
        assert "no-new-privileges:true" in told["HostConfig"]["SecurityOpt"]
        assert not any("inodes" in each for each in told["HostConfig"]["Tmpfs"].values())
    assert not file.exists()
    assert any(each.startswith("seccomp={") for each in config["HostConfig"]["SecurityOpt"])
