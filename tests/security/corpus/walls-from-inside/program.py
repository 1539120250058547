import ctypes
import errno
import os
import struct


def attempt(action, *arguments):
    try:
        action(*arguments)
    except OSError as error:
        print(action.__name__, *arguments, errno.errorcode.get(error.errno, error))
        return "blocked"
    return "SUCCEEDED"


LIBC = ctypes.CDLL(None, use_errno=True)
BIND, REMOUNT, DETACH, AT_FDCWD = 0x1000, 0x20, 2, -100
COVERED = (
    "/proc/keys",
    "/proc/kcore",
    "/proc/sys/fs",
    "/proc/irq",
    "/sys/firmware",
    "/run/qrunner",
)
SEALED = ("/", "/dev", "/proc/sys", "/sys", "/program")


def check(answer):
    if answer < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return answer


def call(number, *arguments):
    return check(LIBC.syscall(number, *(ctypes.c_long(each) for each in arguments)))


def at(path):
    return ctypes.cast(ctypes.create_string_buffer(path.encode()), ctypes.c_void_p).value


def uncover(path):
    check(LIBC.umount2(path.encode(), DETACH))


def make_writable(path):
    check(LIBC.mount(None, path.encode(), None, REMOUNT | BIND, None))


def bind_elsewhere(path):
    check(LIBC.mount(path.encode(), b"/tmp", None, BIND, None))


def mount_another(kind):
    check(LIBC.mount(b"none", b"/tmp", kind.encode(), 0, None))


# The newer calls have the same numbers on all machines.
def open_tree():
    call(428, AT_FDCWD, at("/"), 1)


def move_mount():
    call(429, AT_FDCWD, at("/dev/shm"), AT_FDCWD, at("/tmp"), 0)


def fsopen():
    call(430, at("tmpfs"), 0)


def fspick():
    call(433, AT_FDCWD, at("/tmp"), 0)


def mount_setattr():
    change = (ctypes.c_uint64 * 4)(0, 1, 0, 0)  # take "read-only" away
    call(442, AT_FDCWD, at("/"), 0, ctypes.addressof(change), 32)


def change_root():
    check(LIBC.chroot(b"/tmp"))


def swap_roots():
    check(LIBC.pivot_root(b"/tmp", b"/tmp"))


def enter(process, kind):
    check(LIBC.setns(os.open(f"/proc/{process}/ns/{kind}", os.O_RDONLY), 0))


def enter_by_process(process):
    check(LIBC.setns(os.pidfd_open(process), 0x20000000))


def map_ids(name, content):
    file = os.open(f"/proc/self/{name}", os.O_WRONLY)
    try:
        os.write(file, content.encode())
    finally:
        os.close(file)


def take_capabilities():
    header = struct.pack("Ii", 0x20080522, 0)
    check(LIBC.capset(header, struct.pack("6I", *[0xFFFFFFFF] * 6)))


def keep_none():
    check(LIBC.capset(struct.pack("Ii", 0x20080522, 0), bytes(24)))


def main(backend, user_messenger):
    tried = [
        *((uncover, each) for each in COVERED),
        *((make_writable, each) for each in SEALED),
        *((bind_elsewhere, each) for each in SEALED),
        *(
            (mount_another, each)
            for each in ("tmpfs", "proc", "sysfs", "devpts", "mqueue", "cgroup2")
        ),
        *((each,) for each in (open_tree, move_mount, fsopen, fspick, mount_setattr)),
        (change_root,),
        (swap_roots,),
        *(
            (enter, process, each)
            for process in (1, "self")
            for each in os.listdir("/proc/self/ns")
        ),
        *((enter_by_process, each) for each in (1, os.getpid())),
        (map_ids, "setgroups", "allow"),
        (map_ids, "uid_map", f"0 {os.getuid()} 1"),
        (map_ids, "gid_map", f"0 {os.getgid()} 1"),
        (take_capabilities,),
        (keep_none,),
    ]
    answers = {" ".join([each[0].__name__, *map(str, each[1:])]): attempt(*each) for each in tried}
    return {name: answer for name, answer in answers.items() if answer != "blocked"}
