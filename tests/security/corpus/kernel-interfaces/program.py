import ctypes
import errno
import os


def attempt(action):
    try:
        action()
    except OSError as error:
        print(action.__name__, errno.errorcode.get(error.errno, error))
        return "blocked"
    return "SUCCEEDED"


LIBC = ctypes.CDLL(None, use_errno=True)
# By number: x86-64 and aarch64.
CALLS = {
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "splice": (275, 76),
    "tee": (276, 77),
    "vmsplice": (278, 75),
    "sendfile": (40, 71),
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "kexec_load": (246, 104),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "sync": (162, 81),
    "inotify_init1": (294, 26),
    "fanotify_init": (300, 262),
    "io_setup": (206, 0),
    "seccomp": (317, 277),
    "landlock_create_ruleset": (444, 444),
    "mount_setattr": (442, 442),
    "fsopen": (430, 430),
    "open_tree": (428, 428),
    "quotactl": (179, 60),
    "syslog": (103, 116),
    "acct": (163, 89),
    "clock_settime": (227, 112),
    "settimeofday": (164, 170),
    "sethostname": (170, 161),
    "personality": (135, 92),
    "modify_ldt": (154, None),
    "iopl": (172, None),
    "remap_file_pages": (216, 234),
    "move_pages": (279, 239),
    "mbind": (237, 235),
}


def main(backend, user_messenger):
    machine = ("x86_64", "aarch64").index(os.uname().machine)
    answers = {}
    for name, numbers in CALLS.items():
        if numbers[machine] is None:
            continue

        def call():
            # With no arguments that make sense: EFAULT and EINVAL come from behind the filter.
            if LIBC.syscall(numbers[machine], 1, 0, 0, 0, 0, 0) < 0:
                code = ctypes.get_errno()
                if code in (errno.EPERM, errno.ENOSYS):
                    raise OSError(code, name)

        answers[name] = attempt(call)
    return sorted(name for name, answer in answers.items() if answer != "blocked")
