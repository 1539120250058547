"""The isolations and their differences: complete, documented, and in the words of each runtime."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from runner import Outcome
from runner.doctor.differences import DIFFERENCES
from runner.errors import PolicyError
from runner.policy import Limits, Policy
from runner.policy.isolation import Isolation, host_tasks, process_ulimits, seccomp_profile
from runner.sandboxes.container import container_config

DOCUMENT = Path(__file__).parents[2] / "docs" / "isolation.md"


def test_the_documents_table_is_the_codes():
    rows = [line.strip("| ") for line in DOCUMENT.read_text().splitlines() if line.startswith("| ")]
    written = [[cell.strip() for cell in row.split(" | ")] for row in rows]
    for each in DIFFERENCES:
        cells = [each.option, each.runc, each.runsc, each.bounded_by or "-"]
        outcomes = [f"`{each.runc_outcome}`", f"`{each.runsc_outcome}`"]
        assert [*cells, *outcomes] in written, (
            f"write this row: | {' | '.join([*cells, *outcomes])} |"
        )


def test_every_difference_names_outcomes_that_exist():
    assert len({each.option for each in DIFFERENCES}) == len(DIFFERENCES)
    for each in DIFFERENCES:
        assert {each.runc_outcome, each.runsc_outcome} <= set(Outcome)
        assert each.runc
        assert each.runsc
        assert each.bounded_by or "not enforced" not in each.runsc


def test_runsc_gets_the_same_filter_in_its_own_words():
    policy = Policy()
    assert seccomp_profile(Isolation.RUNC, policy.seccomp) == policy.seccomp
    ours = json.loads(policy.seccomp)
    theirs = json.loads(seccomp_profile(Isolation.RUNSC, policy.seccomp))
    assert theirs["defaultAction"] == ours["defaultAction"]
    before, after = answers(ours), answers(theirs)
    alone = {"syscalls": [{"names": ["getxattr"], "action": "SCMP_ACT_KILL_PROCESS"}]}
    assert json.loads(seccomp_profile(Isolation.RUNSC, json.dumps(alone))) == alone
    assert after.pop("pselect") == before["pselect6"]
    changed = {name for name in before if before[name] != after[name]}
    enosys = {name for name, (_, number, _) in before.items() if number == errno.ENOSYS}
    enotsup = {name for name, (_, number, _) in before.items() if number == errno.ENOTSUP}
    reading = {name for name in enotsup if "get" in name or "list" in name}
    assert changed == enosys | reading
    assert {after[name] for name in enosys} == {("SCMP_ACT_TRACE", None, "null")}
    assert {after[name] for name in reading} == {("SCMP_ACT_ALLOW", None, "null")}


def answers(profile):
    """What the profile answers to each system call: action, error, conditions."""
    found = {}
    for rule in profile["syscalls"]:
        for name in rule["names"]:
            found.setdefault(name, []).append(rule)
    assert all(len(rules) == 1 or all("args" in rule for rule in rules) for rules in found.values())
    return {
        name: (
            "/".join({rule["action"] for rule in rules}),
            rules[0].get("errnoRet"),
            " or ".join(json.dumps(rule.get("args")) for rule in rules),
        )
        for name, rules in found.items()
    }


@pytest.mark.parametrize("isolation", [*Isolation])
def test_processes_are_bounded_by_the_group_or_by_the_sentry(isolation):
    limits = Limits(processes=40)
    host = container_config(
        Policy(isolation=isolation),
        limits,
        image="sha256:0",
        uid=10_000,
        labels={},
        channel_directory=None,
        cgroup_parent=None,
    )["HostConfig"]
    ulimits = {each["Name"]: each["Hard"] for each in host["Ulimits"]}
    assert host["PidsLimit"] == host_tasks(isolation, 40) >= 40
    assert ulimits.get("nproc", host["PidsLimit"]) == 40
    assert set(process_ulimits(isolation, 40)) <= set(ulimits)


def test_an_isolation_that_the_engine_does_not_know_is_refused_before_a_program_runs():
    info = {"Runtimes": {"runc": {}}, "SecurityOptions": ["name=seccomp"]}
    with pytest.raises(PolicyError, match=r"no isolation runsc, only runc.*docs/isolation\.md"):
        Policy(isolation=Isolation.RUNSC).fitted_to(info)
