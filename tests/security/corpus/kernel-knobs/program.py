import errno
import os


def attempt(action):
    try:
        action()
    except OSError as error:
        print(action.__name__, errno.errorcode.get(error.errno, error))
        return "blocked"
    return "SUCCEEDED"


WRITABLE_FOR_ROOT = (
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/vm/drop_caches",
    "/proc/sys/net/ipv4/ip_forward",
    "/proc/sysrq-trigger",
    "/sys/kernel/uevent_helper",
    "/sys/fs/cgroup/release_agent",
    "/sys/fs/cgroup/cgroup.procs",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    "/sys/fs/cgroup/devices/devices.allow",
    "/sys/fs/cgroup/memory/release_agent",
    "/sys/power/state",
    "/proc/1/oom_score_adj",
)
READ_ONLY = (
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
)
READABLE_FOR_ROOT = (
    "/dev/mem",
    "/dev/kmsg",
    "/dev/vda",
    "/dev/sda",
    "/dev/kvm",
    "/dev/net/tun",
    "/dev/fuse",
    "/dev/vsock",
    "/proc/kcore",
    "/proc/kmsg",
    "/var/run/docker.sock",
)


def main(backend, user_messenger):
    answers = {}
    for path in WRITABLE_FOR_ROOT:

        def write(path=path):
            os.write(os.open(path, os.O_WRONLY), b"1")

        answers[path] = attempt(write)
    for path in READ_ONLY:  # whoever may write there: nobody can

        def find_it_writable(path=path):
            if os.statvfs(path).f_flag & os.ST_RDONLY:
                raise OSError(errno.EROFS, "read-only")

        answers[f"read-only {path}"] = attempt(find_it_writable)
    for path in READABLE_FOR_ROOT:

        def read(path=path):
            if not os.read(os.open(path, os.O_RDONLY), 1):
                raise OSError(errno.ENODATA, "masked: empty")

        answers[path] = attempt(read)
    return {path: answer for path, answer in answers.items() if answer != "blocked"}
