import ctypes
import os
import threading
import time


def main(backend, user_messenger):
    threading.Thread(target=time.sleep, args=(15,)).start()
    ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)
