import errno
import os
import socket


def main(backend, user_messenger):
    answers = {}
    kinds = {
        "files": lambda: os.open("/dev/null", 0),
        "pipes": os.pipe,
        "sockets": socket.socketpair,
    }
    for kind, open_one in kinds.items():
        if (child := os.fork()) == 0:
            kept = []
            try:
                while True:
                    kept.append(open_one())
            except OSError as error:
                os._exit(0 if error.errno == errno.EMFILE and len(kept) < 1024 else 1)
        answers[kind] = "limited" if os.waitpid(child, 0)[1] == 0 else "UNLIMITED"
    return answers
