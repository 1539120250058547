"""Does what its inputs say: publishes, prints, waits, fails, and returns a value of theirs."""

import time


def main(backend, user_messenger, messages=(), result=None, lines=(), seconds=0, fail=""):
    for each in lines:
        print(each)
    for each in messages:
        user_messenger.publish(each)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.01)
    if fail:
        raise ValueError(fail)
    return result
