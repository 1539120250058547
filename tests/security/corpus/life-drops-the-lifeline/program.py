import os
import sys


def main(backend, user_messenger):
    rest = os.read(0, 1000)
    os.close(0)
    reopened = (
        os.open("/dev/stdin" if os.path.exists("/dev/stdin") else "/dev/null", os.O_RDONLY)
        if os.path.exists("/proc/self/fd/0")
        else os.open("/dev/null", os.O_RDONLY)
    )
    return {"read": rest.decode(), "stdin": os.readlink("/proc/self/fd/0"), "number": reopened}
