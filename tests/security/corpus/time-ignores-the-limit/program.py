import re
import signal
import time

SLEEP_AT_IMPORT = False


def ignore_signals():
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    while True:
        pass


def hold_the_lock():
    re.match("(a*)*b", "a" * 60)


def never_finish():
    while True:
        try:
            time.sleep(60)
        finally:
            continue


def stop():
    import os

    os.kill(os.getpid(), signal.SIGSTOP)


def main(backend, user_messenger, how):
    globals()[how]()
