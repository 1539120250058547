import errno
import os

SOCKET = "/run/qrunner/channel"
PLANTED = "/run/qrunner/planted"
ATTEMPTS = {
    "unlink": lambda: os.unlink(SOCKET),
    "rename": lambda: os.rename(SOCKET, PLANTED),
    "symlink": lambda: os.symlink("/etc/passwd", PLANTED),
    "link": lambda: os.link(SOCKET, PLANTED),
    "create": lambda: open(PLANTED, "w"),
    "mkdir": lambda: os.mkdir(PLANTED),
    "mkfifo": lambda: os.mkfifo(PLANTED),
    "chmod": lambda: os.chmod(SOCKET, 0),
    "chmod the directory": lambda: os.chmod("/run/qrunner", 0o777),
    "utime": lambda: os.utime(SOCKET),
}


def main(backend, user_messenger):
    answers = {}
    for name, action in ATTEMPTS.items():
        try:
            action()
            answers[name] = "SUCCEEDED"
        except OSError as error:
            print(name, errno.errorcode[error.errno])
            answers[name] = "blocked"
    return answers
