"""What a sandbox shows of its confinement, compared with what was asked for."""

from __future__ import annotations

import dataclasses

import pytest

from runner.policy import Limits, Policy
from runner.policy.isolation import Isolation
from runner.policy.proof import unproved

LIMITS = Limits(memory_bytes=300 << 20, processes=64, cpus=1.5)
POLICY = Policy(masked_paths=("/proc/keys", "/sys/class"), readonly_paths=("/proc/sys",))
KERNEL = "6.12.9-amd64"

SEEN = {
    "kernel": KERNEL,
    "NoNewPrivs": "1",
    "Seccomp": "2",
    **dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), "0000000000000000"),
    "memory": str(300 << 20),
    "swap": "0",
    "processes": "64",
    "cpu": "150000 100000",
    **{f"ulimit-{name}": str(value) for name, value in POLICY.ulimits(LIMITS).items()},
    "/proc/keys": "tmpfs rw",
    "/sys/class": "tmpfs ro",
    "/proc/sys": "proc ro",
}
SEEN_V1 = {
    **{name: SEEN[name] for name in SEEN if name not in {"swap", "cpu"}},
    "memory+swap": str(300 << 20),
    "cpu-quota": "150000",
    "cpu-period": "100000",
}


def judged(seen, *, policy=POLICY, kernel=KERNEL):
    text = "".join(f"{name} {value}\n" for name, value in seen.items())
    return unproved(policy, LIMITS, kernel=kernel, seen=text)


def without(name, seen=SEEN):
    return {each: seen[each] for each in seen if each != name}


@pytest.mark.parametrize("seen", [SEEN, SEEN_V1])
def test_a_sandbox_that_is_confined_as_it_was_asked_for_lacks_nothing(seen):
    assert judged(seen) == []


@pytest.mark.parametrize("seen", [SEEN, SEEN_V1])
@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("kernel", "4.4.0", "isolation runc"),
        ("NoNewPrivs", "0", "no-new-privileges"),
        ("Seccomp", "0", "seccomp"),
        ("CapBnd", "00000000a80425fb", "CapBnd is 00000000a80425fb"),
        ("memory", "max", "memory-limit: inf is allowed"),
        ("memory", str(301 << 20), "memory-limit"),
        ("processes", "max", "process-limit"),
        ("ulimit-core", "-1", "ulimit core: inf is allowed instead of 0"),
        ("ulimit-nofile", "4096", "ulimit nofile: 4096 is allowed"),
        ("/proc/keys", "-", "masked paths: nothing covers /proc/keys"),
        ("/sys/class", "sysfs ro", "masked paths: nothing covers /sys/class"),
        ("/proc/sys", "proc rw", "read-only paths: /proc/sys"),
        ("/proc/sys", "-", "read-only paths: /proc/sys"),
    ],
)
def test_what_is_not_as_it_was_asked_for_is_named(seen, name, value, said):
    (lacking,) = judged({**seen, name: value})
    assert said in lacking


@pytest.mark.parametrize(
    ("seen", "name", "value", "said"),
    [
        (SEEN, "swap", "max", "swap-limit: inf"),
        (SEEN, "cpu", "max 100000", "cpu-limit: inf"),
        (SEEN, "cpu", "200000 100000", "cpu-limit: 2 is allowed"),
        (SEEN_V1, "memory+swap", str(400 << 20), "swap-limit: 1.04858e+08 is allowed"),
        (SEEN_V1, "cpu-quota", "-1", "cpu-limit: inf"),
    ],
)
def test_both_versions_of_control_groups_are_understood(seen, name, value, said):
    (lacking,) = judged({**seen, name: value})
    assert said in lacking


@pytest.mark.parametrize("name", [each for each in SEEN if not each.startswith("/")])
def test_what_is_not_shown_is_not_proved(name):
    assert len(judged(without(name))) == 1


@pytest.mark.parametrize("seen", ["", "\n", "kernel", "\x00 \ud800", "memory x\ncpu a b"])
def test_nonsense_proves_nothing(seen):
    assert len(unproved(POLICY, LIMITS, kernel=KERNEL, seen=seen)) == 18


def test_a_path_that_this_kernel_does_not_have_needs_no_cover():
    assert judged(without("/proc/keys")) == []


def test_what_may_be_missing_is_not_looked_at():
    names = ("memory-limit", "swap-limit", "process-limit", "cpu-limit", "seccomp")
    policy = dataclasses.replace(POLICY, allow_missing=frozenset(names))
    shown = {each: SEEN[each] for each in SEEN if each[0] in "kCNu/"}
    assert judged(shown, policy=policy) == []


def test_gvisor_is_told_by_its_kernel():
    policy = dataclasses.replace(POLICY, isolation=Isolation.RUNSC)
    shown = {each: SEEN[each] for each in SEEN if each[0] in "CNu"} | {"ulimit-nproc": "64"}
    assert judged({**shown, "kernel": "4.4.0"}, policy=policy) == []
    (lacking,) = judged({**shown, "kernel": KERNEL}, policy=policy)
    assert lacking == f"isolation runsc: the engine's kernel is {KERNEL}, the sandbox's {KERNEL}"
    assert judged({**shown, "kernel": "4.4.0"}, policy=policy, kernel="") != []


@pytest.mark.parametrize(
    ("inside", "outside"),
    [("6.1-rc3", "6.1.0-rc3"), ("5.4", "5.4.0"), ("6.18.44-fc-v657", "6.18.44-fc-v657")],
)
def test_dockers_form_of_a_release_is_the_same_kernel(inside, outside):
    assert judged({**SEEN, "kernel": inside}, kernel=outside) == []
