"""Make system calls by number, each in a child of its own, and say which error came back."""

import ctypes
import errno
import os


def main(backend, user_messenger, calls):
    return {name: answer(*call) for name, call in calls.items()}


def answer(number, *arguments):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        words = [ctypes.c_ulong(each) for each in arguments]
        returned = libc.syscall(ctypes.c_long(number), *words)
        word = "allowed" if returned >= 0 else errno.errorcode.get(ctypes.get_errno(), "?")
        if returned == 0 and number in (56, 220):
            os._exit(0)  # it was a clone, and this is the new one
        os.write(writer, word.encode())
        os._exit(0)
    os.close(writer)
    _, status = os.waitpid(child, 0)
    word = os.read(reader, 100).decode()
    os.close(reader)
    return word or f"signal {os.WTERMSIG(status)}"
