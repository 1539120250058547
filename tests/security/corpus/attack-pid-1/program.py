import ctypes
import errno
import os
import resource
import signal
import time


def attempt(action):
    try:
        action()
    except OSError as error:
        print(action.__name__, errno.errorcode.get(error.errno, error))
        return "blocked"
    return "SUCCEEDED"


LIBC = ctypes.CDLL(None, use_errno=True)


def read_memory():
    os.read(os.open("/proc/1/mem", os.O_RDONLY), 1)


def write_memory():
    os.open("/proc/1/mem", os.O_RDWR)


def read_environment():
    open("/proc/1/environ").read(1)


def take_descriptors():
    os.listdir("/proc/1/fd")


def hold_the_lifeline():
    os.write(os.open("/proc/1/fd/0", os.O_WRONLY), b"still here")


def enter_the_root():
    os.listdir("/proc/1/root/")


def look_at_its_map():
    open("/proc/1/maps").read(1)


def trace():
    if LIBC.ptrace(16, 1, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "refused")


def write_by_call():
    class Vector(ctypes.Structure):
        _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]

    here = Vector(ctypes.cast(ctypes.create_string_buffer(8), ctypes.c_void_p), 8)
    if LIBC.process_vm_writev(1, ctypes.byref(here), 1, ctypes.byref(here), 1, 0) < 0:
        raise OSError(ctypes.get_errno(), "refused")


def change_its_limits():
    resource.prlimit(1, resource.RLIMIT_CPU, (3600, 3600))


def main(backend, user_messenger, signals):
    actions = (
        read_memory,
        write_memory,
        read_environment,
        take_descriptors,
        hold_the_lifeline,
        enter_the_root,
        look_at_its_map,
        trace,
        write_by_call,
        change_its_limits,
    )
    if signals:
        for number in signal.valid_signals():
            os.kill(1, number)
        time.sleep(1)  # gVisor delivers while the sender goes on
        os.waitpid(os.fork() or os._exit(0), 0)
        os.kill(1, 0)
        return "alive"
    return {action.__name__: attempt(action) for action in actions}
