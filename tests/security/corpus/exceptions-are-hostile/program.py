import os


class Endless(Exception):
    def __str__(self):
        while True:
            pass


class Raising(Exception):
    def __str__(self):
        raise SystemExit(0)

    __repr__ = __str__


class Leaving(Exception):
    def __str__(self):
        os._exit(0)


def chain():
    error = ValueError("the last")
    for _ in range(5000):
        outer = ValueError("x")
        outer.__cause__, error = error, outer
    return error


HOWS = {
    "huge": lambda: ValueError("x" * 50_000_000),
    "endless": Endless,
    "raising": Raising,
    "leaving": Leaving,
    "chain": chain,
    "name": lambda: type("\x1b[2J" * 1000, (Exception,), {})("::error::"),
}


def main(backend, user_messenger, how):
    raise HOWS[how]()
