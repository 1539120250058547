import os

MASKED = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/proc/buddyinfo",
    "/proc/cgroups",
    "/proc/cmdline",
    "/proc/config.gz",
    "/proc/diskstats",
    "/proc/interrupts",
    "/proc/kallsyms",
    "/proc/key-users",
    "/proc/locks",
    "/proc/partitions",
    "/proc/pressure",
    "/proc/schedstat",
    "/proc/softirqs",
    "/proc/stat",
    "/proc/version",
    "/proc/vmstat",
    "/proc/zoneinfo",
    "/proc/bus",
    "/proc/driver",
    "/proc/fs",
    "/proc/irq",
    "/proc/swaps",
    "/proc/sys/fs",
    "/proc/sys/kernel/pty",
    "/proc/sys/kernel/random/boot_id",
    "/sys/block",
    "/sys/bus",
    "/sys/class",
    "/sys/dev",
    "/sys/devices",
    "/sys/fs/bpf",
    "/sys/fs/btrfs",
    "/sys/fs/ext4",
    "/sys/fs/f2fs",
    "/sys/fs/fuse",
    "/sys/fs/xfs",
    "/sys/hypervisor",
    "/sys/kernel",
    "/sys/module",
    "/sys/power",
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
