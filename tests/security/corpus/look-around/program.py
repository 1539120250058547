import os

MASKED = (
    "/proc/interrupts",
    "/proc/kallsyms",
    "/proc/diskstats",
    "/proc/partitions",
    "/proc/cmdline",
    "/proc/version",
    "/proc/stat",
    "/proc/vmstat",
    "/proc/key-users",
    "/proc/cgroups",
    "/proc/softirqs",
    "/proc/schedstat",
    "/proc/locks",
    "/proc/keys",
    "/proc/timer_list",
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/swaps",
    "/proc/sys/fs",
    "/proc/sys/kernel/pty",
    "/proc/sys/kernel/random/boot_id",
    "/sys/class",
    "/sys/block",
    "/sys/kernel",
    "/sys/devices",
    "/sys/module",
    "/sys/firmware",
    "/sys/fs/ext4",
    "/dev/pts",
    "/dev/mqueue",
)


def is_empty(path):
    try:
        return not (os.listdir(path) if os.path.isdir(path) else open(path, "rb").read(1))
    except OSError:
        return True


def main(backend, user_messenger, masks):
    if masks:
        return [path for path in MASKED if not is_empty(path)]
    processes = [int(each) for each in os.listdir("/proc") if each.isdigit()]
    with open("/proc/self/cgroup") as file:
        groups = {line.rstrip().split(":", 2)[2] for line in file}
    return {
        "processes besides PID 1 and this": len(set(processes) - {1, os.getpid()}),
        "host name": os.uname().nodename,
        "system": os.uname().sysname,
        "control groups besides the top": sorted(groups - {"/"}),
        "programs": [each for each in os.listdir("/program") if not each.startswith("program.")],
    }
