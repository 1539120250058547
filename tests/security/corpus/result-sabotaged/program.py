import atexit
import json
import os
import sys
import threading
import time


def forbid(*_, **__):
    raise RuntimeError("broken")


def break_json():
    json.dumps = json.JSONEncoder.encode = json.loads = forbid


def break_os():
    os.write = os.dup = os.getpid = forbid


def break_streams():
    sys.stdout = sys.stderr = None


def exit_in_a_thread():
    threading.Thread(target=sys.exit).start()


def never_leave():
    atexit.register(time.sleep, 60)
    threading.Thread(target=time.sleep, args=(60,)).start()


def main(backend, user_messenger, how):
    globals()[how]()
    return "survived"
