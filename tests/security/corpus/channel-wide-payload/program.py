import contextlib
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


def main(backend, user_messenger, results=1):
    channel, _ = descriptors()
    for body in (
        b"[" + b"{}," * 300_000 + b"0]",
        b"{" + b",".join(b'"%d":0' % number for number in range(90_000)) + b"}",
    ):
        data = b'{"type":"message","job":0,"body":' + body + b"}\n"
        while data:
            data = data[os.write(channel, data) :]
    result = b'{"type":"result","job":0,"messages":2,"done":true,"value":"sent"}\n'
    # In one piece, so that the host reads it so.
    os.write(descriptors()[1], result * results)
