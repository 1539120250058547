import contextlib
import json
import os
import stat


def descriptors():
    """Find the private ones: the message channel, a socket, and the result stream, a pipe."""
    channel = results = None
    for number in sorted(int(each) for each in os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):
            mode = os.fstat(number).st_mode
            if number > 2 and stat.S_ISSOCK(mode) and channel is None:
                channel = number
            if number > 2 and stat.S_ISFIFO(mode) and results is None:
                results = number
    # Without a socket (the stdio carrier) messages go to the result stream as well.
    return (results if channel is None else channel), results


def main(backend, user_messenger, size):
    channel, _ = descriptors()
    body = json.dumps("x" * size).encode()
    burst = b'{"type":"message","job":0,"body":' + body + b"}\n"
    burst *= max(1, 65536 // len(burst))
    while True:
        os.write(channel, burst)
