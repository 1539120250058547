import ctypes
import errno
import mmap
import os
import resource


def attempt(action):
    try:
        action()
    except OSError as error:
        print(action.__name__, errno.errorcode.get(error.errno, error))
        return "blocked"
    return "SUCCEEDED"


LIBC = ctypes.CDLL(None, use_errno=True)


def check(answer):
    if answer != 0:
        raise OSError(ctypes.get_errno(), "refused")


def nice():
    os.setpriority(os.PRIO_PROCESS, 0, -5)


def real_time():
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))


def lock_memory():
    check(LIBC.mlockall(3))


def lock_a_page():
    page = mmap.mmap(-1, 4096)
    check(LIBC.mlock(ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(page))), 4096))


def raise_a_limit():
    for name in (resource.RLIMIT_NOFILE, resource.RLIMIT_CORE, resource.RLIMIT_MSGQUEUE):
        try:
            resource.setrlimit(name, (1 << 20, 1 << 20))
        except ValueError:
            continue
        return
    raise OSError(1, "refused")


def be_spared():
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("-500")


def is_anybody_spared():
    """Return whether there is one whom the kernel would not take first when memory is short."""
    processes = [each for each in os.listdir("/proc") if each.isdigit()]
    return any(open(f"/proc/{each}/oom_score_adj").read() != "1000\n" for each in processes)


def main(backend, user_messenger):
    actions = (nice, real_time, lock_memory, lock_a_page, raise_a_limit, be_spared)
    answers = {action.__name__: attempt(action) for action in actions}
    return {**answers, "anybody is spared": is_anybody_spared()}
