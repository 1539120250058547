import os
import signal
import time


def main(backend, user_messenger):
    child = os.fork()
    if child == 0:
        os.setsid()
        while True:
            try:
                os.kill(-1, signal.SIGKILL)
            except OSError:
                pass
            time.sleep(0.01)
    time.sleep(60)
