"""The isolations and their differences: complete, documented, and in the words of each runtime."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runner import Outcome
from runner.errors import PolicyError
from runner.isolation import DIFFERENCES, Isolation, host_tasks, process_ulimits, seccomp_profile
from runner.policy import Limits, Policy
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
        assert each.bounded_by or "nobody" not in each.runsc


def test_runsc_gets_the_same_filter_with_its_own_word_for_enosys():
    policy = Policy()
    assert seccomp_profile(Isolation.RUNC, policy.seccomp) == policy.seccomp
    ours = json.loads(policy.seccomp)
    theirs = json.loads(seccomp_profile(Isolation.RUNSC, policy.seccomp))
    assert theirs["defaultAction"] == ours["defaultAction"]
    changed = [
        (before, after)
        for before, after in zip(ours["syscalls"], theirs["syscalls"], strict=True)
        if before != after
    ]
    assert changed
    for before, after in changed:
        assert before["names"] == after["names"]
        assert (before["action"], before["errnoRet"]) == ("SCMP_ACT_ERRNO", 38)
        assert after["action"] == "SCMP_ACT_TRACE"


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
