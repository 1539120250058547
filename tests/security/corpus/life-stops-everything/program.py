import os
import signal


def main(backend, user_messenger):
    os.kill(1, signal.SIGSTOP)
    os.kill(1, signal.SIGTSTP)
    if os.fork() == 0:
        signal.pause()
    os.kill(-1, signal.SIGSTOP)
    os.kill(os.getpid(), signal.SIGSTOP)
