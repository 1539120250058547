import ctypes
import mmap
import os
import threading
import time

# mov eax, 20 (getpid, or 0x66: socketcall); int 0x80; ret
INT80 = bytes.fromhex("b814000000cd80c3")
X32_GETPID = 0x40000000 + 39


def by_int80():
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(INT80)
    address = ctypes.addressof(ctypes.c_char.from_buffer(code))
    return ctypes.CFUNCTYPE(ctypes.c_int)(address)()


def by_x32():
    return ctypes.CDLL(None).syscall(X32_GETPID)


def in_a_child(action):
    child = os.fork()
    if child == 0:
        os._exit(0 if action() > 0 else 1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(action.__name__, code)
    return "SUCCEEDED" if code == 0 else "blocked"


def main(backend, user_messenger, here):
    if os.uname().machine != "x86_64":
        return {"int 0x80": "blocked", "x32": "blocked"}  # these doors are this architecture's
    if here:
        threading.Thread(target=time.sleep, args=(1,)).start()
        by_int80()
    return {"int 0x80": in_a_child(by_int80), "x32": in_a_child(by_x32)}
