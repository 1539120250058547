import array
import contextlib
import errno
import os
import socket
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


def main(backend, user_messenger):
    channel, _ = descriptors()
    if not stat.S_ISSOCK(os.fstat(channel).st_mode):
        return {"sendmsg": "blocked"}  # the stdio carrier has no socket at all
    rights = array.array("i", [0] * 200)
    with socket.socket(fileno=os.dup(channel)) as connection:
        try:
            connection.sendmsg([b" "], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        except OSError as error:
            print(errno.errorcode[error.errno])
            return {"sendmsg": "blocked"}
    return {"sendmsg": "SUCCEEDED"}
