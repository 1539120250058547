"""A program that `qrunner doctor` runs in a sandbox: it tries what must be impossible.

The host never imports it, only sends it, so it uses only the standard library.  `main` returns one
row per attempt, `[what, worked, seen]`.  An attempt is a function that returns what it got, and
raises OSError if it was refused.  No attempt does harm if it succeeds.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import platform
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

Attempt = Callable[[], object]

LIBC = ctypes.CDLL(None, use_errno=True)
REFUSALS = {errno.EPERM, errno.EACCES, errno.ENOSYS}

# Name, number on x86-64, number on aarch64; empty where there is none. They are called with invalid
# arguments, so that a call that is let through only fails with an error.
CALLS = """
    acct:163:89 add_key:248:217 adjtimex:159:171 bpf:321:280 chroot:161:51 clock_settime:227:112
    delete_module:176:106 fanotify_init:300:262 finit_module:313:273 init_module:175:105
    inotify_init1:294:26 io_setup:206:0 io_uring_setup:425:425 ioperm:173: iopl:172: kcmp:312:272
    kexec_load:246:104 keyctl:250:219 landlock_create_ruleset:444:444 memfd_create:319:279
    memfd_secret:447:447 mlockall:151:230 modify_ldt:154: mount:165:40 move_mount:429:429
    mq_open:240:180 msgget:68:186 name_to_handle_at:303:264 nfsservctl:180:42
    open_by_handle_at:304:265 open_tree:428:428 perf_event_open:298:241 pidfd_getfd:438:438
    pidfd_open:434:434 pivot_root:155:41 process_vm_readv:310:270 process_vm_writev:311:271
    ptrace:101:117 quotactl:179:60 reboot:169:142 request_key:249:218 seccomp:317:277 semget:64:190
    setdomainname:171:162 sethostname:170:161 setns:308:268 settimeofday:164:170 shmget:29:194
    splice:275:76 swapon:167:224 syslog:103:116 tee:276:77 umount2:166:39 unshare:272:97
    userfaultfd:323:282 vmsplice:278:75
"""

FAMILIES = {
    "AF_INET": 2,
    "AF_INET6": 10,
    "AF_NETLINK": 16,
    "AF_PACKET": 17,
    "AF_ALG": 38,
    "AF_VSOCK": 40,
    "AF_XDP": 44,
}

FORBIDDEN_TO_WRITE = (
    "/etc/passwd",
    "/opt/qrunner/probe",
    "/probe",
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/randomize_va_space",
    "/proc/sysrq-trigger",
    "/program/program.py",
    "/run/qrunner/probe",
    "/sys/fs/cgroup/cgroup.procs",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    "/sys/fs/cgroup/memory/release_agent",
    "/sys/kernel/uevent_helper",
    "/usr/probe",
    "/var/probe",
)

FORBIDDEN_TO_READ = (
    "/dev/kmsg",
    "/dev/kvm",
    "/dev/mem",
    "/etc/shadow",
    "/proc/1/mem",
    "/proc/bus/pci/devices",
    "/proc/irq/default_smp_affinity",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/keys",
    "/proc/swaps",
    "/proc/sys/fs/file-nr",
    "/proc/sys/kernel/pty/nr",
    "/proc/sys/kernel/random/boot_id",
    "/proc/timer_list",
)

ENGINE_SOCKETS = (
    "/run/containerd/containerd.sock",
    "/run/docker.sock",
    "/run/podman/podman.sock",
    "/var/run/docker.sock",
)


def main(backend: object, user_messenger: object) -> list[list[Any]]:
    """Try everything; the job's time limit bounds an attempt that blocks or kills."""
    attempts: list[tuple[str, Attempt]] = [
        *calls(),
        *[(f"a socket of {name}", _socket(number)) for name, number in FAMILIES.items()],
        *[(f"writing {path}", _write(path)) for path in FORBIDDEN_TO_WRITE],
        *[(f"reading {path}", _read(path)) for path in FORBIDDEN_TO_READ],
        *[(f"connecting {path}", _connect(path)) for path in ENGINE_SOCKETS],
        *OTHERS.items(),
    ]
    return [[what, *_try(attempt)] for what, attempt in attempts]


def _try(attempt: Attempt) -> tuple[bool, str]:
    try:
        seen = attempt()
    except (OSError, ValueError) as error:  # ValueError: a limit above the hard one
        return False, str(error)
    return bool(seen), "" if seen is True else str(seen)[:200]


def calls() -> list[tuple[str, Attempt]]:
    """Return an attempt for each system call that this machine has."""
    column = {"x86_64": 1, "aarch64": 2}.get(platform.machine())
    if column is None:
        return []
    rows = [row.split(":") for row in CALLS.split()]
    return [(f"the system call {row[0]}", _call(int(row[column]))) for row in rows if row[column]]


def _call(number: int) -> Attempt:
    def attempt() -> bool:
        ctypes.set_errno(0)
        nonsense = [ctypes.c_long(-1)] * 6
        LIBC.syscall(ctypes.c_long(number), *nonsense)
        return ctypes.get_errno() not in REFUSALS

    return attempt


def _socket(family: int) -> Attempt:
    def attempt() -> bool:
        kind = socket.SOCK_RAW if family in {16, 17, 44} else socket.SOCK_STREAM
        kind = socket.SOCK_SEQPACKET if family == FAMILIES["AF_ALG"] else kind
        socket.socket(family, kind).close()
        return True

    return attempt


def _write(path: str) -> Attempt:
    def attempt() -> bool:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
        return True

    return attempt


def _read(path: str) -> Attempt:
    def attempt() -> bool:
        with open(path, "rb") as file:
            head = file.read(64)
        return bool(head.strip(b"\0"))  # a masked file is empty

    return attempt


def _connect(path: str) -> Attempt:
    def attempt() -> bool:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(path)
        return True

    return attempt


# --- other attempts: anything that they return must not be possible -------------------------------


def root() -> object:
    """Become root."""
    if os.getuid() and os.getgid():
        os.setuid(0)
    return True


def capabilities() -> object:
    """Hold a capability, or be able to get one."""
    with open("/proc/self/status", encoding="ascii") as file:
        fields = dict(line.strip().split(":", 1) for line in file)
    held = {name: value for name, value in fields.items() if name.startswith("Cap")}
    return {name: value.strip() for name, value in held.items() if int(value, 16)}


def new_privileges() -> object:
    """Gain privileges by executing something."""
    return LIBC.prctl(39, 0, 0, 0, 0) != 1


def no_filter() -> object:
    """Run without a filter of system calls."""
    return int(LIBC.prctl(21, 0, 0, 0, 0)) != 2  # SECCOMP_MODE_FILTER


def execute_from_tmp() -> object:
    """Execute a file of our own."""
    path = "/tmp/probe-executable"
    with open(path, "wb") as file, open(sys.executable, "rb") as source:
        file.write(source.read(8 << 20))
    os.chmod(path, 0o700)
    try:
        return subprocess.run([path, "-c", ""], check=False, timeout=10).returncode == 0
    finally:
        os.unlink(path)


def overfill_tmp() -> object:
    """Put more than 64 MiB into /tmp, in files that are each within the size limit."""
    paths = [f"/tmp/probe-{number}" for number in range(3)]
    try:
        for path in paths:
            with open(path, "wb") as file:
                file.writelines(bytes(1 << 20) for _ in range(30))
        return "90 MiB"
    finally:
        _remove(paths)


def overcrowd_tmp() -> object:
    """Make more files in /tmp than it has inodes."""
    paths = [f"/tmp/probe-{number}" for number in range(4200)]
    try:
        for path in paths:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
        return f"{len(paths)} files"
    finally:
        _remove(paths)


def overcrowd_shared_memory() -> object:
    """Make more files in /dev/shm than it has inodes."""
    paths = [f"/dev/shm/probe-{number}" for number in range(1100)]
    try:
        for path in paths:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
        return f"{len(paths)} files"
    finally:
        _remove(paths)


def _remove(paths: list[str]) -> None:
    for path in paths:
        if os.path.exists(path):
            os.unlink(path)


def make_device() -> object:
    """Make a device node."""
    os.mknod("/tmp/probe-device", 0o20600, os.makedev(1, 1))
    return True


def devices() -> object:
    """Find a block device, or one that reaches into the host's memory."""
    found = [each.name for each in os.scandir("/dev") if each.name.startswith(("sd", "vd", "nvme"))]
    return found or (os.path.exists("/dev/kvm") and "kvm")


def interfaces() -> object:
    """Find a network interface besides the loopback."""
    with open("/proc/net/dev", encoding="ascii") as file:
        names = {line.split(":")[0].strip() for line in file if ":" in line}
    return sorted(names - {"lo"})


def neighbours() -> object:
    """See a process that is neither PID 1 nor this one."""
    return sorted({int(each) for each in os.listdir("/proc") if each.isdigit()} - {1, os.getpid()})


def descriptors() -> object:
    """Have inherited a descriptor of a file or directory of the host."""
    links = {}
    for each in os.listdir("/proc/self/fd"):
        try:
            links[each] = os.readlink(f"/proc/self/fd/{each}")
        except OSError:
            continue  # the descriptor that listed them
    harmless = ("/dev/null", "/dev/urandom", "/proc/", "pipe:", "socket:", "anon_inode:", "host:")
    return {fd: link for fd, link in links.items() if not link.startswith(harmless)}


def working_directory() -> object:
    """Have a working directory outside of the sandbox's own tree (CVE-2024-21626)."""
    path = os.getcwd()
    return path if path.startswith("(") or not os.path.isdir(path) else False


def secrets() -> object:
    """Find a setting of the host in the environment."""
    words = ("proxy", "token", "secret", "docker", "aws_", "password")
    return sorted(name for name in os.environ if any(word in name.lower() for word in words))


def raise_limits() -> object:
    """Raise a limit above its hard value."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard + 1, hard + 1))
    return True


def dump_core() -> object:
    """Leave a core dump on the host."""
    resource.setrlimit(resource.RLIMIT_CORE, (1, 1))
    return True


def priority() -> object:
    """Take precedence over other processes."""
    os.nice(-1)
    return True


def evade_out_of_memory() -> object:
    """Be spared by the kernel when memory runs out."""
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("-1000")
    return True


def old_calls() -> object:
    """Make a system call through the 32-bit entry, which the filter would not see."""
    if platform.machine() != "x86_64":
        return False
    child = os.fork()
    if child == 0:
        code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        code.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")  # getpid, which is number 20 there
        address = ctypes.addressof(ctypes.c_char.from_buffer(code))
        os._exit(ctypes.CFUNCTYPE(ctypes.c_int)(address)() == os.getpid())
    _, status = os.waitpid(child, 0)
    return os.WIFEXITED(status) and os.WEXITSTATUS(status) == 1


def new_namespace() -> object:
    """Start a process in a user namespace of its own, where it would be root."""
    flags = 0x10000000 | signal.SIGCHLD  # CLONE_NEWUSER
    number = {"x86_64": 56, "aarch64": 220}.get(platform.machine())
    if number is None:
        return False
    child = LIBC.syscall(number, flags, 0, 0, 0, 0)
    if child == 0:
        os._exit(0)
    if child > 0:
        os.waitpid(child, 0)
    return child > 0


def listen() -> object:
    """Listen on a socket."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0probe")
        listener.listen()
    return True


def process_of_a_socket() -> object:
    """Get a handle of the process at the other end of a socket."""
    with socket.socketpair()[0] as ours:
        return ours.getsockopt(socket.SOL_SOCKET, 77) >= 0  # SO_PEERPIDFD


def urgent_data() -> object:
    """Send urgent data on a socket."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        return ours.send(b"x", socket.MSG_OOB) == 1


def lock_filters() -> object:
    """Lock the kernel's filters of a socket."""
    with socket.socketpair()[0] as ours:
        ours.setsockopt(socket.SOL_SOCKET, 44, 1)  # SO_LOCK_FILTER
    return True


def name_a_socket() -> object:
    """Get a socket with a name, by which others can connect to it, without bind(2)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    return True


def merge_memory() -> object:
    """Make the kernel merge its pages with equal pages of other processes."""
    return int(LIBC.prctl(67, 1, 0, 0, 0)) == 0  # PR_SET_MEMORY_MERGE


OTHERS: dict[str, Attempt] = {
    "becoming root": root,
    "holding a capability": capabilities,
    "gaining privileges": new_privileges,
    "running without a filter": no_filter,
    "executing a file in /tmp": execute_from_tmp,
    "overfilling /tmp": overfill_tmp,
    "overcrowding /tmp": overcrowd_tmp,
    "overcrowding /dev/shm": overcrowd_shared_memory,
    "making a device": make_device,
    "finding a device": devices,
    "finding a network interface": interfaces,
    "seeing other processes": neighbours,
    "inheriting a descriptor": descriptors,
    "standing outside": working_directory,
    "finding settings of the host": secrets,
    "raising a limit": raise_limits,
    "dumping core": dump_core,
    "raising its priority": priority,
    "evading the OOM killer": evade_out_of_memory,
    "calling by int 0x80": old_calls,
    "making a namespace": new_namespace,
    "listening on a socket": listen,
    "a socket that hands out a process": process_of_a_socket,
    "a socket with urgent data": urgent_data,
    "a socket with a filter": lock_filters,
    "a socket with a name": name_a_socket,
    "merging memory": merge_memory,
}
