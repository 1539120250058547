import contextlib
import os
import stat
import time

RESULT = b'{"type":"result","job":0,"messages":0,"done":true,"value":"%s"}\n'


def results():
    """Find the private result stream, the first pipe above the standard streams."""
    for number in sorted(int(each) for each in os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):
            if number > 2 and stat.S_ISFIFO(os.fstat(number).st_mode):
                return number


def main(backend, user_messenger, stream, count=10_000):
    descriptor = 2 if stream == "log" else results()
    data = b"x" * count
    for each in data if stream == "log" else RESULT % data:
        os.write(descriptor, bytes([each]))
        time.sleep(0.0001)
    return "x" * count
