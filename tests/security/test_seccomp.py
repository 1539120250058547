"""The filter of system calls, in both directions: every forbidden call fails, all work passes."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import pytest

from runner import Supervisor
from runner.policy import Policy
from runner.policy.isolation import Isolation

pytestmark = [pytest.mark.engine, pytest.mark.security]

PROGRAMS = Path(__file__).parent / "programs"
WIDE = 6  # arguments of a system call

# Numbers on x86-64 and on aarch64; None where the architecture has no such call.
FORBIDDEN = {
    "accept": (43, 202),
    "accept4": (288, 242),
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bind": (49, 200),
    "bpf": (321, 280),
    "capset": (126, 91),
    "chroot": (161, 51),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "init_module": (175, 105),
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
    "io_setup": (206, 0),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "ioperm": (173, None),
    "iopl": (172, None),
    "ioprio_set": (251, 30),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "landlock_create_ruleset": (444, 444),
    "listen": (50, 201),
    "lookup_dcookie": (212, 18),
    "mbind": (237, 235),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "migrate_pages": (256, 238),
    "mknod": (133, None),
    "mknodat": (259, 33),
    "mlock": (149, 228),
    "mlock2": (325, 284),
    "mlockall": (151, 230),
    "modify_ldt": (154, None),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "move_pages": (279, 239),
    "mq_open": (240, 180),
    "msgget": (68, 186),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "pivot_root": (155, 41),
    "process_madvise": (440, 440),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "reboot": (169, 142),
    "recvmmsg": (299, 243),
    "recvmsg": (47, 212),
    "remap_file_pages": (216, 234),
    "request_key": (249, 218),
    "sched_setattr": (314, 274),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "seccomp": (317, 277),
    "semget": (64, 190),
    "sendmmsg": (307, 269),
    "sendmsg": (46, 211),
    "set_mempolicy": (238, 237),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "setpriority": (141, 140),
    "settimeofday": (164, 170),
    "setuid": (105, 146),
    "shmget": (29, 194),
    "splice": (275, 76),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "sync": (162, 81),
    "syncfs": (306, 267),
    "syslog": (103, 116),
    "tee": (276, 77),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
    "vhangup": (153, 58),
    "vmsplice": (278, 75),
}
"""Each answers EPERM before the kernel has looked at an argument."""

ABSENT = {
    "clone3": (435, 435),  # its flags are out of a filter's sight; the C library falls back
    "sendfile": (40, 71),  # into a pipe it is splice
    "fchmod of tomorrow": (600, 600),  # what is newer than the list
}
"""Each answers ENOSYS, so that libraries do without."""

FILE_ATTRIBUTES = {"listxattr": (194, 11), "getxattr": (191, 8), "setxattr": (188, 5)}
"""Each answers ENOTSUP, as a file system without attributes does."""

NAMESPACES = {
    "time": 0x80,
    "mount": 0x00020000,
    "cgroup": 0x02000000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "user": 0x10000000,
    "pid": 0x20000000,
    "network": 0x40000000,
}
CLONE = (56, 220)
SOCKET = (41, 198)
SOCKETPAIR = (53, 199)
PERSONALITY = (135, 92)
PRLIMIT = (302, 261)
PRCTL = (157, 167)
GETSOCKOPT = (55, 209)
SETSOCKOPT = (54, 208)
SENDTO = (44, 206)
RECVFROM = (45, 207)
SIGCHLD = 17
CLONE_PARENT = 0x8000

MACHINE = ("x86_64", "aarch64").index(
    {"arm64": "aarch64", "AMD64": "x86_64"}.get(platform.machine(), platform.machine())
)

WORKLOAD = {
    "simulate": [200] * 6,
    "calculate": True,
    "fork_pool": [200, 200],
    "spawn_pool": [0, 1, 4],
    "threads": [2470, True],
    "processes": ["a\n", "42\n"],
    "listing": [0, ""],
    "loop": ["hi\n", 16],
    "files": ["a2", "a3", "archive.tar.gz", "tree"],
    "alarms": 2,
    "waits": [0, 0, 0, 1, 1, 1],
}
WITH_BACKEND = {"simulate", "fork_pool"}


@pytest.fixture(scope="module")
def supervisor():
    """The filter is the host kernel's: what gVisor's own kernel offers is another test's matter."""
    with Supervisor(isolation=Isolation.RUNC, max_jobs=2) as running:
        yield running


@pytest.fixture(scope="module")
def call(supervisor):
    """Make system calls in a sandbox: {name: (number, arguments…)} → {name: error}."""

    def make(calls):
        return supervisor.run(PROGRAMS / "call.py", {"calls": calls}, backend="none").result(60)

    return make


def of_this_machine(table, *arguments):
    # Zeros would be harmless; ones are as well, and no valid pointers.
    padded = [*arguments, *[1] * (WIDE - len(arguments))]
    return {
        name: [numbers[MACHINE], *padded]
        for name, numbers in table.items()
        if numbers[MACHINE] is not None
    }


def test_every_forbidden_call_is_refused_before_the_kernel_looks_at_it(call):
    answers = call(of_this_machine(FORBIDDEN))
    assert not {name: answer for name, answer in answers.items() if answer != "EPERM"}


def test_what_libraries_can_do_without_is_absent_rather_than_forbidden(call):
    assert set(call(of_this_machine(ABSENT)).values()) == {"ENOSYS"}
    assert set(call(of_this_machine(FILE_ATTRIBUTES)).values()) == {"ENOTSUP"}


def test_no_family_of_sockets_but_unix(call):
    calls = {
        f"{name} {family}": [numbers[MACHINE], family, kind, 0, 0]
        for name, numbers in (("socket", SOCKET), ("pair", SOCKETPAIR))
        for family in range(64)
        for kind in (1, 3)
        if family != 1
    }
    assert set(call(calls).values()) == {"EPERM"}
    # The kernel takes the family as 32 bits; what stands above them must open no door.
    wide = call({"above 32 bits": [SOCKET[MACHINE], (1 << 32) + 2, 1, 0]})
    assert wide == {"above 32 bits": "EPERM"}
    assert call({"unix": [SOCKET[MACHINE], 1, 1, 0]}) == {"unix": "allowed"}


def test_no_new_namespace_and_no_other_personality(call):
    number = CLONE[MACHINE]
    flags = {name: flag for name, flag in NAMESPACES.items() if name != "time"}
    answers = call({name: [number, flag | SIGCHLD, 0, 0, 0, 0] for name, flag in flags.items()})
    assert set(answers.values()) == {"EPERM"}
    both = call({"all": [number, sum(flags.values()) | SIGCHLD, 0, 0, 0, 0]})
    assert both == {"all": "EPERM"}
    assert call({"plain": [number, SIGCHLD, 0, 0, 0, 0]}) == {"plain": "allowed"}
    personality = PERSONALITY[MACHINE]
    assert call({"ask": [personality, 0xFFFFFFFF]}) == {"ask": "allowed"}
    assert call({"no randomisation": [personality, 0x0040000]}) == {"no randomisation": "EPERM"}


def test_no_process_changes_the_limits_or_the_children_of_another(call):
    clone, limits = CLONE[MACHINE], PRLIMIT[MACHINE]
    answers = call(
        {
            "limits of PID 1": [limits, 1, 0, 0, 0],
            "limits of PID 1, above 32 bits": [limits, (1 << 32) + 1, 0, 0, 0],
            "a child of the parent": [clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0],
        }
    )
    assert set(answers.values()) == {"EPERM"}
    assert call({"its own limits": [limits, 0, 0, 0, 0]}) == {"its own limits": "allowed"}


NO_SOCKET = 999
"""A descriptor that is none: what the filter lets through is answered with EBADF."""


def test_of_a_sockets_options_only_those_that_move_bytes_are_there(call):
    def passed(numbers, level, options):
        number = numbers[MACHINE]
        answers = call({str(each): [number, NO_SOCKET, level, each, 0, 0] for each in options})
        assert set(answers.values()) <= {"EPERM", "EBADF"}
        return {int(option) for option, answer in answers.items() if answer == "EBADF"}

    assert passed(GETSOCKOPT, 1, range(100)) == {*range(26), 30, 38, 39}
    assert passed(SETSOCKOPT, 1, range(100)) == {*range(16), 20, 21}
    above = range(1 << 32, (1 << 32) + 100)  # the kernel takes the option as 32 bits
    for numbers in (GETSOCKOPT, SETSOCKOPT):
        assert not passed(numbers, 1, above)
        assert not passed(numbers, 0, range(50))
        assert not passed(numbers, (1 << 32) + 1, [44, 77])


def test_no_urgent_data_and_no_unknown_flag_of_a_socket(call):
    def passed(numbers, flags):
        number = numbers[MACHINE]
        answers = call({str(each): [number, NO_SOCKET, 0, 0, each, 0, 0] for each in flags})
        assert set(answers.values()) <= {"EPERM", "EBADF"}
        return {int(each) for each, answer in answers.items() if answer == "EBADF"}

    plain = {0, 0x2, 0x20, 0x40, 0x80, 0x100, 0x4000, 0x8000}
    for numbers in (SENDTO, RECVFROM):
        assert passed(numbers, {0, *(1 << bit for bit in range(32))}) == plain
        assert not passed(numbers, {0x1 | 0x40, (1 << 32) + 1})


def test_no_option_of_a_process_beyond_those_that_are_known(call):
    number = PRCTL[MACHINE]
    merge = 67
    answers = call(
        {str(each): [number, each, 0, 0, 0, 0] for each in (*range(merge, 100), (1 << 32) + merge)}
    )
    assert set(answers.values()) == {"EPERM"}
    assert call({"dumpable": [number, 3, 0, 0, 0, 0]}) == {"dumpable": "allowed"}
    assert call({"name of memory": [number, 0x53564D41, 0, 0, 0, 0]}) == {
        "name of memory": "EINVAL"
    }


@pytest.mark.slow
@pytest.mark.parametrize("part", WORKLOAD)
def test_honest_work_passes_the_filter(supervisor, part):
    backend = "aer_simulator" if part in WITH_BACKEND else "none"
    job = supervisor.run(PROGRAMS / "workload.py", {"part": part}, backend=backend)
    assert job.result(90) == WORKLOAD[part]


def test_the_tables_and_the_profile_know_the_same_calls():
    allowed = {
        name
        for rule in json.loads(Policy().seccomp)["syscalls"]
        if rule["action"] == "SCMP_ACT_ALLOW" and not rule.get("args")
        for name in rule["names"]
    }
    assert not allowed & set(FORBIDDEN)
    assert not allowed & set(ABSENT)
    assert not allowed & set(FILE_ATTRIBUTES)


def test_every_name_of_the_profile_is_one_that_a_kernel_has():
    names = {name for rule in json.loads(Policy().seccomp)["syscalls"] for name in rule["names"]}
    assert names <= {*KERNEL_NAMES}


KERNEL_NAMES = tuple((PROGRAMS.parent / "syscalls.txt").read_text().split())
"""What Linux calls its system calls, x86-64 and arm64 together."""
