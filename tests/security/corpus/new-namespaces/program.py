import ctypes
import errno
import os
import signal


def attempt(action):
    try:
        action()
    except OSError as error:
        print(action.__name__, errno.errorcode.get(error.errno, error))
        return "blocked"
    return "SUCCEEDED"


LIBC = ctypes.CDLL(None, use_errno=True)
NAMESPACES = {
    "mount": 0x00020000,
    "cgroup": 0x02000000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "user": 0x10000000,
    "pid": 0x20000000,
    "network": 0x40000000,
    "time": 0x80,
}


def check(answer):
    if answer < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return answer


def main(backend, user_messenger):
    answers = {}
    for name, flag in NAMESPACES.items():

        def unshare():
            child = os.fork()
            if child == 0:
                os._exit(0 if LIBC.unshare(flag) == 0 else ctypes.get_errno())
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if code:
                raise OSError(code, "refused")

        def clone():
            number = {"x86_64": 56, "aarch64": 220}[os.uname().machine]
            if check(LIBC.syscall(number, flag | signal.SIGCHLD, 0, 0, 0, 0)) == 0:
                os._exit(0)

        answers[f"unshare {name}"] = attempt(unshare)
        if name != "time":  # its flag is a signal number to clone
            answers[f"clone {name}"] = attempt(clone)

    def enter():
        check(LIBC.setns(os.open("/proc/self/ns/net", os.O_RDONLY), 0))

    def mount():
        check(LIBC.mount(b"none", b"/tmp", b"tmpfs", 0, None))

    def remount():
        check(LIBC.mount(None, b"/", None, 0x20, None))

    def unmount():
        check(LIBC.umount2(b"/proc/kcore", 2))

    def pivot():
        check(LIBC.pivot_root(b"/tmp", b"/tmp"))

    for action in (enter, mount, remount, unmount, pivot):
        answers[action.__name__] = attempt(action)
    return {name: answer for name, answer in answers.items() if answer != "blocked"}
