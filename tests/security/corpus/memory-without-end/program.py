import mmap
import os
import time

SIZE = 16 << 20


def heap():
    kept = []
    while True:
        kept.append(b"x" * SIZE)


def mapping():
    kept = []
    while True:
        kept.append(mmap.mmap(-1, SIZE))
        for page in range(0, SIZE, 4096):
            kept[-1][page] = 1


def children():
    for _ in range(20):
        if os.fork() == 0:
            kept = b"x" * (2 * SIZE)
            time.sleep(60)
            os._exit(len(kept))
    os.wait()  # one was killed, if not this process itself
    os._exit(1)


def files():
    for directory in ("/tmp", "/dev/shm"):
        with open(directory + "/fill", "wb", buffering=0) as file:
            try:
                while file.write(b"x" * 65536):
                    pass
            except OSError as error:
                print(error)
    heap()


def main(backend, user_messenger, how):
    globals()[how]()
