import errno
import os
import socket
import struct

OF_A_PROCESS = ("root", "cwd", "exe", "fd", "environ", "mem", "maps", "ns/user", "ns/mnt", "cgroup")
PUBLIC = {"cgroup"}
MOST = 1 << 17


def attempt(action, *arguments):
    try:
        action(*arguments)
    except OSError as error:
        print(action.__name__, *arguments, errno.errorcode.get(error.errno, error))
        return "blocked"
    return "SUCCEEDED"


def exists(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def is_a_thread_of_mine(pid):
    return os.path.exists(f"/proc/self/task/{pid}")


def look_into(pid, name):
    path = f"/proc/{pid}/{name}"
    if name == "fd":
        os.listdir(path)
    elif name == "mem":
        os.close(os.open(path, os.O_RDWR))
    elif name in {"root", "cwd", "exe"} or name.startswith("ns/"):
        os.readlink(path)
    else:
        with open(path, "rb") as file:
            file.read(1)


def connect_again():
    with socket.socket(socket.AF_UNIX) as again:
        again.connect("/run/qrunner/channel")


def connect_to_names():
    with open("/proc/net/unix") as file:
        lines = [line.split() for line in file.readlines()[1:]]
    for name in {line[7] for line in lines if len(line) > 7}:
        with socket.socket(socket.AF_UNIX) as other:
            if attempt(other.connect, name.replace("@", "\0", 1)) == "SUCCEEDED":
                return
    raise OSError(errno.ENOENT, "nobody listens")


def say_who_i_am_not():
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        who = struct.pack("3i", 1, 0, 0)
        one.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, who)])


def main(backend, user_messenger):
    others = [each for each in range(2, MOST) if exists(each) and not is_a_thread_of_mine(each)]
    answers = {
        f"{name} of the first process": attempt(look_into, 1, name)
        for name in OF_A_PROCESS
        if name not in PUBLIC
    }
    for action in (connect_again, connect_to_names, say_who_i_am_not):
        answers[action.__name__] = attempt(action)
    seen = {name: answer for name, answer in answers.items() if answer != "blocked"}
    return {**seen, "others": len(others)}
