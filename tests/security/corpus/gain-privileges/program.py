import ctypes
import errno
import os
import stat


def attempt(action):
    try:
        action()
    except OSError as error:
        print(action.__name__, errno.errorcode.get(error.errno, error))
        return "blocked"
    return "SUCCEEDED"


def become_root():
    os.setuid(0)


def become_another():
    os.setresuid(1, 1, 1)


def join_a_group():
    os.setgroups([0])


def raise_capabilities():
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    everything = (ctypes.c_uint32 * 6)(*[0xFFFFFFFF] * 6)
    if libc.capset(header, everything) != 0:
        raise OSError(ctypes.get_errno(), "refused")


def change_the_root():
    os.chroot("/tmp")


def make_a_device():
    os.mknod("/tmp/device", stat.S_IFBLK | 0o666, os.makedev(254, 0))


def give_a_file_away():
    with open("/tmp/mine", "w"):
        os.chown("/tmp/mine", 0, 0)


def setuid_files():
    found = []
    for directory, _, names in os.walk("/"):
        if directory.startswith(("/proc", "/sys")):
            continue
        for name in names:
            path = os.path.join(directory, name)
            try:
                if os.lstat(path).st_mode & (stat.S_ISUID | stat.S_ISGID):
                    found.append(path)
            except OSError:
                continue
    return found


def main(backend, user_messenger):
    status = dict(line.split(":\t", 1) for line in open("/proc/self/status") if ":\t" in line)
    actions = (
        become_root,
        become_another,
        join_a_group,
        raise_capabilities,
        change_the_root,
        make_a_device,
        give_a_file_away,
    )
    return {
        **{action.__name__: attempt(action) for action in actions},
        "setuid files": setuid_files(),
        "capabilities": sorted({status[name].strip() for name in status if name[:3] == "Cap"}),
        "user is root": "0" in status["Uid"].split() + status["Gid"].split(),
    }
