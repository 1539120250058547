"""How findings are judged: versions against known flaws, engines against what a sandbox needs."""

from __future__ import annotations

import re

import pytest

from runner.doctor import judge_probe, probe
from runner.doctor.differences import DIFFERENCES, difference_at
from runner.doctor.flaws import FLAWS, Component, flaws_of, is_packaged, parse_version
from runner.doctor.inspection import Facts, Status, judge
from runner.policy import REQUIREMENTS
from runner.policy.isolation import Isolation

GOOD = {
    "ServerVersion": "29.1.0",
    "Architecture": "x86_64",
    "NCPU": 8,
    "MemTotal": 16 << 30,
    "KernelVersion": "6.12.9-amd64",
    "CgroupVersion": "2",
    "CgroupDriver": "cgroupfs",
    "MemoryLimit": True,
    "SwapLimit": True,
    "PidsLimit": True,
    "CpuCfsQuota": True,
    "SecurityOptions": ["name=apparmor", "name=seccomp,profile=builtin", "name=rootless"],
    "Driver": "overlay2",
    "LiveRestoreEnabled": False,
    "Runtimes": {
        "runc": {"path": "runc"},
        "runsc": {
            "path": "/usr/bin/runsc",
            "runtimeArgs": ["--network=none", "--host-uds=open", "--oci-seccomp"],
        },
    },
}
GOOD_VERSIONS = {
    "Engine": "29.1.0",
    "containerd": "v2.2.0",
    "runc": "1.4.0",
    "runsc": "release-20260101.0",
}


def findings(*, versions=GOOD_VERSIONS, reads_groups=True, **info):
    facts = Facts(
        address="unix:///x", info={**GOOD, **info}, versions=versions, reads_groups=reads_groups
    )
    return {each.what: each for each in judge(facts)}


@pytest.mark.parametrize(
    ("component", "name", "flawed", "mended"),
    [
        ("runc", "CVE-2019-5736", "1.0.0-rc6", "1.0.0"),
        ("runc", "CVE-2024-21626", "1.1.11", "1.1.12"),
        ("runc", "CVE-2024-21626", "1.0.3", "1.2.0"),
        ("runc", "CVE-2024-45310", "1.1.13", "1.2.0"),
        ("runc", "CVE-2025-31133", "1.1.15", "2.0.0"),
        ("runc", "CVE-2025-31133", "1.2.7", "1.2.8"),
        ("runc", "CVE-2025-52565", "1.3.2", "1.3.3"),
        ("runc", "CVE-2025-52881", "1.4.0-rc.2", "1.4.0"),
        ("containerd", "CVE-2020-15257", "1.3.8", "1.3.9"),
        ("containerd", "CVE-2020-15257", "v1.4.2", "v1.4.3"),
        ("containerd", "CVE-2024-25621", "v1.7.28", "v1.7.29"),
        ("containerd", "CVE-2024-25621", "2.1.4", "2.0.7"),
        ("Engine", "CVE-2019-14271", "19.03.0", "19.03.1"),
        ("Engine", "CVE-2021-41091", "20.10.8", "20.10.24+dfsg1"),
        ("runsc", "CVE-2018-19333", "release-20181015.0", "0.0~20221219.0"),
    ],
)
def test_a_version_has_the_flaws_of_its_branch(component, name, flawed, mended):
    assert name in {each.name for each in flaws_of(Component(component), flawed)}
    assert name not in {each.name for each in flaws_of(Component(component), mended)}


def test_a_version_that_says_nothing_accuses_nobody():
    assert parse_version("unknown") is None
    assert flaws_of(Component.RUNC, "unknown") == ()
    assert flaws_of(Component.RUNC, "") == ()


def test_the_table_of_flaws_is_complete():
    assert len({(each.component, each.name) for each in FLAWS}) == len(FLAWS)
    assert {each.component for each in FLAWS} == set(Component)
    for each in FLAWS:
        assert re.fullmatch(r"CVE-\d{4}-\d{4,}", each.name)
        assert each.allows
        assert each.fixed_in
        for fixed in each.fixed_in:
            assert each not in flaws_of(each.component, fixed)


def test_a_distributions_build_is_told_from_upstreams():
    for version in (
        "1.1.5+ds1-1+deb12u1",
        "20.10.24+dfsg1",
        "1.6.20~ds1",
        "1.1.12-0ubuntu3",
        "2.el9",
    ):
        assert is_packaged(version)
    for version in ("1.1.12", "v1.7.28", "29.1.0", "1.4.0-rc.2", "release-20260101.0"):
        assert not is_packaged(version)


def test_a_good_engine_has_nothing_to_change():
    found = findings()
    assert {each.status for each in found.values()} == {Status.OK}
    assert not any(each.advice for each in found.values())


def test_upstreams_flawed_version_fails_and_a_distributions_is_a_warning():
    upstream = findings(versions={"runc": "1.1.5"})["runc version"]
    assert upstream.status is Status.FAIL
    assert "CVE-2024-21626" in upstream.found
    assert "1.3.3" in upstream.advice
    packaged = findings(versions={"runc": "1.1.5+ds1-1+deb12u1"})["runc version"]
    assert packaged.status is Status.WARN
    assert "distribution" in packaged.advice


@pytest.mark.parametrize("name", [*REQUIREMENTS])
def test_what_the_policy_requires_and_the_engine_lacks_fails(name):
    lacking = {REQUIREMENTS[name].fact: False}
    if name == "seccomp":
        lacking = {"SecurityOptions": ["name=apparmor"]}
    finding = findings(**lacking)[name]
    assert finding.status is Status.FAIL
    assert f"--allow-missing {name}" in finding.advice


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("kernel", {"KernelVersion": "4.19.0"}),
        ("cgroups", {"KernelVersion": "5.15.0"}),
        ("last resort", {"reads_groups": False}),
        ("AppArmor, SELinux", {"SecurityOptions": ["name=seccomp"]}),
        ("user ids", {"SecurityOptions": ["name=seccomp"]}),
        ("storage", {"Driver": "vfs"}),
        ("live-restore", {"LiveRestoreEnabled": True}),
        ("runsc flags", {"Runtimes": {"runc": {}}}),
        ("runsc flags", {"Runtimes": {"runsc": {"runtimeArgs": ["--host-uds=open"]}}}),
        ("runsc flags", {"Runtimes": {"runsc": {"runtimeArgs": ["--oci-seccomp"]}}}),
        ("runsc flags", {"Runtimes": {"runsc": {}}}),
    ],
)
def test_what_could_be_better_is_a_warning_that_says_what_to_change(what, change):
    finding = findings(**change)[what]
    assert finding.status is Status.WARN
    assert finding.advice


PODMAN = {
    "BuildahVersion": "1.39.3",
    "Driver": "overlay",
    "SwapLimit": False,
    "CpuCfsQuota": False,
    "DefaultRuntime": "crun",
}


def test_podman_is_not_judged_by_what_it_says_of_version_1_nor_of_runtimes_that_are_not_there():
    found = findings(**PODMAN)
    assert {each.what for each in found.values() if each.status is not Status.OK} == {"runsc flags"}
    assert "not available" in found["runsc flags"].found
    assert findings(**PODMAN, CgroupVersion="1")["swap-limit"].status is Status.FAIL


def test_files_without_number_are_no_failure_where_the_engine_takes_no_limit():
    rows = [["overcrowding /tmp", True, "4200 files"], ["becoming root", False, ""]]
    (finding,) = judge_probe(Isolation.RUNC, rows, missing=("missing inode-limit",))
    assert finding.status is Status.OK
    assert "inodes" in finding.found


def test_figures_are_known_without_control_groups_too():
    finding = findings(reads_groups=False)["figures"]
    assert finding.status is Status.OK
    assert "inside each sandbox" in finding.found


def test_an_attempt_that_succeeds_fails_and_says_which():
    rows = [["becoming root", True, "0"], ["a socket of AF_INET", False, "refused"]]
    (finding,) = judge_probe(Isolation.RUNC, rows)
    assert finding.status is Status.FAIL
    assert "becoming root" in finding.found
    assert finding.advice


def test_under_runsc_a_known_difference_is_named_and_an_unknown_one_fails():
    crowded = [["overcrowding /tmp", True, "4200 files"], ["becoming root", False, ""]]
    (finding,) = judge_probe(Isolation.RUNSC, crowded)
    assert (finding.status, finding.advice) == (Status.OK, "")
    assert "inodes of /tmp" in finding.found
    (finding,) = judge_probe(Isolation.RUNC, crowded)
    assert finding.status is Status.FAIL
    (finding,) = judge_probe(Isolation.RUNSC, [["becoming root", True, ""]])
    assert finding.status is Status.FAIL


def test_a_runsc_that_ignores_the_filter_is_a_warning():
    rows = [["the system call bpf", True, ""], ["running without a filter", True, ""]]
    (finding,) = judge_probe(Isolation.RUNSC, rows)
    assert finding.status is Status.WARN
    assert "2 attempts" in finding.found
    assert "--oci-seccomp" in finding.advice


def test_every_difference_that_excuses_an_attempt_means_one_that_exists():
    names = [
        *(name for name, _ in probe.calls()),
        *(f"a socket of {name}" for name in probe.FAMILIES),
        *probe.OTHERS,
    ]
    for each in DIFFERENCES:
        for beginning in each.attempts:
            assert any(name.startswith(beginning) for name in names), beginning
    assert difference_at(Isolation.RUNC, "overcrowding /tmp") is None
