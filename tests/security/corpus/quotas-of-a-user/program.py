import ctypes
import fcntl
import os
import signal
import time

LIBC = ctypes.CDLL(None, use_errno=True)
MANY = 4096
PIPE_BYTES = 1 << 20
MOST_PIPE_BYTES = 64 << 20
kept = []


def timers():
    made = ctypes.c_void_p()
    return next((n for n in range(MANY) if LIBC.timer_create(1, None, ctypes.byref(made))), MANY)


def waiting_signals():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGRTMIN})
    value = ctypes.c_void_p()
    me, number = os.getpid(), int(signal.SIGRTMIN)
    return next((n for n in range(MANY) if LIBC.sigqueue(me, number, value)), MANY)


def pipe_bytes():
    total = 0
    try:
        while total <= MOST_PIPE_BYTES:
            kept.extend(os.pipe())
            total += fcntl.fcntl(kept[-1], fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    except OSError as error:
        print("pipes", error)
    return total


def queues():
    return next((n for n in range(64) if LIBC.mq_open(b"/%d" % n, 0o102, 0o600, None) < 0), 64)


def watches():
    return next((n for n in range(64) if LIBC.inotify_init1(0) < 0), 64)


def main(backend, user_messenger, seconds=0):
    taken = {
        each.__name__: each() for each in (timers, waiting_signals, pipe_bytes, queues, watches)
    }
    print(taken)
    user_messenger.publish("taken")
    time.sleep(seconds)
    return {
        "timers and signals": taken["timers"] + taken["waiting_signals"] > 1024,
        "pages of pipes": taken["pipe_bytes"] > MOST_PIPE_BYTES,
        "queues": taken["queues"] > 0,
        "watches": taken["watches"] > 0,
    }
