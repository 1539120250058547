import errno
import os
import subprocess


def attempt(action):
    try:
        action()
    except OSError as error:
        print(action.__name__, errno.errorcode.get(error.errno, error))
        return "blocked"
    return "SUCCEEDED"


def fill(path, size):
    with open(path, "wb", buffering=0) as file:
        for _ in range(size >> 20):
            if file.write(bytes(1 << 20)) < 1 << 20:
                raise OSError(errno.ENOSPC, "cut off")


def more_bytes_than_there_are():
    for name in ("bytes", "more"):  # one file alone would be larger than a file may be
        fill(f"/tmp/{name}", (32 + 1) << 20)


def more_shared_memory_than_there_is():
    try:
        fill("/dev/shm/bytes", (16 + 1) << 20)
    finally:
        os.unlink("/dev/shm/bytes")


def files_without_end():
    os.mkdir("/tmp/many")
    for number in range(5000):
        os.close(os.open(f"/tmp/many/{number}", os.O_CREAT))


def shared_files_without_end():
    for number in range(5000):
        os.close(os.open(f"/dev/shm/{number}", os.O_CREAT))


def sparse_file():
    with open("/tmp/sparse", "wb") as file:
        file.truncate(1 << 40)


def write_to_the_root():
    for directory in ("/", "/etc", "/usr/lib", "/var/tmp", "/run", "/program", "/opt/qrunner"):
        try:
            open(directory + "/planted", "w")
            return
        except OSError as error:
            last = error
    raise last


def execute_from_tmp():
    os.unlink("/tmp/bytes")
    with open("/tmp/run", "w") as file:
        file.write("#!/bin/sh\nexit 0\n")
    os.chmod("/tmp/run", 0o755)
    subprocess.run(["/tmp/run"], check=True)


def main(backend, user_messenger):
    actions = (
        more_bytes_than_there_are,
        more_shared_memory_than_there_is,
        sparse_file,
        write_to_the_root,
        execute_from_tmp,
        files_without_end,
        shared_files_without_end,
    )
    return {action.__name__: attempt(action) for action in actions}
