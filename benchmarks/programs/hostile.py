"""Everything at once and without end: a fork bomb, an output flood, a message flood, a memory hog."""

import contextlib
import os
import threading
import time


def flood_output():
    while True:
        os.write(1, b"y" * 65536)


def flood_messages(user_messenger):
    with contextlib.suppress(Exception):  # its own limit; the rest goes on
        while True:
            user_messenger.publish({"flood": "x" * 500})


def hog_memory():
    kept = []
    while True:
        kept.append(bytearray(16 << 20))
        time.sleep(0.01)


def bomb():
    while True:
        with contextlib.suppress(OSError):
            os.fork()


def main(backend, user_messenger):
    for work in (flood_output, hog_memory, bomb):
        if os.fork() == 0:
            work()
    threading.Thread(target=flood_messages, args=[user_messenger], daemon=True).start()
    time.sleep(3600)
