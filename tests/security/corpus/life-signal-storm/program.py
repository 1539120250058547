import os
import signal
import time

STORM = (
    signal.SIGINT,
    signal.SIGCHLD,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGRTMIN,
)


def main(backend, user_messenger, seconds):
    until = time.monotonic() + seconds
    children = []
    for _ in range(3):
        children.append(os.fork())
        if children[-1] == 0:
            while True:
                for number in STORM:
                    try:
                        os.kill(1, number)
                    except OSError:
                        pass
    while time.monotonic() < until:
        time.sleep(0.05)
    for child in children:
        os.kill(child, signal.SIGKILL)
    return "PID 1 stands"
