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


def bytes_without_end():
    with open("/tmp/bytes", "wb", buffering=0) as file:
        while True:
            file.write(b"x" * (1 << 20))


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
        bytes_without_end,
        sparse_file,
        write_to_the_root,
        execute_from_tmp,
        files_without_end,
        shared_files_without_end,
    )
    return {action.__name__: attempt(action) for action in actions}
